// Linear attention as a Scan over time, for the operators that compute it.
#pragma once

#include "Contrib.h"

namespace moec::prepare {

// One step for every time: the state S [B, h, dk, dv] and rows of time t.
//   S' = decay S + k (beta (v - (decay S)^T k))^T,  y = S'^T q scale
struct Recurrence {
  bool gated = true, delta = true;
  double scale = 1.0;
  // [B, T, h, ..] in f32, heads repeated: q and k [.., dk], v [.., dv]; the logarithm of the decay
  // [.., 1 or dk] and beta [.., 1] where the rule has them.
  mlir::Value q, k, v, decay, beta;
  mlir::Value state;
};

// Results: all y [B, T, h, dv] and the last state.
std::pair<mlir::Value, mlir::Value> scanOverTime(OnnxBuilder &b, const Recurrence &r);
// [B, T, n, d] with each head `times` times, one after the other.
mlir::Value repeatedHeads(OnnxBuilder &b, mlir::Value x, int64_t times);
// The attribute update_rule.
bool readUpdateRule(const Custom &c, Recurrence &r);

bool gatedDeltaNet(const Custom &c, OnnxBuilder &b);

} // namespace moec::prepare
