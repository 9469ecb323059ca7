// What the host program asks of the packed weights, the kernels and its caller: plain data that
// Host fills and Link, CPU and Driver read.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace moec {

/// A packed weight that the program reads as ctx->weights[i], i = its place in the list.
///
/// Layouts (P = 16 columns a panel, the last panel padded with zeros; row-major, outermost first):
///   plain               shape as it is
///   panel16             logical [K, N]    -> [ceil(N/16)][K][16]
///   panel16_nk          logical [N, K]    -> [ceil(N/16)][K][16]
///   experts_panel16_nk  logical [E, N, K] -> [E][ceil(N/16)][K][16]
///   experts_gate_up16   gate [E, I, H] and up [E, I, H] -> [E][ceil(I/16)][H][32]: 16 gate columns,
///                       then the 16 up columns of the same panel
struct WeightEntry {
  std::string name;           ///< symbol of the moe.weight.bind
  std::string layout;         ///< one of the above
  std::string dtype;          ///< stored element type: f32, f16, bf16, f64, i1, i8, ..., ui64
  std::vector<int64_t> shape; ///< logical shape before packing
  std::string name2;          ///< second bind of a joined layout (up beside gate), else empty
};

/// One input or output of the program.
struct SignatureEntry {
  std::string name;
  std::string dtype;             ///< MLIR spelling of the element type (f32, i64, ui8, i1, ...)
  std::vector<std::string> dims; ///< a number, a symbol, or "?" for each dimension
};

/// A routed layer whose logits a session may change.
struct HookEntry {
  std::string layer; ///< no two are equal
  int64_t experts, k; ///< what its router chooses from, and how many
};

/// Everything but code.
struct Program {
  std::vector<WeightEntry> weights;
  std::vector<std::string> kernels; ///< kernel spec text of each slot
  std::vector<SignatureEntry> inputs, outputs;
  std::vector<HookEntry> hooks; ///< by number
};

} // namespace moec
