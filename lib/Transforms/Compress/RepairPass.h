// What the repair passes share in how they are told and what they say.
#pragma once

#include "RepairSamples.h"

namespace moec::compress {

/// On a moe.experts whose output was corrected behind it: by what.
inline constexpr llvm::StringLiteral kRepaired = "moe.repaired";

/// The values of a list option, or what it is without.
inline llvm::SmallVector<double> valuesOr(llvm::ArrayRef<double> given,
                                          llvm::ArrayRef<double> otherwise) {
  return llvm::SmallVector<double>(given.empty() ? otherwise : given);
}

/// Errors |target - output| / |target| of a layer over the tokens fitted and held out.
struct Errors {
  double fitted = 0, held = 0;
  bool anyHeld = false;
  /// Whether this is better than `other` where it counts.
  bool operator<(const Errors &other) const {
    return anyHeld ? held < other.held : fitted < other.fitted;
  }
};

/// Of what the output lacks, [tokens, hidden].
Errors errorsOf(const LayerSamples &samples, const Rows &residual);

/// "error 0.2000 -> 0.1500, held out 0.2000 -> 0.1600 (819 of 8192 tokens)".
std::string changeText(const LayerSamples &samples, const Errors &before, const Errors &after);

/// The layer's output on the samples, routed so, subtracted from what it should be; rows times the
/// samples' scale.
llvm::Expected<Rows> residualOf(RepairLayer &at, const Picks &picks);

/// For remarks: 0.1234, 1.2e-05.
std::string numberText(double value);

} // namespace moec::compress
