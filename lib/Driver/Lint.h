// What is doubtful about a model, for `moec lint`. Internal to Driver.
#pragma once

#include "moec/Driver/Model.h"
#include "moec/Driver/Tensor.h"

#include <string>
#include <vector>

namespace moec {

struct Finding {
  enum Severity { error, warning, note };
  Severity severity;
  std::string check; // "unsupported-operator", "tied-experts", ...; listed in docs/commands.md
  Message message;
};
using Findings = std::vector<Finding>;

/// Adds what was found about `op`.
void addFinding(Findings &findings, Finding::Severity severity, llvm::StringRef check,
                mlir::Operation *op, const llvm::Twine &text);

/// What the graph shows: operators that cannot be compiled, layers that were not raised, weights
/// that nothing reads, logits that are normalised twice. `model` has been optimised.
void lintGraph(const Model &model, Findings &findings);

/// What the weights show: numbers that are not finite, experts with equal parameters, router
/// columns that are equal or can never win. Reads every weight once, a slab at a time.
llvm::Error lintWeights(const Model &model, Findings &findings);

/// What the inputs show: experts that no token chooses, and tokens whose last chosen expert and first
/// one left out score alike. Compiles `model` with the scores of its layers as outputs, and runs it.
llvm::Error lintRouting(Model &model, const std::vector<TestSet> &sets, Findings &findings);

} // namespace moec
