// decompose-contrib: com.microsoft operators as standard onnx ops. The operators' families stand in
// files of their own.
#include "Contrib.h"
#include "moec/Transforms/Prepare/Passes.h"

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_DECOMPOSECONTRIB
#include "moec/Transforms/Prepare/Passes.h.inc"

namespace prepare {

bool Custom::hasNone(ArrayRef<unsigned> inputs, ArrayRef<unsigned> outputs) const {
  for (unsigned i : inputs)
    if (in(i))
      return refuse("input " + Twine(i) + " is unsupported");
  for (unsigned i : outputs)
    if (wants(i))
      return refuse("output " + Twine(i) + " is unsupported");
  return true;
}

bool Custom::areFloats(ArrayRef<unsigned> inputs) const {
  for (unsigned i : inputs)
    if (!isFloatTensor(in(i)))
      return refuse("input " + Twine(i) +
                    (in(i) ? " is no tensor of floats of known rank" : " is missing"));
  return true;
}

void Custom::replace(unsigned i, Value v) const {
  if (i >= op->getNumResults() || !v)
    return;
  Value result = op->getResult(i);
  auto ends = [](OpOperand &use) { return use.getOwner()->hasTrait<OpTrait::IsTerminator>(); };
  if (v.getType() != result.getType() && llvm::any_of(result.getUses(), ends)) {
    OpBuilder builder(op);
    OnnxBuilder b(builder, op->getLoc());
    result.replaceUsesWithIf(b.op("Identity", v, result.getType()), ends);
  }
  result.replaceAllUsesWith(v);
}

Value sizeOf(OnnxBuilder &b, Value x, int64_t axis) {
  return b.op("Squeeze", {b.shape(x, axis, axis + 1), b.ints(0)},
              RankedTensorType::get({}, b.builder.getI64Type()));
}

Value countTo(OnnxBuilder &b, Value end, int64_t count) {
  Type i64 = b.builder.getI64Type();
  return b.op("Range", {b.scalar(i64, 0), end, b.scalar(i64, 1)},
              RankedTensorType::get({count < 0 ? ShapedType::kDynamic : count}, i64));
}

} // namespace prepare

namespace {

using namespace prepare;

struct DecomposeContrib : impl::DecomposeContribBase<DecomposeContrib> {
  using DecomposeContribBase::DecomposeContribBase;

  void runOnOperation() override {
    ContribTable table;
    addContribNorms(table);
    addContribActivations(table);
    addContribMatMuls(table);
    addContribRotary(table);
    addContribAttention(table);
    addContribRecurrent(table);
    addContribRouters(table);
    addContribQuantised(table);
    addContribQLinear(table);
    SmallVector<Operation *> ops;
    getOperation()->walk([&](Operation *op) {
      if (op->getName().getStringRef() == "onnx.custom")
        ops.push_back(op);
    });
    if (ops.empty())
      return;
    WeightSteps steps(getOperation());
    for (Operation *op : ops) {
      auto type = op->getAttrOfType<StringAttr>("op_type");
      auto domain = op->getAttrOfType<StringAttr>("domain");
      if (!type || !domain ||
          (domain != "com.microsoft" && !domain.getValue().empty() && domain != "ai.onnx"))
        continue;
      auto it = table.find(type.getValue());
      if (it == table.end())
        continue;
      OpBuilder builder(op);
      OnnxBuilder b(builder, op->getLoc());
      std::string why;
      Custom custom{op, op->getAttrOfType<DictionaryAttr>("attributes"), steps, why};
      if (it->second(custom, b)) {
        op->erase();
        ++numDecomposed;
        continue;
      }
      ++numKept;
      if (why.empty())
        continue;
      op->setAttr("moec.refused", builder.getStringAttr(why));
      op->emitRemark() << "decompose-contrib: " << type.getValue() << " stays because " << why;
    }
    steps.eraseDead();
  }
};

} // namespace
} // namespace moec
