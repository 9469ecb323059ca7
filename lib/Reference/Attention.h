// Scaled dot-product attention and rotary embedding, as the standard's and ONNX Runtime's ops
// share them.
#pragma once
#include "Tensor.h"
#include <optional>

namespace moec::reference {

/// What of its scores attention returns besides its result.
enum class ScoresOutput { none, raw, capped, biased, probabilities };

struct AttentionInputs {
  Tensor q, k, v; // [B, Hq, S, D], [B, Hkv, T, D], [B, Hkv, T, Dv]
  /// Added to the scores, broadcast to [B, Hq, S, T]; -inf disables a key.
  std::optional<Tensor> bias;
  double scale = 1, softcap = 0;
  bool causal = false;
  int64_t left = -1, right = -1;  // window, -1: open
  std::vector<int64_t> offsets;   // for each batch element, keys before the first query
  std::vector<int64_t> validKeys; // for each batch element; empty: all
  ScoresOutput scores = ScoresOutput::none;
};
struct AttentionResult {
  Tensor y;                     // [B, Hq, S, Dv]
  std::optional<Tensor> scores; // [B, Hq, S, T]
};
/// A query without keys gives zeros.
AttentionResult attend(const AttentionInputs &in);

/// [B, S, H * D] <-> [B, H, S, D].
Tensor splitHeads(const Tensor &x, int64_t heads);
Tensor joinHeads(const Tensor &x);

/// Rotates x [B, H, S, D] by cos and sin [B or 1, S, dim / 2]: the first `dim` of D, in halves or,
/// interleaved, in neighbours. dim = 0: all of D.
Tensor rotate(const Tensor &x, const Tensor &cos, const Tensor &sin, bool interleaved, int64_t dim);
/// Rows of a cache [positions, n] for positions [B, S].
Tensor cacheRows(const Tensor &cache, const Tensor &positions);

} // namespace moec::reference
