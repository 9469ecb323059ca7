// Products: FusedMatMul, FusedGemm, MatMulNBits. Formulas: docs/ContribOperators.md of ONNX
// Runtime.
#include "Contrib.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace moec::prepare {

namespace {

Value lastTwoSwapped(OnnxBuilder &b, Value x) {
  auto perm = llvm::to_vector(llvm::seq<int64_t>(0, rankedType(x).getRank()));
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  return b.transpose(x, perm);
}

// The operand with the axes of its matrices last: with `batch` the first of them stands in front of
// the batch axes, [M, batch.., K]; with `trans` they are swapped.
Value arranged(OnnxBuilder &b, Value x, bool batch, bool trans) {
  int64_t rank = rankedType(x).getRank();
  if (batch && rank > 2) {
    SmallVector<int64_t> perm;
    for (int64_t i = 1; i + 1 < rank; ++i)
      perm.push_back(i);
    perm.push_back(0);
    perm.push_back(rank - 1);
    x = b.transpose(x, perm);
  }
  return trans ? lastTwoSwapped(b, x) : x;
}

bool fusedMatMul(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({0, 1}))
    return false;
  if (rankedType(c.in(0)).getRank() < 2 || rankedType(c.in(1)).getRank() < 2)
    return c.refuse("an operand is a vector");
  Value x = arranged(b, c.in(0), c.number("transBatchA", 0) != 0, c.number("transA", 0) != 0);
  Value y = arranged(b, c.in(1), c.number("transBatchB", 0) != 0, c.number("transB", 0) != 0);
  Value product = b.matmul(x, y);
  double alpha = c.real("alpha", 1.0);
  if (alpha != 1.0)
    product = b.binary("Mul", product, b.scalar(rankedType(x).getElementType(), alpha));
  c.replace(0, product);
  return true;
}

// The activation that is fused behind a product, with up to two parameters; null when unknown.
Value activated(const Custom &c, OnnxBuilder &b, Value y, std::optional<double> alpha,
                std::optional<double> beta) {
  StringRef name = c.text("activation", "");
  SmallVector<NamedAttribute> more;
  if (name.empty())
    return y;
  if (name == "Clip") {
    Type t = rankedType(y).getElementType();
    return b.op("Clip",
                {y, alpha ? b.scalar(t, *alpha) : b.none(), beta ? b.scalar(t, *beta) : b.none()},
                y.getType());
  }
  if (name == "LeakyRelu" || name == "Elu" || name == "ThresholdedRelu")
    more.push_back(b.attr("alpha", alpha.value_or(name == "LeakyRelu" ? 0.01 : 1)));
  else if (name == "HardSigmoid")
    more = {b.attr("alpha", alpha.value_or(0.2)), b.attr("beta", beta.value_or(0.5))};
  else if (name != "Relu" && name != "Sigmoid" && name != "Tanh" && name != "Softplus" &&
           name != "Softsign") {
    c.refuse("the activation \"" + name + "\" is unsupported");
    return {};
  }
  return b.op(name, y, y.getType(), more);
}

// X, W, B, and Z, which is added before the activation.
bool fusedConv(const Custom &c, OnnxBuilder &b) {
  auto type = rankedType(c.op->getResult(0));
  if (!c.areFloats({0, 1}) || !type)
    return c.why.empty() ? c.refuse("its result has no type") : false;
  SmallVector<NamedAttribute> attributes = {b.attr("auto_pad", c.text("auto_pad", "NOTSET")),
                                            b.attr("group", c.number("group", 1))};
  for (StringRef name : {"pads", "strides", "dilations", "kernel_shape"})
    if (Attribute given = c.attr(name))
      attributes.push_back(b.builder.getNamedAttr(name, given));
  SmallVector<double> parameters;
  if (auto list = dyn_cast_or_null<DenseF32ArrayAttr>(c.attr("activation_params")))
    parameters.assign(list.asArrayRef().begin(), list.asArrayRef().end());
  else if (c.attr("activation_params"))
    return c.refuse("its activation_params have an unknown form");
  Value y = b.op("Conv", {c.in(0), c.in(1), c.in(2) ? c.in(2) : b.none()}, type, attributes);
  if (c.in(3))
    y = b.op("Add", {y, c.in(3)}, type);
  y = activated(c, b, y, parameters.empty() ? std::nullopt : std::optional(parameters[0]),
                parameters.size() < 2 ? std::nullopt : std::optional(parameters[1]));
  if (!y)
    return false;
  c.replace(0, y);
  return true;
}

bool fusedGemm(const Custom &c, OnnxBuilder &b) {
  auto type = rankedType(c.op->getResult(0));
  if (!c.areFloats({0, 1}) || !type)
    return c.why.empty() ? c.refuse("its result has no type") : false;
  auto parameter = [&](StringRef name) {
    return c.attr(name) ? std::optional(c.real(name, 0)) : std::nullopt;
  };
  Value y =
      b.op("Gemm", {c.in(0), c.in(1), c.in(2) ? c.in(2) : b.none()}, type,
           {b.attr("alpha", c.real("alpha", 1.0)), b.attr("beta", c.real("beta", 1.0)),
            b.attr("transA", c.number("transA", 0)), b.attr("transB", c.number("transB", 0))});
  y = activated(c, b, y, parameter("activation_alpha"), parameter("activation_beta"));
  if (!y)
    return false;
  c.replace(0, y);
  return true;
}

