// com.microsoft.MoE nodes whose parameters are no weights but computed, or inputs of the model: a
// bank with one region for all experts, which takes the expert's part of the parameters itself.
#include "FusedOperands.h"
#include "MoEOps.h"

using namespace mlir;

namespace moec::raise {

namespace {

Value activated(OnnxBuilder &b, Value x, const Ffn &ffn) {
  Type t = rankedType(x).getElementType();
  auto times = [&](Value v, double factor) { return b.binary("Mul", v, b.scalar(t, factor)); };
  if (ffn.activation == "relu")
    return b.unary("Relu", x);
  if (ffn.activation == "relu2") {
    Value positive = b.unary("Relu", x);
    return b.binary("Mul", positive, positive);
  }
  if (ffn.activation == "silu" || ffn.activation == "swish")
    return b.binary("Mul", x, b.unary("Sigmoid", ffn.alpha == 1.0 ? x : times(x, ffn.alpha)));
  if (ffn.activation == "gelu_tanh") {
    Value cube = b.binary("Mul", b.binary("Mul", x, x), x);
    Value inner = times(b.binary("Add", x, times(cube, 0.044715)), 0.7978845608028654);
    Value wide = b.binary("Add", b.unary("Tanh", inner), b.scalar(t, 1.0));
    return b.binary("Mul", times(x, 0.5), wide);
  }
  return x; // identity
}

// The formula of #moe.ffn.
Value hidden(OnnxBuilder &b, Value gate, Value up, const Ffn &ffn) {
  Type t = rankedType(up).getElementType();
  if (!ffn.gated)
    return activated(b, up, ffn);
  if (ffn.limit) {
    Value limit = b.scalar(t, *ffn.limit), low = b.scalar(t, -*ffn.limit);
    gate = b.op("Min", {gate, limit}, gate.getType());
    up = b.op("Max", {b.op("Min", {up, limit}, up.getType()), low}, up.getType());
  }
  if (ffn.upOffset != 0)
    up = b.binary("Add", up, b.scalar(t, ffn.upOffset));
  return b.binary("Mul", activated(b, gate, ffn), up);
}

} // namespace

namespace {

using Contexts = SmallVector<std::pair<Value, StringRef>>;

// Parameters as the region reads them: its arguments behind the tokens and the expert's id.
class Body {
public:
  Body(const FusedNode &node, OnnxBuilder &b, Block *block) : node(node), b(b), block(block) {}

  Value project(Value in, int p, int64_t n, int64_t k) {
    Value w = b.reshape(own(node.matrix(p)), {n, k});
    Value y = b.matmul(in, b.transpose(w, {1, 0}));
    return node.bias(p) ? b.binary("Add", y, b.reshape(own(node.bias(p)), {n})) : y;
  }

  Contexts contexts;

private:
  // The slice of this expert, in f32.
  Value own(Value parameter) {
    contexts.push_back({parameter, "whole"});
    Value all = block->addArgument(parameter.getType(), b.loc);
    return b.cast(b.gather(all, block->getArgument(1), 0), b.builder.getF32Type());
  }

  const FusedNode &node;
  OnnxBuilder &b;
  Block *block;
};

std::string freshName(ModuleOp module) {
  for (unsigned i = 0;; ++i)
    if (std::string name = "layer" + std::to_string(i); !SymbolTable::lookupSymbolIn(module, name))
      return name;
}

} // namespace

Value regionExperts(const FusedNode &node, OnnxBuilder &b, const Ffn &ffn, bool fused,
                    bool interleaved, const BankShape &shape, Value x, const Routed &routed,
                    WeightSteps &steps) {
  MLIRContext *context = b.builder.getContext();
  auto module = node.op->getParentOfType<ModuleOp>();
  int64_t inter = shape.inter;
  SmallVector<int64_t> numbers = llvm::to_vector(llvm::seq<int64_t>(0, shape.experts));
  auto idType = RankedTensorType::get({shape.experts}, b.builder.getI64Type());
  auto ids = steps.bind(steps.literal(DenseElementsAttr::get(idType, ArrayRef(numbers))), "ids");

  std::string name = freshName(module);
  OperationState state(b.loc, "moe.bank");
  state.addAttribute("sym_name", b.builder.getStringAttr(name));
  state.addAttribute("experts", b.builder.getI64IntegerAttr(shape.experts));
  state.addAttribute("hidden", b.builder.getI64IntegerAttr(shape.hidden));
  state.addAttribute("inter", b.builder.getI64IntegerAttr(0));
  state.addAttribute("parameters", b.builder.getArrayAttr(Attribute(ids)));
  Block *block = new Block;
  state.addRegion()->push_back(block);
  Type element = rankedType(x).getElementType();
  block->addArgument(RankedTensorType::get({ShapedType::kDynamic, shape.hidden}, element), b.loc);
  block->addArgument(RankedTensorType::get({}, b.builder.getI64Type()), b.loc);
  OpBuilder inner(context);
  inner.setInsertionPointToEnd(block);
  OnnxBuilder n(inner, b.loc);
  Body body(node, n, block);
  Value rows = n.cast(block->getArgument(0), inner.getF32Type());
  Value first = body.project(rows, 1, fused ? 2 * inter : inter, shape.hidden), gate, up = first;
  if (fused) {
    int64_t all = 2 * inter;
    gate = interleaved ? n.slice(first, 1, 0, all, 2) : n.slice(first, 1, 0, inter);
    up = interleaved ? n.slice(first, 1, 1, all, 2) : n.slice(first, 1, inter, all);
  } else if (ffn.gated) {
    gate = first;
    up = body.project(rows, 3, inter, shape.hidden);
  }
  Value y = body.project(hidden(n, gate, up, ffn), 2, shape.hidden, inter);
  OperationState yield(b.loc, "moe.yield");
  yield.addOperands(n.cast(y, element));
  inner.create(yield);
  OpBuilder outer(context);
  outer.setInsertionPoint(module.getBody(), llvm::find_if(*module.getBody(), [](Operation &op) {
                            return op.getName().getStringRef() != "moe.weights" &&
                                   op.getName().getStringRef() != "moe.bank";
                          }));
  outer.create(state);
  return createExperts(b, FlatSymbolRefAttr::get(context, name), x, routed.ids, routed.weights,
                       body.contexts, x.getType());
}

} // namespace moec::raise
