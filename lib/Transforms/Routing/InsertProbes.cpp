// insert-probes: see Passes.td.
#include "moec/Dialect/MoE/RoutedLayers.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "moec/Transforms/Routing/Passes.h"
#include "llvm/ADT/SmallPtrSet.h"

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_INSERTPROBES
#include "moec/Transforms/Routing/Passes.h.inc"

namespace {

// Ops that keep the elements and their order.
bool isView(Operation *op) {
  static constexpr StringLiteral views[] = {"Cast",    "Reshape",   "Identity",
                                            "Squeeze", "Unsqueeze", "Flatten"};
  return llvm::is_contained(views, onnxName(op));
}

// Whether `value` is computed from `source`.
bool leadsTo(Value source, Value value) {
  SmallPtrSet<Operation *, 32> seen;
  SmallVector<Value> open{value};
  while (!open.empty()) {
    Value v = open.pop_back_val();
    if (v == source)
      return true;
    Operation *op = v.getDefiningOp();
    if (!op || !seen.insert(op).second)
      continue;
    open.append(op->operand_begin(), op->operand_end());
  }
  return false;
}

// What the layer's result is added to; null when that is not found.
Value residualOf(moe::ExpertsOp layer) {
  Value y = layer.getResult();
  auto hidden = rankedType(y).getShape().back();
  while (y.hasOneUse()) {
    Operation *user = *y.user_begin();
    if (isView(user)) {
      if (user->getOperand(0) != y)
        return {};
      y = user->getResult(0);
      continue;
    }
    if (onnxName(user) != "Add")
      return {};
    Value other = user->getOperand(user->getOperand(0) == y ? 1 : 0);
    if (auto type = dyn_cast<RankedTensorType>(other.getType());
        type && type.getRank() == rankedType(y).getRank() && type.getRank() >= 2 &&
        type.getShape().back() == hidden && leadsTo(other, layer.getX()))
      return other;
    y = user->getResult(0);
    if (!isa<RankedTensorType>(y.getType()))
      return {};
  }
  return {};
}

// Logits and the name of the score; behind a select whose scores are a softmax or a sigmoid.
std::pair<Value, StringRef> logitsOf(const moe::RoutedLayer &layer) {
  Value z = layer.logits();
  if (!z)
    return {};
  if (auto route = dyn_cast<moe::RouteOp>(layer.router))
    return {z, route.getRouter().getScore() == moe::RouterScore::Sigmoid ? "sigmoid" : "softmax"};
  Operation *op = z.getDefiningOp();
  StringRef name = onnxName(op);
  if (name == "Sigmoid")
    return {op->getOperand(0), "sigmoid"};
  bool softmax = name == "Softmax" && intAttr(op, "axis", -1) != 0; // of rank 2
  return {softmax ? op->getOperand(0) : z, "softmax"};
}

struct InsertProbes : impl::InsertProbesBase<InsertProbes> {
  using InsertProbesBase::InsertProbesBase;

  void runOnOperation() override {
    if (tier < 0 || tier > 2 || sampleEvery < 1) {
      getOperation().emitError("insert-probes: tier is 0, 1 or 2, and sample-every at least 1");
      return signalPassFailure();
    }
    for (moe::RoutedLayer &layer : moe::collectRoutedLayers(getOperation()))
      insert(layer);
  }

private:
  void insert(moe::RoutedLayer &layer) {
    moe::ExpertsOp experts = layer.experts;
    OpBuilder builder(experts->getContext());
    builder.setInsertionPointAfter(experts);
    OnnxBuilder b(builder, experts.getLoc());
    auto [z, score] = logitsOf(layer);
    SmallVector<Value> values = routing(layer, builder);
    auto tokens = rankedType(experts.getX()), result = rankedType(experts.getResult());
    bool matrix = experts.getCombine() == "sum" && tokens.getRank() == 2 && result.getRank() == 2 &&
                  tokens.getShape().back() == result.getShape().back();
    if (tier > 0 && !matrix) {
      ++numLowered;
      experts.emitRemark() << "layer \"" << layer.name
                           << "\": only its routing is probed: tokens and results are no matrices "
                              "of one size";
    }
    if (tier > 0 && matrix)
      experts = keepSlots(experts, b, values);
    if (z)
      values.push_back(z);
    probe(layer, builder, b.loc, tier > 0 && matrix ? "experts" : "routing", values, score);
    if (tier > 1 && matrix)
      runAll(layer, b, experts);
  }

