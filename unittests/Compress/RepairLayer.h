// One routed layer as IR over weights in a file, and profiles of it made of random tokens.
#pragma once

#include "../../lib/Transforms/Compress/ExpertMath.h"
#include "../Weights/Folder.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include <random>

namespace moec::test {

struct LayerOptions {
  int64_t experts = 6, hidden = 5, inter = 4;
  std::string body = "gated = true, activation = \"silu\"";
  std::string router = "score = softmax, k = 2, renorm = sum";
  bool biases = false, routerBias = false, half = false;
  bool gemm = false; ///< the router is a Gemm of the weight's rows, over reshaped tokens
  std::vector<int64_t> slabs, widths; ///< of experts; empty: their own, all
  std::vector<std::string> storage;   ///< empty: dense
  int64_t slabCount() const;
};

/// The module and its weights; weights are random numbers of the seed.
class TestLayer {
public:
  TestLayer(unsigned seed, const LayerOptions &options);
  /// Runs the layer on tokens by the reference interpreter.
  compress::Rows run(const compress::Rows &x);
  /// x times the router's weight.
  compress::Rows logits(const compress::Rows &x);
  /// Adds random numbers to the down weights in the file.
  void disturbDown(double scale);
  bool passes(const std::string &pipeline); ///< remarks and errors go to `said`
  std::string text();

  LayerOptions options;
  Folder folder;
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::vector<std::string> said;

private:
  size_t addWeight(const std::string &name, const std::vector<int64_t> &shape, double scale);
  void write();
  std::mt19937 random;
  std::string steps, file;
  size_t downAt = 0, downCount = 0;
};

compress::Rows randomRows(std::mt19937 &random, int64_t rows, int64_t columns);

/// A profile of a layer "bank" with these tokens, key i at label "a" or "b".
Profile profileOf(const compress::Rows &x, const compress::Rows &logits, const compress::Rows &y,
                  const compress::Picks &picks);

} // namespace moec::test
