// From tensors to a nest's plan, and from a plan to a call. Shared by NestPlan.cpp and Nest.cpp.
#pragma once
#include "Emitter.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include <map>

namespace moec::host {

/// Appends the expression of `source`, seen over the plan's loops, to the plan's body.
void addBody(Emitter &e, Plan &plan, const Tensor &source);
/// `view` (whose dims are the loops') becomes the next operand.
void addOperand(Emitter &e, Plan &plan, const Tensor &view, llvm::ArrayRef<bool> reduced = {});
/// Joins loops that all operands walk as one and drops loops of one iteration. The last `pinned`
/// loops are left alone.
void coalesce(Emitter &e, Plan &plan, size_t pinned = 0);
/// Turns backward walks into forward ones with Operand::reversed.
void normalise(Emitter &e, Plan &plan);

/// The MLIR function of a nest while it is written.
class NestWriter {
public:
  NestWriter(const Plan &plan, mlir::OpBuilder &b, mlir::Location loc)
      : plan(plan), b(b), loc(loc), scalars(b, loc) {}

  const Plan &plan;
  mlir::OpBuilder &b;
  mlir::Location loc;
  ScalarWriter scalars;

  mlir::FunctionType functionType();
  void bindArguments(mlir::Block &entry);
  mlir::Value index(int64_t value);
  mlir::Value size(size_t loop) { return sizes[loop]; }
  std::optional<int64_t> staticSize(size_t loop);
  /// The loops that an operand takes part in.
  std::vector<unsigned> loopsOf(unsigned operand, size_t from = 0);
  /// Operand as a memref over its loops from `from` on, at `offset` (null: none).
  mlir::Value memref(unsigned operand, size_t from = 0, mlir::Value offset = {});
  /// Offset of an operand at the given values of the first loops.
  mlir::Value offset(unsigned operand, llvm::ArrayRef<mlir::Value> at);
  mlir::AffineMap map(unsigned operand, size_t from = 0);
  /// The body's result; `leaf` gives an operand's stored element, `loop` a loop's index.
  mlir::Value body(llvm::function_ref<mlir::Value(unsigned)> leaf,
                   llvm::function_ref<mlir::Value(unsigned)> loop);
  DType bodyType() const { return plan.body.back().type; }

private:
  std::vector<mlir::Value> sizes, arguments, bases;
  std::vector<std::vector<mlir::Value>> strides; ///< null where 0
};

/// Calls the nest `kind` of the plan's structure, which `write` fills in when it is new.
void launch(Emitter &e, llvm::StringRef kind, Plan &plan,
            llvm::function_ref<void(NestWriter &)> write);

} // namespace moec::host
