// refine-shapes: see Passes.td.
#include "SymbolicShape.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "moec/Transforms/Prepare/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_REFINESHAPES
#include "moec/Transforms/Prepare/Passes.h.inc"

namespace {

struct RefineShapes : impl::RefineShapesBase<RefineShapes> {
  using RefineShapesBase::RefineShapesBase;

  void runOnOperation() override {
    for (auto func : getOperation().getOps<func::FuncOp>()) {
      if (func.isExternal())
        continue;
      prepare::SymbolicSizes sizes;
      // In order: what is found early ends the search for what comes later.
      func.walk<WalkOrder::PreOrder>([&](Operation *op) {
        if (op->getName().getStringRef().starts_with("onnx.") && op->getNumRegions() == 0)
          for (Value result : op->getResults())
            refine(result, sizes);
      });
    }
  }

private:
  // The types that a terminator and its parent agree on stay.
  static bool isFree(Value v) {
    return llvm::none_of(v.getUsers(), [](Operation *user) {
      return user->hasTrait<OpTrait::IsTerminator>();
    });
  }

  void refine(Value v, prepare::SymbolicSizes &sizes) {
    auto type = rankedType(v);
    if (!type || type.hasStaticShape() || !isFree(v))
      return;
    SmallVector<int64_t> dims(type.getShape());
    for (auto [i, d] : llvm::enumerate(dims)) {
      if (!ShapedType::isDynamic(d))
        continue;
      prepare::Size size = sizes.of(v, static_cast<int64_t>(i));
      if (!size.number || *size.number < 0)
        continue;
      d = *size.number;
      ++numRefined;
    }
    v.setType(RankedTensorType::get(dims, type.getElementType()));
  }
};

} // namespace
} // namespace moec
