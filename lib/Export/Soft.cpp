// Soft slots and merged experts as operators of ONNX.
#include "Lower.h"

using namespace mlir;
using namespace moec;
using namespace moec::onnx_export;

// Products in f32, or f64.
static Type computeType(Build &b, Value v) {
  return elementOf(v).isF64() ? elementOf(v) : Type(b.builder.getF32Type());
}

void Lowering::softDispatch(moe::SoftDispatchOp op) {
  Build b(op, layerName(op));
  Type type = wider(computeType(b, op.getX()), computeType(b, op.getLogits()));
  Value shares = b.transpose(b.softmax(b.cast(op.getLogits(), type), 0), {1, 0});
  Value slots = b.matmul(shares, b.cast(op.getX(), type));
  op.getSlots().replaceAllUsesWith(b.cast(slots, elementOf(op.getSlots())));
  op->erase();
}

void Lowering::softCombine(moe::SoftCombineOp op) {
  Build b(op, layerName(op));
  Type type = wider(computeType(b, op.getSlots()), computeType(b, op.getLogits()));
  Value y = b.matmul(b.softmax(b.cast(op.getLogits(), type), 1), b.cast(op.getSlots(), type));
  op.getResult().replaceAllUsesWith(b.cast(y, elementOf(op.getResult())));
  op->erase();
}

// Each parameter is a row of [E, n]: the weights [S, E] times it are the merged parameters.
bool Lowering::mergeWeights(moe::MergeWeightsOp op) {
  Build b(op, layerName(op));
  moe::BankOp bank = moe::findBank(op, op.getBank());
  moe::FfnAttr ffn = bank.getBody().value_or(moe::FfnAttr());
  if (!ffn) {
    op.emitOpError("is unsupported by export: its bank is a region");
    return false;
  }
  Type type = wider(computeType(b, op.getX()), computeType(b, op.getWeights()));
  Value w = b.cast(op.getWeights(), type);
  SmallVector<int64_t> rows;
  for (int64_t e = 0; e < static_cast<int64_t>(bank.getExperts()); ++e)
    rows.push_back(bank.getSlab(e));
  auto merged = [&](StringRef name) {
    auto symbol = bank->getAttrOfType<FlatSymbolRefAttr>(name);
    if (!symbol)
      return Value();
    Value all = steps.gather(steps.of(symbol.getValue()), rows);
    SmallVector<int64_t> shape(rankedType(all).getShape());
    int64_t each = rankedType(all).getNumElements() / shape[0];
    Value flat = steps.cast(steps.reshape(all, {shape[0], each}), type);
    Value mean = b.matmul(w, use(b, flat, (symbol.getValue() + ".rows").str()));
    shape[0] = -1;
    if (shape.size() == 2) // a bias is one row for all tokens
      shape.insert(shape.begin() + 1, 1);
    return b.reshape(mean, shape);
  };
  auto linear = [&](Value x, StringRef name) {
    Value y = b.matmul(x, b.transpose(merged(name), {0, 2, 1}));
    Value bias = merged((name + "_bias").str());
    return bias ? b.binary("Add", y, bias) : y;
  };
  int64_t hiddenSize = bank.getHidden();
  Value sets = b.gather(b.shape(w), b.ints(0), 0);
  Value shape = b.concat({sets, b.ints({-1, hiddenSize})}, 0);
  auto grouped = b.type({ShapedType::kDynamic, ShapedType::kDynamic, hiddenSize}, type);
  Value x = b.reshape(b.cast(op.getX(), type), shape, grouped);
  Value gate = ffn.getGated() ? linear(x, "gate") : Value();
  Value y = linear(hidden(b, ffn, gate, linear(x, "up")), "down");
  y = b.cast(b.reshape(y, {-1, hiddenSize}), elementOf(op.getX()));
  op.getResult().replaceAllUsesWith(y);
  op->erase();
  ++report.plainLayers;
  return true;
}
