// The walk over blocks of ops: which are needed, where their tensors are, when these go.
#pragma once
#include "Emitter.h"
#include "mlir/IR/Block.h"
#include "llvm/ADT/DenseSet.h"

namespace moec::host {

class Walk {
public:
  /// Sets the emitter's `region`.
  explicit Walk(Emitter &emitter);
  Walk(const Walk &) = delete;

  /// To be called before a block's arguments are defined: counts the uses of its values.
  void prepare(mlir::Block &block);
  void define(mlir::Value value, Tensor tensor);
  /// The value has no tensor, for a reason that has been reported.
  void fail(mlir::Value value) { failed.insert(value); }
  /// Lowers all ops but the terminator, then calls `finish`, which may be null: several times where
  /// the block's ops depend on ranks that branches decide.
  void lower(mlir::Block &block, std::function<void()> finish);
  /// The tensor of an operand of `user`; nothing when it failed.
  std::optional<Tensor> take(mlir::Value operand, mlir::Operation *user);

private:
  Emitter &e;
  llvm::DenseMap<mlir::Value, Tensor> values;
  llvm::DenseMap<mlir::Value, unsigned> usesLeft; ///< by the ops of the value's own block
  llvm::DenseSet<mlir::Value> failed;
  llvm::DenseSet<mlir::Operation *> live;
  std::function<void()> finish; ///< of the block that may be forked
  mlir::Block *forkable = nullptr;
  bool forked = false; ///< the rest of that block is done
  unsigned forks = 0;  ///< around what is being lowered

  void lowerFrom(mlir::Block::iterator op);
  bool fork(mlir::Operation *op, std::vector<Ending> &paths);
  mlir::FailureOr<std::vector<Tensor>> region(mlir::Region &region, std::vector<Tensor> args);
  void lower(mlir::Operation *op);
  bool reportUnknown(mlir::Operation *op);
  void enterRegions(mlir::Operation *op);
  void leaveRegions(mlir::Operation *op);
};

} // namespace moec::host
