#include "Decompose.h"
#include "mlir/IR/BuiltinAttributes.h"
#include <cmath>
#include <limits>

using namespace mlir;

namespace moec::prepare {

int64_t intAttr(Attribute attr, int64_t otherwise) {
  auto i = dyn_cast_or_null<IntegerAttr>(attr);
  return i ? i.getInt() : otherwise;
}

double floatAttr(Attribute attr, double otherwise) {
  auto f = dyn_cast_or_null<FloatAttr>(attr);
  return f ? f.getValueAsDouble() : otherwise;
}

void replaceResult(OnnxBuilder &b, Operation *op, unsigned result, Value value) {
  Value old = op->getResult(result);
  bool ends = llvm::any_of(old.getUsers(), [](Operation *user) {
    return user->hasTrait<OpTrait::IsTerminator>();
  });
  if (ends && value.getType() != old.getType()) {
    if (value.getDefiningOp() && value.use_empty())
      value.setType(old.getType());
    else
      value = b.op("Identity", value, old.getType());
  }
  old.replaceAllUsesWith(value);
}

Value rmsNorm(OnnxBuilder &b, Value x, Value scale, int64_t axis,
              double epsilon) {
  auto type = rankedType(x);
  Type element = type.getElementType(), f32 = b.builder.getF32Type();
  if (axis < 0)
    axis += type.getRank();
  SmallVector<int64_t> axes;
  for (int64_t i = axis; i < type.getRank(); ++i)
    axes.push_back(i);
  Value wide = b.cast(x, f32);
  Value mean = b.reduce("ReduceMean", b.binary("Mul", wide, wide), axes);
  Value root =
      b.unary("Sqrt", b.binary("Add", mean, b.scalar(f32, epsilon)));
  Value normal = b.cast(b.binary("Div", wide, root), element);
  return b.binary("Mul", normal, b.cast(scale, element));
}

Value gelu(OnnxBuilder &b, Value x, bool tanh) {
  Type t = rankedType(x).getElementType();
  Value inner;
  if (tanh) {
    Value cube = b.binary("Mul", b.binary("Mul", x, x), x);
    Value poly =
        b.binary("Add", x, b.binary("Mul", cube, b.scalar(t, 0.044715)));
    inner = b.unary("Tanh", b.binary("Mul", poly,
                                     b.scalar(t, 0.7978845608028654)));
  } else {
    inner = b.unary("Erf", b.binary("Mul", x, b.scalar(t, M_SQRT1_2)));
  }
  Value half = b.binary("Mul", x, b.scalar(t, 0.5));
  return b.binary("Mul", half, b.binary("Add", inner, b.scalar(t, 1.0)));
}

Value swish(OnnxBuilder &b, Value x, double alpha) {
  Type t = rankedType(x).getElementType();
  Value arg = alpha == 1.0 ? x : b.binary("Mul", x, b.scalar(t, alpha));
  return b.binary("Mul", x, b.unary("Sigmoid", arg));
}

std::optional<Value> rotary(OnnxBuilder &b, Value x, Value cos, Value sin,
                            const Rotary &options) {
  auto type = rankedType(x);
  auto cosType = rankedType(cos);
  if (!type || !cosType || cosType.getRank() != 3 || !rankedType(sin))
    return std::nullopt;
  bool flat = type.getRank() == 3;
  int64_t width = type.getShape().back();
  // The heads are as wide as the rotated part unless a part is named.
  if (width < 0 && options.wholeHead && options.rotaryDim > 0)
    width = flat ? options.heads * options.rotaryDim : options.rotaryDim;
  if ((!flat && type.getRank() != 4) || width <= 0 ||
      (flat && (options.heads <= 0 || width % options.heads != 0)))
    return std::nullopt;
  int64_t size = flat ? width / options.heads : width;
  int64_t dim = options.rotaryDim > 0 ? options.rotaryDim : size;
  if (dim > size || dim % 2 != 0)
    return std::nullopt;
  Value heads = flat ? b.reshape(x, {0, 0, options.heads, size}) : x;
  int64_t headAxis = flat ? 2 : 1;
  Value c = b.unsqueeze(cos, headAxis), s = b.unsqueeze(sin, headAxis);
  Value turned = dim < size ? b.slice(heads, 3, 0, dim) : heads;
  bool pairs = options.interleaved;
  Value re = pairs ? b.slice(turned, 3, 0, dim, 2) : b.slice(turned, 3, 0, dim / 2);
  Value im = pairs ? b.slice(turned, 3, 1, dim, 2)
                   : b.slice(turned, 3, dim / 2, dim);
  Value outRe = b.binary("Sub", b.binary("Mul", re, c), b.binary("Mul", im, s));
  Value outIm = b.binary("Add", b.binary("Mul", re, s), b.binary("Mul", im, c));
  Value out;
  if (pairs)
    out = b.reshape(b.concat({b.unsqueeze(outRe, 4), b.unsqueeze(outIm, 4)}, 4),
                    {0, 0, 0, dim});
  else
    out = b.concat({outRe, outIm}, 3);
  if (dim < size)
    out = b.concat({out, b.slice(heads, 3, dim, size)}, 3);
  return flat ? b.reshape(out, {0, 0, width}) : out;
}

Value causalMask(OnnxBuilder &b, Value q, Value k, Value offset) {
  Type i64 = b.builder.getI64Type();
  Value zero = b.scalar(i64, 0), one = b.scalar(i64, 1);
  auto positions = [&](Value x) {
    Value scalar = b.op("Squeeze", {b.shape(x, 2, 3), b.ints(0)},
                        RankedTensorType::get({}, i64));
    return b.op("Range", {zero, scalar, one},
                RankedTensorType::get({rankedType(x).getDimSize(2)}, i64));
  };
  Value rows = positions(q), columns = positions(k);
  if (offset)
    rows = b.binary("Add", rows, offset);
  return b.binary("LessOrEqual", b.unsqueeze(columns, 0),
                  b.unsqueeze(rows, 1));
}

Value kernelMask(OnnxBuilder &b, Value mask, Value q, Value k) {
  SmallVector<int64_t> axes;
  for (int64_t i = rankedType(mask).getRank(); i < 4; ++i)
    axes.push_back(static_cast<int64_t>(axes.size()));
  if (!axes.empty())
    mask = b.unsqueeze(mask, axes);
  auto type = rankedType(mask);
  int64_t rows = rankedType(q).getDimSize(2), columns = rankedType(k).getDimSize(2);
  bool wideRows = type.getDimSize(2) == 1 && rows != 1;
  bool wideColumns = type.getDimSize(3) == 1 && columns != 1;
  if (!wideRows && !wideColumns)
    return mask;
  Value one = b.ints(1);
  Value shape = b.concat({one, one, wideRows ? b.shape(q, 2, 3) : one,
                          wideColumns ? b.shape(k, 2, 3) : one},
                         0);
  SmallVector<int64_t> dims(type.getShape());
  dims[2] = wideRows ? rows : dims[2];
  dims[3] = wideColumns ? columns : dims[3];
  return b.op("Expand", {mask, shape},
              RankedTensorType::get(dims, type.getElementType()));
}

Value attentionOp(OnnxBuilder &b, Value q, Value k, Value v,
                  const Scores &options) {
  auto type = rankedType(q);
  SmallVector<int64_t> dims(type.getShape());
  dims[3] = rankedType(v).getDimSize(3);
  Value none = b.none();
  OperationState state(b.loc, "onnx.Attention");
  state.addOperands({q, k, v, options.mask ? options.mask : none, none, none, none});
  Type absentType = b.builder.getNoneType();
  state.addTypes({RankedTensorType::get(dims, type.getElementType()), absentType,
                  absentType, absentType});
  state.addAttributes({b.attr("scale", options.scale),
                       b.attr("is_causal", int64_t(options.causal)),
                       b.attr("softcap", 0.0),
                       b.attr("qk_matmul_output_mode", int64_t(0)),
                       b.attr("left_window_size", int64_t(-1)),
                       b.attr("right_window_size", int64_t(-1))});
  return b.builder.create(state)->getResult(0);
}

Value attend(OnnxBuilder &b, Value q, Value k, Value v, const Scores &options) {
  Type element = rankedType(q).getElementType();
  Value scores = b.matmul(q, b.transpose(k, {0, 1, 3, 2}));
  scores = b.binary("Mul", scores, b.scalar(element, options.scale));
  Value low = b.scalar(element, -std::numeric_limits<double>::infinity());
  Value zero = b.scalar(element, 0);
  auto where = [&](Value mask) {
    return b.op("Where", {mask, zero, low},
                rankedType(mask).clone(element));
  };
  if (options.softcap != 0) { // before the masks, which it would make finite
    Value cap = b.scalar(element, options.softcap);
    scores = b.binary("Mul", b.unary("Tanh", b.binary("Div", scores, cap)), cap);
  }
  if (options.causal)
    scores = b.binary("Add", scores,
                      where(causalMask(b, q, k, options.offset)));
  if (options.mask) {
    bool boolean = rankedType(options.mask).getElementType().isInteger(1);
    scores = b.binary("Add", scores,
                      boolean ? where(options.mask)
                              : b.cast(options.mask, element));
  }
  return b.matmul(b.softmax(scores, -1), v);
}

} // namespace moec::prepare