  // Ids and weights [T, K]; of dense weights, those of all experts.
  SmallVector<Value> routing(moe::RoutedLayer &layer, OpBuilder &builder) {
    moe::ExpertsOp experts = layer.experts;
    if (experts.getIds())
      return {experts.getIds(), experts.getWeights()};
    auto type = rankedType(experts.getWeights());
    auto ids = RankedTensorType::get(type.getShape(), builder.getI32Type());
    auto all = moe::SelectOp::create(builder, experts.getLoc(), TypeRange{ids, type},
                                     ValueRange{experts.getWeights()});
    all.setKind("all");
    return {all.getIds(), all.getWeights()};
  }

  // Appends tokens, residual, slots and their sum; the sum takes the place of the layer's result.
  moe::ExpertsOp keepSlots(moe::ExpertsOp experts, OnnxBuilder &b, SmallVector<Value> &values) {
    auto type = rankedType(experts.getResult());
    Value residual = residualOf(experts);
    int64_t hidden = type.getDimSize(1);
    auto slotsType = RankedTensorType::get(
        {type.getDimSize(0), rankedType(values[0]).getDimSize(1), hidden}, type.getElementType());
    auto apart = cast<moe::ExpertsOp>(b.builder.clone(*experts));
    apart.setCombine("none");
    apart.getResult().setType(slotsType);
    Value y = b.reduce("ReduceSum", apart.getResult(), {1}, /*keep=*/false);
    y.setType(type);
    experts.getResult().replaceAllUsesWith(y);
    experts.erase();
    if (!residual)
      residual = apart.getX();
    else if (rankedType(residual).getRank() != 2)
      residual = b.reshape(residual, {-1, hidden});
    values.append({apart.getX(), residual, apart.getResult(), y});
    return apart;
  }

  // All experts on every n-th token.
  void runAll(moe::RoutedLayer &layer, OnnxBuilder &b, moe::ExpertsOp experts) {
    auto sample = [&](Value v) {
      return b.slice(v, 0, 0, std::numeric_limits<int64_t>::max(), sampleEvery);
    };
    moe::BankOp bank = layer.bank;
    auto count = static_cast<int64_t>(bank.getExperts());
    Value x = sample(experts.getX());
    auto type = rankedType(x);
    Value shape = b.concat({b.shape(x, 0, 1), b.ints({count})}, 0);
    Value ones = b.op("Expand", {b.scalar(type.getElementType(), 1), shape},
                      RankedTensorType::get({type.getDimSize(0), count}, type.getElementType()));
    SmallVector<Value> operands{x, ones};
    for (auto [i, context] : llvm::enumerate(experts.getContextValues()))
      operands.push_back(experts.isContextOfRows(static_cast<int64_t>(i)) ? sample(context)
                                                                          : context);
    auto all = RankedTensorType::get({type.getDimSize(0), count, type.getDimSize(1)},
                                     type.getElementType());
    auto run = moe::ExpertsOp::create(b.builder, b.loc, all, operands, experts->getAttrs());
    probe(layer, b.builder, b.loc, "all", {x, run.getResult()}, "");
  }

  void probe(moe::RoutedLayer &layer, OpBuilder &builder, Location loc, StringRef kind,
             ValueRange values, StringRef score) {
    moe::BankOp bank = layer.bank;
    auto op = moe::ProbeOp::create(
        builder, loc, builder.getStringAttr(kind), values, builder.getStringAttr(layer.name),
        builder.getI64IntegerAttr(static_cast<int64_t>(bank.getExperts())));
    if (score == "sigmoid")
      op.setScore(score);
    ++numProbes;
  }
};

} // namespace
} // namespace moec
