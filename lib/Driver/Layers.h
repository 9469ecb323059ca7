// What a model holds, for `inspect` and compile reports. Internal to Driver.
#pragma once

#include "moec/Driver/Model.h"

#include <nlohmann/json_fwd.hpp>

#include <map>
#include <optional>

namespace moec {

struct RouterInfo {
  std::string node, kind;               // kind: "route" (fused), "select", or the op that gives ids
  std::string text;                     // the formula in words
  std::string score, renorm;            // empty when the formula is not fused
  int64_t k = 0, groups = 1, groupK = 1;
  double epsilon = 0, minimum = 0, scale = 1;
  bool bias = false; // added to the scores for the selection
};

/// The formula behind the ids and weights of a layer; null ids: dense weights.
std::string routerText(mlir::Value ids, mlir::Value weights);

/// One moe.experts op and its bank.
struct LayerInfo {
  std::string node, bank, body; // body: "ffn" or "region"
  std::string pattern;          // how the exporter wrote it; empty when nobody knows
  int64_t experts = 0, hidden = 0, inter = 0, k = 0;
  std::string activation;
  bool gated = false;
  double alpha = 1, upOffset = 0;
  std::optional<double> limit;
  bool biases = false;
  uint64_t parameterBytes = 0; // of the bank, as the weights are bound
  std::optional<RouterInfo> router; // none: a shared expert that takes every token
};

struct ModelInfo {
  std::vector<LayerInfo> layers;
  std::vector<Message> notRaised;       // remarks that say which proof failed
  std::map<std::string, int64_t> operators; // of @main, by name with dialect
  int64_t weights = 0;
  uint64_t weightBytes = 0;
  Signature signature;
};

/// `model` has been optimised.
llvm::Expected<ModelInfo> describeModel(const Model &model);

/// The arrays `moe_layers` and `not_raised`, as both commands print them.
nlohmann::json layersToJson(const ModelInfo &info);
nlohmann::json notRaisedToJson(const ModelInfo &info);

} // namespace moec
