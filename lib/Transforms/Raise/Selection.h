// What a top-k over tensor code selects: the kinds of moe.select that are
// spelled out in front of it.
#pragma once

#include "Analysis.h"

namespace moec::raise {

// A selection among `groups` equal groups of neighbouring experts, of which the
// `groupK` best take part.
struct GroupChoice {
  mlir::Value scores; // [.., experts], without the mask
  int64_t groups = 1, groupK = 1;
  bool top2 = false; // a group's score is the sum of its two largest
};

// `scores`, which a top-k reads, are scores of experts with those outside of the
// best groups masked off. Nothing when no such mask is found or when it may
// change the choice inside the kept groups.
std::optional<GroupChoice> matchGroups(mlir::Value scores);

// The number that a tensor holds everywhere.
std::optional<double> everywhere(mlir::Value v);
// Through what keeps the elements and their order.
mlir::Value sameElements(mlir::Value v);

// The moe.select of a top-k or argmax: ids [T, k] i32 and weights [T, k].
std::pair<mlir::Value, mlir::Value> chosenExperts(OnnxBuilder &b,
                                                  const Routing &routing);
// What `op`, a top-k or argmax, chose ([T, k]) with the axes of its scores, as `type`.
mlir::Value likeScores(OnnxBuilder &b, mlir::Operation *op, mlir::Value rows,
                       mlir::RankedTensorType type);
// The ids of an external routing as [T, k] i32; -1 where they name no expert.
mlir::Value givenIds(OnnxBuilder &b, const Routing &routing);
// -1 for ids from `experts` on.
mlir::Value realIds(OnnxBuilder &b, mlir::Value ids, int64_t experts);
// Tokens times the sum of the weights of ids from `experts` on.
mlir::Value tokensOf(OnnxBuilder &b, mlir::Value tokens, mlir::Value ids,
                     mlir::Value weights, int64_t experts);
// The same for each token of x [B, S, ..], where the routing has ids [B].
mlir::Value idsOfSequences(OnnxBuilder &b, const Routing &routing, mlir::Value x);

} // namespace moec::raise