// The weight [N, K] that MatMulNBits multiplies by, transposed.
class NBits {
public:
  NBits(const Custom &c) : c(c), steps(c.steps) {}

  Value weight(Type element) {
    n = c.number("N", 0), k = c.number("K", 0);
    block = c.number("block_size", 0), bits = c.number("bits", 4);
    if (c.number("weight_prepacked", 0) != 0)
      return refused("weight_prepacked, the layout of one execution provider, is unsupported");
    if (bits != 2 && bits != 4 && bits != 8)
      return refused("weights of " + Twine(bits) + " bits are unsupported");
    if (n < 1 || k < 1 || block < 1 || block * bits % 8 != 0)
      return refused("N, K and block_size do not fit together");
    blocks = llvm::divideCeil(k, block);
    packed = IntegerType::get(c.op->getContext(), bits, IntegerType::Unsigned);
    Value q = shaped(1, {n, blocks * (block * bits / 8)});
    if (!q || !isBytes(q))
      return q ? refused("its weight is not made of bytes") : q;
    q = steps.part(steps.unpack(q, packed), 1, 0, k);
    Value scale = shaped(2, {n, blocks}), zero = scale ? zeros() : Value();
    if (!zero)
      return {};
    SmallVector<int64_t> sizes = {1, block};
    if (c.in(4) && !regrouped(scale, zero, sizes))
      return {};
    return steps.transpose(steps.dequantize(q, scale, zero, sizes, element), {1, 0});
  }

private:
  Value refused(const Twine &why) {
    c.refuse(why);
    return {};
  }
  static bool isBytes(Value v) { return elementOf(v).isUnsignedInteger(8); }
  static Type elementOf(Value v) { return cast<RankedTensorType>(v.getType()).getElementType(); }

  Value shaped(unsigned i, ArrayRef<int64_t> shape) {
    Value v = c.in(i) ? steps.of(c.in(i)) : Value();
    int64_t count = 1;
    for (int64_t d : shape)
      count *= d;
    if (!v)
      return refused("input " + Twine(i) + " is not constant");
    if (cast<RankedTensorType>(v.getType()).getNumElements() != count)
      return refused("input " + Twine(i) + " has another size than N, K and block_size say");
    return steps.reshape(v, shape);
  }

  Value zeros() {
    if (!c.in(3)) {
      auto type = RankedTensorType::get({1, 1}, IntegerType::get(c.op->getContext(), 32));
      return steps.literal(DenseElementsAttr::get(type, 1 << (bits - 1)));
    }
    Value v = steps.of(c.in(3));
    if (!v || !isBytes(v))
      return shaped(3, {n, blocks});
    v = shaped(3, {n, int64_t(llvm::divideCeil(blocks * bits, 8))});
    return v ? steps.part(steps.unpack(v, packed), 1, 0, blocks) : v;
  }

  // g_idx: the block of each of the K rows.
  bool regrouped(Value &scale, Value &zero, SmallVectorImpl<int64_t> &sizes) {
    Operation *def = c.in(4).getDefiningOp();
    auto dense = onnxName(def) == "Constant"
                     ? dyn_cast_or_null<DenseIntElementsAttr>(def->getAttr("value"))
                     : DenseIntElementsAttr();
    if (!dense || dense.getNumElements() != k)
      return c.refuse("g_idx is unsupported unless it is a constant of K numbers");
    SmallVector<int64_t> group;
    for (const APInt &i : dense.getValues<APInt>()) {
      group.push_back(i.getSExtValue());
      if (group.back() < 0 || group.back() >= blocks)
        return c.refuse("g_idx names a block that does not exist");
    }
    scale = steps.gather(scale, 1, group);
    if (cast<RankedTensorType>(zero.getType()).getNumElements() != 1)
      zero = steps.gather(zero, 1, group);
    sizes[1] = 1;
    return true;
  }

  const Custom &c;
  WeightSteps &steps;
  int64_t n = 0, k = 0, block = 0, bits = 0, blocks = 0;
  Type packed;
};

bool matMulNBits(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({0}))
    return false;
  Value x = c.in(0);
  if (rankedType(x).getRank() < 2)
    return c.refuse("its input is a vector");
  Value weight = NBits(c).weight(rankedType(x).getElementType());
  if (!weight)
    return false;
  std::string hint = WeightSteps::nameOf(c.in(1).getDefiningOp()).str();
  auto symbol = c.steps.bind(weight, hint.empty() ? "nbits" : hint);
  Value y = b.matmul(x, c.steps.use(b.builder, b.loc, symbol));
  if (Value bias = c.in(5))
    y = b.binary("Add", y, bias);
  c.replace(0, y);
  return true;
}

} // namespace

void addContribMatMuls(ContribTable &table) {
  table["FusedMatMul"] = fusedMatMul;
  table["TransposeMatMul"] = fusedMatMul; // its name in old files
  table["FusedGemm"] = fusedGemm;
  table["FusedConv"] = fusedConv;
  table["MatMulNBits"] = matMulNBits;
}

} // namespace moec::prepare
