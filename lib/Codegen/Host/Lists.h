// Lists of numbers as the runtime's operators take them.
#pragma once
#include "Emitter.h"

namespace moec::host {

/// Constants in the program's data.
template <class T>
llvm::Value *constantList(Emitter &e, const std::vector<T> &values) {
  return e.constantData({reinterpret_cast<const char *>(values.data()), values.size() * sizeof(T)});
}

/// An int64_t list on the stack.
inline llvm::Value *stackList(Emitter &e, const Values &values) {
  llvm::Value *list = e.stackSlot(e.b.getInt64Ty(), std::max<size_t>(values.size(), 1));
  for (auto [i, v] : llvm::enumerate(values))
    e.b.CreateStore(v, e.b.CreateConstInBoundsGEP1_64(e.b.getInt64Ty(), list, i));
  return list;
}

/// Element i of a list on the stack that the runtime has filled.
inline llvm::Value *listElement(Emitter &e, llvm::Value *list, uint64_t i) {
  return e.b.CreateLoad(e.b.getInt64Ty(),
                        e.b.CreateConstInBoundsGEP1_64(e.b.getInt64Ty(), list, i));
}

/// Which of `names` the string attribute is; a failure is recorded.
inline mlir::FailureOr<int64_t> choiceAttr(Emitter &e, mlir::Operation *op, llvm::StringRef name,
                                           llvm::ArrayRef<const char *> names) {
  std::string given = stringAttr(op, name, names.front());
  for (auto [i, n] : llvm::enumerate(names))
    if (given == n)
      return static_cast<int64_t>(i);
  return e.error(name + " = " + given);
}

} // namespace moec::host
