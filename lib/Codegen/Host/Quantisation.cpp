// Linear quantisation: integers and narrow floats from and to floats, as elementwise work.
#include "Emitter.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

/// The whole numbers that a quantised type holds; nothing for other types.
static std::optional<std::pair<int64_t, int64_t>> limitsOf(DType type) {
  bool known = narrowWidth(type) || type == DType::U8 || type == DType::I8 || type == DType::U16 ||
               type == DType::I16;
  if (!known)
    return std::nullopt;
  unsigned bits = narrowWidth(type) ? narrowWidth(type) : static_cast<unsigned>(byteSize(type)) * 8;
  int64_t half = int64_t(1) << (bits - 1);
  return isUnsigned(type) ? std::pair<int64_t, int64_t>{0, 2 * half - 1}
                          : std::pair<int64_t, int64_t>{-half, half - 1};
}

namespace {
/// x and its parameters in shapes that broadcast; the result's own dimensions are `dims`.
struct Spread {
  Tensor x, scale, zero; ///< zero.none: there is none
  Values dims;
};
} // namespace

/// One parameter for each block along the axis: x is seen with the axis split in two. Blocks that
/// do not divide the axis, or are not known to, get their parameters repeated.
static mlir::LogicalResult spreadBlocks(Emitter &e, Spread &s, size_t axis, int64_t block) {
  if (s.scale.rank() != s.x.rank())
    return e.error("scales whose rank is not the input's");
  Value *size = s.x.dims[axis], *width = e.i64(block);
  Value *count = e.arith("div", e.add(size, e.i64(block - 1)), width);
  bool whole = known(size) && *known(size) % block == 0;
  auto each = [&](Tensor &p) {
    for (size_t i = 0; i < p.rank(); ++i)
      e.checkEqual(p.dims[i], i == axis ? count : s.x.dims[i], "the scales do not fit the input");
    if (!whole) {
      Tensor i = e.iota({size}, 0), number = e.fromIntegers(DType::I64, {width}, true);
      Tensor at = e.dense(e.lazy("Div", DType::I64, {std::move(i), std::move(number)}));
      p = e.dense(std::move(p));
      Values dims = p.dims;
      dims[axis] = size;
      Tensor repeated = e.allocate(p.dtype, dims);
      e.call("op_gather", {e.view(p), e.view(at), e.i64(static_cast<int64_t>(axis)), repeated.data,
                           e.cstring(e.nodeName())});
      p = std::move(repeated);
      return;
    }
    Values dims = p.dims;
    dims.insert(dims.begin() + static_cast<int64_t>(axis) + 1, e.i64(1));
    p = e.reshape(p, std::move(dims));
  };
  each(s.scale);
  if (!s.zero.none)
    each(s.zero);
  if (whole) {
    Values dims = s.x.dims;
    dims[axis] = e.i64(*known(size) / block);
    dims.insert(dims.begin() + static_cast<int64_t>(axis) + 1, width);
    s.x = e.reshape(s.x, std::move(dims));
  }
  return mlir::success();
}

static mlir::FailureOr<Spread> spread(Emitter &e, mlir::Operation *op, Tensors &args) {
  Spread s{std::move(args[0]), std::move(args[1]), {}, {}};
  s.zero.none = true;
  if (args.size() > 2 && !args[2].none)
    s.zero = std::move(args[2]);
  s.dims = s.x.dims;
  bool vector = s.scale.rank() == 1 && known(s.scale.dims[0]) != 1;
  int64_t block = intAttr(op, "block_size", 0);
  if (s.scale.rank() <= 1 && !vector) { // one for all
    s.scale = e.reshape(s.scale, {});
    if (!s.zero.none)
      s.zero = e.reshape(s.zero, {});
    return s;
  }
  // A vector has one axis, whatever the attribute says.
  auto axis = s.x.rank() == 1 ? 0 : normalAxis(intAttr(op, "axis", 1), s.x.rank());
  if (!axis)
    return e.error("an axis out of range");
  if (!vector || block > 0) {
    if (block < 1 || mlir::failed(spreadBlocks(e, s, *axis, block)))
      return block < 1 ? e.error("scales of this shape without a block size") : mlir::failure();
    return s;
  }
  Values dims(s.x.rank() - *axis, e.i64(1));
  dims[0] = s.scale.dims[0]; // of the axis or, for all that is known, 1
  if (known(dims[0]))
    dims[0] = e.checkEqual(dims[0], s.x.dims[*axis], "the scales do not fit the axis");
  if (!s.zero.none) {
    e.checkEqual(s.zero.rank() == 1 ? s.zero.dims[0] : e.i64(1), dims[0],
                 "scales and zero points differ in number");
    s.zero = e.reshape(s.zero, dims);
  }
  s.scale = e.reshape(s.scale, std::move(dims));
  return s;
}

static mlir::LogicalResult quantize(Emitter &e, mlir::Operation *op, Tensors &args,
                                    Tensors &results) {
  DType type = resultType(op);
  auto limits = limitsOf(type);
  if (!limits && !isNarrowFloat(type))
    return e.error(llvm::Twine("quantised elements of type ") + dtypeName(type));
  auto s = spread(e, op, args);
  if (mlir::failed(s))
    return mlir::failure();
  Tensor q = e.lazy("Div", DType::F32,
                    {e.cast(std::move(s->x), DType::F32), e.cast(s->scale, DType::F32)});
  if (!limits) { // the standard gives a float's zero point no meaning but zero
    q = e.lazy("Cast", type, {std::move(q)}, {intAttr(op, "saturate", 1) ? 0.0 : 1.0, 0});
  } else {
    q = e.lazy("Round", DType::F32, {std::move(q)});
    if (!s->zero.none)
      q = e.lazy("Add", DType::F32, {std::move(q), e.cast(s->zero, DType::F32)});
    auto bound = [&](int64_t v) { return e.scalar(DType::F32, static_cast<double>(v)); };
    q = e.lazy("Max", DType::F32, {std::move(q), bound(limits->first)});
    q = e.lazy("Min", DType::F32, {std::move(q), bound(limits->second)});
    q = e.cast(std::move(q), type);
  }
  results.push_back(q.dims == s->dims ? std::move(q) : e.reshape(q, s->dims));
  return mlir::success();
}

static mlir::LogicalResult dequantize(Emitter &e, mlir::Operation *op, Tensors &args,
                                      Tensors &results) {
  DType type = resultType(op), from = args[0].dtype;
  if (!limitsOf(from) && !isNarrowFloat(from) && from != DType::I32)
    return e.error(llvm::Twine("quantised elements of type ") + dtypeName(from));
  auto s = spread(e, op, args);
  if (mlir::failed(s))
    return mlir::failure();
  Tensor x;
  if (s->zero.none || isFloat(from)) {
    x = e.cast(std::move(s->x), DType::F32);
    if (!s->zero.none)
      x = e.lazy("Sub", DType::F32, {std::move(x), e.cast(s->zero, DType::F32)});
  } else { // the difference is a whole number that f32 holds
    x = e.lazy("Sub", DType::I32, {e.cast(std::move(s->x), DType::I32), e.cast(s->zero, DType::I32)});
    x = e.cast(std::move(x), DType::F32);
  }
  x = e.lazy("Mul", DType::F32, {std::move(x), e.cast(s->scale, DType::F32)});
  x = e.cast(std::move(x), type);
  results.push_back(x.dims == s->dims ? std::move(x) : e.reshape(x, s->dims));
  return mlir::success();
}

void moec::host::addQuantisation(Handlers &h) {
  h["QuantizeLinear"] = quantize;
  h["DequantizeLinear"] = dequantize;
}
