// Pictures of which experts a text used. Internal to Driver.
#pragma once

#include "moec/Driver/Tensor.h"

#include "llvm/Support/raw_ostream.h"

#include <map>
#include <string>
#include <vector>

namespace moec {

/// Counts the expert ids of each layer over calls, and remembers which token chose which.
class RoutingRecord {
public:
  /// Adds the outputs whose names begin with `routingOutputPrefix`: ids [T, K], -1 is empty.
  void add(const std::vector<Tensor> &outputs);
  bool empty() const { return layers.empty(); }

  /// One bar of shades a layer, darker for busier experts.
  void printText(llvm::raw_ostream &os) const;
  /// A page with one grid a layer: tokens across, experts down. `tokens` are their texts.
  void printHtml(llvm::raw_ostream &os, const std::vector<std::string> &tokens) const;

private:
  struct Layer {
    std::vector<int64_t> counts;               // per expert
    std::vector<std::vector<int64_t>> choices; // per token
  };
  std::map<std::string, Layer> layers;
};

} // namespace moec
