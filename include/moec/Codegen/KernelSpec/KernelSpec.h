// Codegen/KernelSpec: the whole contract between Host (which asks for kernels) and the kernel
// generators (which make them).
//
// A spec says what a kernel computes, never how large its operands are: rows, columns, experts and
// tokens are run-time arguments, so a few specs serve every model. Two specs are the same kernel
// exactly when their texts are equal. All functions are thread safe; nothing here keeps state.
#pragma once
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moec {

/// What a kernel does. The call that runs it is in runtime/include/moert/api_functions.def.
enum class KernelOp {
  Gemm,      ///< gemm, and the down projection of experts: packed weights times f32 activations
  Bgemm,     ///< bgemm: f32 run-time operands
  ExpertsUp, ///< first half of an expert: act(gate x) * (up x + up_offset), or act(up x)
  Route,     ///< route: logits -> expert ids and mixing weights
  Attention, ///< attention: softmax(scale q k^T + mask) v
};

/// Element type of packed weights. Activations and accumulation are f32.
enum class WeightType { F32, F16, BF16 };

/// How packed weights are quantised. Code generators refuse what they cannot make ("unsupported").
enum class Quantisation { None, Int8, Int4 };

/// Names as in #moe.ffn: identity relu relu2 silu swish gelu gelu_tanh tanh sigmoid.
enum class Activation { Identity, Relu, Relu2, Silu, Swish, Gelu, GeluTanh, Tanh, Sigmoid };

/// Names as in #moe.router.
enum class RouterScore { Softmax, Sigmoid, Identity };
enum class RouterRenorm { None, Sum, Softmax, Sigmoid };

/// One kernel. Fields that the operation does not use keep their defaults (the text leaves them
/// out, and parsing refuses them).
struct KernelSpec {
  KernelOp op = KernelOp::Gemm;

  // Gemm, ExpertsUp. The packed layout follows from them (see layout()).
  WeightType weight = WeightType::F32;
  Quantisation quant = Quantisation::None;

  // ExpertsUp.
  bool gated = false; ///< gate and up, else up only
  Activation activation = Activation::Identity;
  float alpha = 1.0f;         ///< swish only: x * sigmoid(alpha x)
  std::optional<float> limit; ///< gate = min(gate, limit), up = clamp(up, -limit, limit), after bias
  float upOffset = 0.0f;      ///< gated only

  // Route: scores of all experts; the k experts of the largest scores + bias are taken (equal: the
  // lower id); their scores become weights through renorm, then are multiplied by scale.
  //   Sum: w / max(sum + epsilon, minimum). Softmax, Sigmoid: of the chosen scores.
  RouterScore score = RouterScore::Softmax;
  RouterRenorm renorm = RouterRenorm::None;
  float epsilon = 0.0f;
  float minimum = 0.0f;
  float scale = 1.0f;

  bool operator==(const KernelSpec &) const = default;

  /// One line, canonical: "experts_up weight=f16 gated=1 activation=silu ...".
  std::string text() const;
  /// 16 hexadecimal digits of text().
  std::string hash() const;
  /// Layout of Program.h that the kernel's packed weights have; empty without weights.
  llvm::StringRef layout() const;
  /// Null, or why the fields contradict each other (a number that is not finite, for example).
  std::string check() const;
};

/// Reads text(); accepts the fields in any order. Errors quote the text.
llvm::Expected<KernelSpec> parseKernelSpec(llvm::StringRef text);

/// The names that attributes and texts use; nothing for an unknown (unsupported) one.
std::optional<WeightType> parseWeightType(llvm::StringRef name); ///< f32, f16, bf16
std::optional<Activation> parseActivation(llvm::StringRef name);
std::optional<RouterScore> parseRouterScore(llvm::StringRef name);
std::optional<RouterRenorm> parseRouterRenorm(llvm::StringRef name);

/// C = A W (+ bias: a run-time pointer, null for none).
KernelSpec gemmSpec(WeightType weight);
/// C = A B of run-time f32 operands with any strides.
KernelSpec bgemmSpec();
/// Biases are run-time pointers (null for none).
KernelSpec expertsUpSpec(WeightType weight, bool gated, Activation activation, float alpha = 1.0f,
                         std::optional<float> limit = std::nullopt, float upOffset = 0.0f);
/// The down projection: a gemm on each expert's slab; the runtime adds the slots up.
KernelSpec expertsDownSpec(WeightType weight);
KernelSpec routeSpec(RouterScore score, RouterRenorm renorm, float epsilon = 0.0f,
                     float minimum = 0.0f, float scale = 1.0f);
KernelSpec attentionSpec();

/// Compiled kernels on disk: one file an entry, written to a temporary file and renamed, so that
/// readers and other processes never see a part of one. A damaged entry counts as missing.
class KernelCache {
public:
  /// Empty: $XDG_CACHE_HOME/moec, else ~/.cache/moec, else nothing is cached. "-": nothing.
  explicit KernelCache(llvm::StringRef folder);

  /// The object stored for (spec, isa) by this version of the generator.
  std::optional<std::string> load(const KernelSpec &spec, llvm::StringRef isa,
                                  llvm::StringRef generatorVersion) const;
  /// A cache that cannot be written is no error: the entry is just not kept.
  void store(const KernelSpec &spec, llvm::StringRef isa, llvm::StringRef generatorVersion,
             llvm::StringRef object) const;

  llvm::StringRef folder() const { return root; }

private:
  std::string root; // empty: off
};

} // namespace moec
