#include "RowWise.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;

namespace moec::raise {

namespace {

using In = ArrayRef<Rows>;
using Out = std::optional<RowWise>;

Out one(Rows rows) { return RowWise{{rows}, false}; }

int64_t rankOf(Value v) { return ranked(v) ? ranked(v).getRank() : -1; }

// Every result like the first operand.
Out likeFirst(Operation *op, In in) {
  return RowWise{SmallVector<Rows, 1>(op->getNumResults(), in[0]), false};
}

bool onlyFirst(In in) {
  return in[0].any() &&
         llvm::none_of(in.drop_front(), [](const Rows &r) { return r.any(); });
}

std::optional<int64_t> axisOf(int64_t axis, int64_t rank) {
  if (axis < 0)
    axis += rank;
  return axis >= 0 && axis < rank ? std::optional(axis) : std::nullopt;
}

Out elementwise(Operation *op, In in) {
  int64_t rank = 0;
  for (Value v : op->getOperands())
    if (!isAbsent(v))
      rank = std::max(rank, rankOf(v));
  Rows out;
  for (auto [v, rows] : llvm::zip(op->getOperands(), in)) {
    if (!rows.any())
      continue;
    Rows here{rows.at + rank - rankOf(v), rows.count};
    if (out.any() && !(out == here))
      return std::nullopt;
    out = here;
  }
  // What all tokens share must not vary along the rows.
  for (auto [v, rows] : llvm::zip(op->getOperands(), in)) {
    if (rows.any() || isAbsent(v))
      continue;
    auto type = ranked(v);
    int64_t shift = rank - type.getRank();
    for (int64_t axis = out.at; axis < out.at + out.count; ++axis)
      if (axis >= shift && type.getDimSize(axis - shift) != 1)
        return std::nullopt;
  }
  return one(out);
}

// Quantise, dequantise: a scale is one number, or runs along an axis.
Out scaled(Operation *op, In in) {
  if (!onlyFirst(in))
    return std::nullopt;
  auto scale = ranked(op->getOperand(1));
  bool single = scale.hasStaticShape() && scale.getNumElements() == 1;
  auto axis = axisOf(intAttr(op, "axis", 1), rankOf(op->getOperand(0)));
  if (!single && (scale.getRank() != 1 || !axis || in[0].has(*axis)))
    return std::nullopt;
  return one(in[0]);
}

// The axes an operation names in an operand or an attribute.
std::optional<SmallVector<int64_t>> namedAxes(Operation *op, unsigned operand,
                                              int64_t rank) {
  SmallVector<int64_t> axes = intsAttr(op, "axes");
  if (op->getNumOperands() > operand && !isAbsent(op->getOperand(operand))) {
    auto given = evalAllInts(op->getOperand(operand));
    if (!given)
      return std::nullopt;
    axes = *given;
  }
  for (int64_t &axis : axes) {
    auto counted = axisOf(axis, rank);
    if (!counted)
      return std::nullopt;
    axis = *counted;
  }
  return axes;
}

Out reduction(Operation *op, In in) {
  auto axes = namedAxes(op, 1, rankOf(op->getOperand(0)));
  if (!axes || axes->empty())
    return std::nullopt;
  Rows out = in[0];
  bool keep = intAttr(op, "keepdims", 1) != 0;
  for (int64_t axis : *axes) {
    if (in[0].has(axis))
      return std::nullopt;
    out.at -= !keep && axis < in[0].at;
  }
  return one(out);
}

// Along one axis, which is not one of the rows.
Out alongAxis(Operation *op, In in, int64_t otherwise) {
  auto axis = axisOf(intAttr(op, "axis", otherwise), rankOf(op->getOperand(0)));
  if (!axis || in[0].has(*axis) || !onlyFirst(in))
    return std::nullopt;
  Rows out = in[0];
  if (op->getName().getStringRef().contains("Arg") &&
      intAttr(op, "keepdims", 1) == 0)
    out.at -= *axis < out.at;
  return RowWise{SmallVector<Rows, 1>(op->getNumResults(), out), false};
}

Out layerNorm(Operation *op, In in) {
  auto axis = axisOf(intAttr(op, "axis", -1), rankOf(op->getOperand(0)));
  if (!axis || !onlyFirst(in) || in[0].at + in[0].count > *axis)
    return std::nullopt;
  return likeFirst(op, in);
}

Out matmul(Operation *op, In in) {
  int64_t a = rankOf(op->getOperand(0)), b = rankOf(op->getOperand(1));
  for (const Rows &rows : in.drop_front(2))
    if (rows.any())
      return std::nullopt;
  if (a < 2 || b < 2)
    return in[0].any() && !in[1].any() && a >= 2 && !in[0].has(a - 1)
               ? one(in[0])
               : std::nullopt;
  int64_t rank = std::max(a, b);
  Rows x{in[0].at + rank - a, in[0].count}, y{in[1].at + rank - b, in[1].count};
  // The axis summed over is never a row.
  if ((x.any() && x.has(rank - 1)) || (y.any() && y.has(rank - 2)))
    return std::nullopt;
  if (x.any() && y.any())
    return x == y && x.at + x.count <= rank - 2 ? one(x) : std::nullopt;
  const Rows &rows = x.any() ? x : y;
  Value other = op->getOperand(x.any() ? 1 : 0);
  int64_t shift = rank - rankOf(other);
  for (int64_t axis = rows.at; axis < std::min(rows.at + rows.count, rank - 2); ++axis)
    if (axis >= shift && ranked(other).getDimSize(axis - shift) != 1)
      return std::nullopt;
  if (!x.any() && rows.has(rank - 1) && rows.count > 1)
    return std::nullopt;
  return one(rows);
}

Out gemm(Operation *op, In in) {
  bool transA = intAttr(op, "transA", 0) != 0;
  if (!in[0].any() || in[0].count != 1 || in[0].at != (transA ? 1 : 0) || in[1].any())
    return std::nullopt;
  if (op->getNumOperands() > 2 && !isAbsent(op->getOperand(2))) {
    auto bias = ranked(op->getOperand(2));
    if (in[2].any() ? !(in[2] == Rows{0, 1}) || bias.getRank() != 2
                    : bias.getRank() == 2 && bias.getDimSize(0) != 1)
      return std::nullopt;
  }
  return one({0, 1});
}

Out transposed(Operation *op, In in) {
  SmallVector<int64_t> perm = intsAttr(op, "perm");
  int64_t rank = rankOf(op->getOperand(0));
  if (perm.empty())
    for (int64_t i = rank - 1; i >= 0; --i)
      perm.push_back(i);
  if (static_cast<int64_t>(perm.size()) != rank)
    return std::nullopt;
  auto it = llvm::find(perm, in[0].at);
  int64_t at = it - perm.begin();
  for (int64_t i = 0; i < in[0].count; ++i)
    if (at + i >= rank || perm[at + i] != in[0].at + i)
      return std::nullopt;
  return one({at, in[0].count});
}

Out unsqueezed(Operation *op, In in) {
  auto axes = namedAxes(op, 1, rankOf(op->getResult(0)));
  if (!axes)
    return std::nullopt;
  llvm::sort(*axes);
  Rows out = in[0];
  for (int64_t axis : *axes) {
    if (axis > out.at && axis < out.at + out.count)
      return std::nullopt;
    out.at += axis <= out.at;
  }
  return one(out);
}

Out squeezed(Operation *op, In in) {
  auto axes = namedAxes(op, 1, rankOf(op->getOperand(0)));
  if (!axes || axes->empty())
    return std::nullopt;
  Rows out = in[0];
  for (int64_t axis : *axes) {
    if (in[0].has(axis))
      return std::nullopt;
    out.at -= axis < in[0].at;
  }
  return one(out);
}

// The axes behind the rows: how many elements, and how many are unknown.
std::pair<int64_t, int> trailing(RankedTensorType type, int64_t rows) {
  int64_t product = 1;
  int unknown = 0;
  for (int64_t d : type.getShape().drop_front(rows)) {
    unknown += d < 0;
    product *= d < 0 ? 1 : d;
  }
  return {product, unknown};
}

// Rows in front stay when what is behind them keeps its number of elements.
Out reshaped(Operation *op, In in) {
  auto from = ranked(op->getOperand(0)), to = ranked(op->getResult(0));
  int64_t n = in[0].count;
  if (!onlyFirst(in) || in[0].at != 0 || to.getRank() < n || from.getRank() < n)
    return std::nullopt;
  auto [before, openBefore] = trailing(from, n);
  auto [after, openAfter] = trailing(to, n);
  auto target = onnxName(op) == "Reshape" ? evalInts(op->getOperand(1))
                                          : std::optional<Ints>();
  bool copied = onnxName(op) == "Flatten" && intAttr(op, "axis", 1) == n && n == 1;
  if (target && static_cast<int64_t>(target->size()) == to.getRank() &&
      intAttr(op, "allowzero", 0) == 0) {
    copied = true;
    for (int64_t i = 0; i < n; ++i)
      copied &= (*target)[i] && ((*target)[i] == 0 || (*target)[i] == from.getDimSize(i));
  }
  bool counted = n == 1 && openBefore == 0 && openAfter == 0 && before == after;
  if ((!copied && !counted) || openAfter > 1)
    return std::nullopt;
  return one(in[0]);
}

Out expanded(Operation *op, In in) {
  auto from = ranked(op->getOperand(0)), to = ranked(op->getResult(0));
  if (!onlyFirst(in) || to.getRank() != from.getRank() || in[0].at != 0 ||
      trailing(to, in[0].count).second != 0)
    return std::nullopt;
  return one(in[0]);
}

Out concatenated(Operation *op, In in) {
  auto axis = axisOf(intAttr(op, "axis", 0), rankOf(op->getOperand(0)));
  if (!axis || in[0].has(*axis) || !llvm::all_equal(in))
    return std::nullopt;
  return one(in[0]);
}

Out sliced(Operation *op, In in) {
  if (!onlyFirst(in))
    return std::nullopt;
  auto axes = namedAxes(op, 3, rankOf(op->getOperand(0)));
  auto starts = evalAllInts(op->getOperand(1)), ends = evalAllInts(op->getOperand(2));
  if (!axes || !starts || !ends)
    return std::nullopt;
  if (axes->empty())
    for (size_t i = 0; i < starts->size(); ++i)
      axes->push_back(static_cast<int64_t>(i));
  for (int64_t axis : *axes)
    if (in[0].has(axis))
      return std::nullopt;
  return one(in[0]);
}

Out gathered(Operation *op, In in) {
  auto axis = axisOf(intAttr(op, "axis", 0), rankOf(op->getOperand(0)));
  if (!axis)
    return std::nullopt;
  int64_t indices = rankOf(op->getOperand(1));
  if (in[0].any() && !in[1].any() && !in[0].has(*axis)) {
    Rows out = in[0];
    out.at += *axis < out.at ? indices - 1 : 0;
    return one(out);
  }
  // A table that each row looks into.
  if (!in[0].any() && in[1].any())
    return one({in[1].at + *axis, in[1].count});
  return std::nullopt;
}

Out padded(Operation *op, In in) {
  auto pads = evalAllInts(op->getOperand(1));
  int64_t rank = rankOf(op->getOperand(0));
  bool axes = op->getNumOperands() > 3 && !isAbsent(op->getOperand(3));
  if (!pads || axes || !onlyFirst(in) || static_cast<int64_t>(pads->size()) != 2 * rank)
    return std::nullopt;
  for (int64_t i = in[0].at; i < in[0].at + in[0].count; ++i)
    if ((*pads)[i] != 0 || (*pads)[i + rank] != 0)
      return std::nullopt;
  return one(in[0]);
}

// Samples along axis 0.
Out samples(Operation *op, In in) {
  if (!onlyFirst(in) || !(in[0] == Rows{0, 1}))
    return std::nullopt;
  return likeFirst(op, in);
}

// Sequences: axis 1 is the batch.
Out recurrent(Operation *op, In in) {
  if (intAttr(op, "layout", 0) != 0 || !(in[0] == Rows{1, 1}))
    return std::nullopt;
  for (auto [i, rows] : llvm::enumerate(in.drop_front()))
    if (rows.any() && !(rows == Rows{i + 1 == 4 ? 0 : 1, 1}))
      return std::nullopt;
  RowWise out;
  for (unsigned i = 0; i < op->getNumResults(); ++i)
    out.results.push_back({i == 0 ? 2 : 1, 1});
  return out;
}

Out custom(Operation *op, In in) {
  std::string domain = strAttr(op, "domain"), type = strAttr(op, "op_type");
  static const llvm::StringSet<> known = {
      "TreeEnsemble", "TreeEnsembleRegressor", "LinearRegressor", "SVMRegressor",
      "Scaler"};
  return domain == "ai.onnx.ml" && known.contains(type) ? samples(op, in)
                                                        : std::nullopt;
}

Out byName(Operation *op, In in) {
  StringRef n = onnxName(op);
  static const llvm::StringSet<> sampleOps = {
      "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool",
      "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "BatchNormalization",
      "InstanceNormalization", "GroupNormalization", "LRN", "DepthToSpace",
      "SpaceToDepth", "ConvInteger"};
  using Fn = Out (*)(Operation *, In);
  static const llvm::StringMap<Fn> table = {
      {"QuantizeLinear", scaled},   {"DequantizeLinear", scaled},
      {"LayerNormalization", layerNorm},
      {"RMSNormalization", layerNorm},
      {"SimplifiedLayerNormalization", layerNorm},
      {"MatMul", matmul},           {"MatMulInteger", matmul},
      {"Gemm", gemm},               {"Transpose", transposed},
      {"Unsqueeze", unsqueezed},    {"Squeeze", squeezed},
      {"Reshape", reshaped},        {"Flatten", reshaped},
      {"Expand", expanded},         {"Concat", concatenated},
      {"Slice", sliced},            {"Gather", gathered},
      {"Pad", padded},              {"GRU", recurrent},
      {"LSTM", recurrent},          {"RNN", recurrent},
      {"custom", custom}};
  if (isElementwise(op))
    return elementwise(op, in);
  if (sampleOps.contains(n))
    return samples(op, in);
  if (auto it = table.find(n); it != table.end())
    return it->second(op, in);
  if (n.starts_with("Reduce"))
    return reduction(op, in);
  if (n == "Softmax" || n == "LogSoftmax" || n == "Hardmax" || n == "TopK" ||
      n == "LpNormalization")
    return alongAxis(op, in, -1);
  if (n == "ArgMax" || n == "ArgMin" || n == "Split")
    return alongAxis(op, in, 0);
  if (n == "DynamicQuantizeLinear")
    return RowWise{{in[0], Rows(), Rows()}, true};
  return std::nullopt;
}

} // namespace

bool isElementwise(Operation *op) {
  static const llvm::StringSet<> known = {
      "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh",
      "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "BitShift", "Cast",
      "Ceil", "Celu", "Clip", "Cos", "Cosh", "Div", "Elu", "Equal", "Erf", "Exp",
      "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish",
      "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log",
      "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu",
      "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign",
      "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish",
      "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor"};
  return known.contains(onnxName(op));
}

std::optional<RowWise> rowWise(Operation *op, ArrayRef<Rows> operands) {
  for (Value v : op->getOperands())
    if (!isAbsent(v) && !ranked(v))
      return std::nullopt;
  for (Value v : op->getResults())
    if (!isAbsent(v) && !ranked(v))
      return std::nullopt;
  if (op->getNumOperands() == 0 || op->getNumRegions() != 0 ||
      operands.size() != op->getNumOperands())
    return std::nullopt;
  return byName(op, operands);
}

} // namespace moec::raise
