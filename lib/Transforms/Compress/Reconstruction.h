// Which experts a layer misses least, by what it gives without them.
#pragma once

#include "RepairSamples.h"

namespace moec::compress {

/// Experts in the order in which they go, and by how much each raises the layer's error.
struct DropSequence {
  std::vector<int64_t> order;
  std::vector<double> rise; ///< of the relative error, see below; may be negative
};

/// Greedy form of the choice of Lu et al., "Not All Experts are Equal" (NAEE, arXiv:2402.14800),
/// which tries all sets of experts. The expert goes whose loss raises least
///   sum over tokens s |y' - y|^2 / sum over tokens s |y|^2,
/// y the original layer's output on tokens kept in the profile, y' the one of the experts that stay
/// when the router (its formula, on the kept logits) chooses among these only, and s how much a
/// token counts; and so on, `count` times, of `droppable` only. Ties: the higher id goes.
///
/// At most `source.tokens` tokens (0: all), evenly over the labels, and fewer where the outputs of
/// all experts would not fit `memory` bytes as f32. Of `source` the labels and the folder count,
/// too. Errors: no tokens in the profile, another router than moe.route or experts that are regions
/// (unsupported), weights that cannot be read.
llvm::Expected<DropSequence> dropByReconstruction(moe::RoutedLayer &layer, const Profile &profile,
                                                  RepairSource source,
                                                  llvm::ArrayRef<int64_t> droppable, int64_t count,
                                                  int64_t memory = int64_t(512) << 20);

} // namespace moec::compress
