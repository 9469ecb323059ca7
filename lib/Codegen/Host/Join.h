// Where paths of moe_main meet: the end of an If, the head of a loop. The values of all paths take
// one form, whose parts are phis.
#pragma once
#include "Emitter.h"

namespace moec::host {

/// How a value is passed on.
struct Form {
  enum class Kind { none, integers, memory, sequence };
  Kind kind = Kind::none;
  DType type = DType::F32;
  size_t count = 0;           ///< of integers
  Values dims;                ///< integers and memory; null where the paths differ
  std::optional<size_t> rank; ///< a sequence's elements, as in Sequence
  bool mixed = false;
};

Form formOf(const Tensor &tensor);
/// Why two forms do not fit; others are of no use to their caller.
inline constexpr const char *kDifferentRanks = "of different ranks";
/// The form that both fit; false when there is none. `why` says what differs.
bool widen(Form &form, const Form &other, std::string &why);
bool same(const Form &a, const Form &b);

/// The tensor as `formOf` and `Leaving` expect it: computed, contiguous, of the sizes that `type`
/// knows.
Tensor settled(Emitter &e, Tensor tensor, mlir::Type type);

/// A value at the end of a path.
struct Leaving {
  Values parts;                                ///< one for each part of the form
  std::vector<std::shared_ptr<Buffer>> keeps;  ///< what it may point into and does not own
  std::vector<std::shared_ptr<Buffer>> passed; ///< owned by the parts from now on: see `release`

  /// Makes the parts owners of `passed`.
  void release();
};

/// Memory that only the tensor owns passes on; of an outer scope it is kept, with `inside`
/// otherwise copied (it belongs to the path).
Leaving leave(Emitter &e, const Form &form, const Tensor &tensor, bool inside);
/// The types of a form's parts.
std::vector<llvm::Type *> partTypes(Emitter &e, const Form &form);
/// The value where the paths meet.
Tensor arrive(Emitter &e, const Form &form, llvm::ArrayRef<llvm::Value *> parts,
              std::vector<std::shared_ptr<Buffer>> keeps);

/// A part of moe_main that can be taken back: new blocks from here on.
class Attempt {
public:
  explicit Attempt(Emitter &e);
  void undo();

private:
  Emitter &e;
  llvm::BasicBlock *at, *last;
  size_t numbers, weights, kernels;
};

/// for (i = 0; i < count; ++i) body(i), in a scope of its own.
void forEach(Emitter &e, llvm::Value *count, llvm::function_ref<void(llvm::Value *)> body);

} // namespace moec::host
