// Fourier transforms, windows, mel weights, determinants, and sums back into images.
#include "Lists.h"
#include "Window.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

static Tensor *given(Tensors &args, size_t i) {
  return args.size() > i && !args[i].none ? &args[i] : nullptr;
}

/// Real numbers have one part, complex ones two.
static mlir::LogicalResult checkParts(Emitter &e, Value *parts) {
  if (auto count = known(parts))
    return mlir::success(*count == 1 || *count == 2);
  Value *one = e.b.CreateICmpEQ(parts, e.i64(1)), *two = e.b.CreateICmpEQ(parts, e.i64(2));
  e.check(e.b.CreateOr(one, two), "the last dimension is not 1 or 2");
  return mlir::success();
}

/// x [outer, size, inner, parts] in f64.
static Tensor transform(Emitter &e, const Tensor &x, Value *length, bool onesided, bool inverse) {
  bool toReal = onesided && inverse;
  e.check(e.b.CreateICmpSGE(length, e.i64(1)), "a transform of length below 1");
  Value *bins = onesided && !inverse ? e.add(e.arith("div", length, e.i64(2)), e.i64(1)) : length;
  Tensor out = e.allocate(DType::F64, {x.dims[0], bins, x.dims[2], e.i64(toReal ? 1 : 2)});
  e.call("op_dft", {x.data, x.dims[0], x.dims[1], x.dims[2], x.dims[3], length, bins,
                    e.i32(inverse), e.i32(toReal), out.data});
  return out;
}

namespace {
/// A shape seen from an axis that may be known at run time only: [outer, size, inner].
struct AxisView {
  Value *outer, *size, *inner;
};
} // namespace

static AxisView viewFrom(Emitter &e, llvm::ArrayRef<Value *> dims, Value *axis) {
  AxisView view{e.i64(1), e.i64(1), e.i64(1)};
  for (auto [i, d] : llvm::enumerate(dims)) {
    Value *at = e.i64(static_cast<int64_t>(i));
    auto where = [&](llvm::StringRef relation) {
      return e.select(e.arith(relation, at, axis), d, e.i64(1));
    };
    view.outer = e.mul(view.outer, where("lt"));
    view.size = e.mul(view.size, where("eq"));
    view.inner = e.mul(view.inner, where("gt"));
  }
  return view;
}

static mlir::LogicalResult dft(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  size_t rank = args[0].rank();
  if (rank < 2 || mlir::failed(checkParts(e, args[0].dims.back())))
    return e.error("a last dimension that is not 1 or 2");
  Value *axis = e.i64(-2), *count = e.i64(static_cast<int64_t>(rank));
  if (given(args, 2)) {
    auto value = e.integersOf(args[2], 1);
    if (mlir::failed(value))
      return e.error("an axis that is not one number");
    axis = value->front();
  }
  axis = e.select(e.arith("lt", axis, e.i64(0)), e.add(axis, count), axis);
  Value *inside =
      e.arith("and", e.arith("ge", axis, e.i64(0)), e.arith("lt", axis, e.sub(count, e.i64(1))));
  e.check(e.b.CreateICmpNE(inside, e.i64(0)), "the axis is out of range");
  bool inverse = intAttr(op, "inverse", 0) != 0, onesided = intAttr(op, "onesided", 0) != 0;
  Tensor x = e.denseAs(std::move(args[0]), DType::F64);
  AxisView view = viewFrom(e, llvm::ArrayRef<Value *>(x.dims).drop_back(), axis);
  Value *length = view.size;
  if (inverse && onesided)
    length = e.mul(e.i64(2), e.sub(length, e.i64(1)));
  if (given(args, 1)) {
    auto value = e.integersOf(args[1], 1);
    if (mlir::failed(value))
      return e.error("a dft_length that is not one number");
    length = value->front();
  }
  Values dims = x.dims;
  x.dims = {view.outer, view.size, view.inner, dims.back()};
  x.strides = e.rowMajor(x.dims);
  Tensor out = transform(e, x, length, onesided, inverse);
  for (size_t i = 0; i + 1 < rank; ++i) {
    Value *here = e.arith("eq", e.i64(static_cast<int64_t>(i)), axis);
    dims[i] = e.select(here, out.dims[1], dims[i]);
  }
  dims.back() = out.dims[3];
  out.dims = e.refine(std::move(dims));
  out.strides = e.rowMajor(out.dims);
  results.push_back(e.cast(std::move(out), resultType(op)));
  return mlir::success();
}

static mlir::LogicalResult stft(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  size_t rank = args[0].rank();
  auto step = e.integersOf(args[1], 1);
  if (rank < 2 || rank > 3 || mlir::failed(step))
    return e.error("a signal of another rank than 2 or 3, or a step that is not one number");
  Tensor x = e.denseAs(std::move(args[0]), DType::F64);
  if (rank == 2)
    x = e.reshape(x, {x.dims[0], x.dims[1], e.i64(1)});
  if (mlir::failed(checkParts(e, x.dims[2])))
    return e.error("a signal whose last dimension is not 1 or 2");
  Value *length = x.dims[1], *one = e.i64(1), *hop = step->front();
  if (given(args, 2))
    length = e.product(args[2].dims);
  if (given(args, 3)) {
    auto value = e.integersOf(args[3], 1);
    if (mlir::failed(value))
      return e.error("a frame_length that is not one number");
    length = value->front();
  }
  e.check(e.b.CreateICmpSGE(hop, one), "a step below 1");
  e.check(e.b.CreateICmpSLE(length, x.dims[1]), "a frame is longer than the signal");
  Value *frames = e.add(e.arith("div", e.sub(x.dims[1], length), hop), one);
  Tensor view = x; // [batch, frames, length, parts]
  view.dims = {x.dims[0], frames, length, x.dims[2]};
  view.strides = {x.strides[0], e.mul(hop, x.strides[1]), x.strides[1], x.strides[2]};
  if (given(args, 2)) {
    Tensor window = e.denseAs(*given(args, 2), DType::F64);
    Value *size =
        e.checkEqual(e.product(window.dims), length, "the window does not fit the frames");
    view = e.lazy("Mul", DType::F64, {std::move(view), e.reshape(window, {size, one})});
  }
  Tensor framed = e.dense(std::move(view));
  framed.dims = {e.mul(x.dims[0], frames), length, one, x.dims[2]};
  framed.strides = e.rowMajor(framed.dims);
  Tensor out = transform(e, framed, length, intAttr(op, "onesided", 1) != 0, false);
  out.dims = e.refine({x.dims[0], frames, out.dims[1], e.i64(2)});
  out.strides = e.rowMajor(out.dims);
  results.push_back(e.cast(std::move(out), resultType(op)));
  return mlir::success();
}

/// a0 - a1 cos(2 pi i / n) + a2 cos(4 pi i / n)
static mlir::LogicalResult cosineWindow(Emitter &e, mlir::Operation *op, Tensors &args,
                                        Tensors &results) {
  llvm::StringRef name = op->getName().stripDialect();
  auto size = e.integersOf(args[0], 1);
  if (mlir::failed(size))
    return e.error("a size that is not one number");
  double a1 = name == "HammingWindow" ? 21.0 / 46 : 0.5;
  double a0 = name == "BlackmanWindow" ? 0.42 : 1 - a1, a2 = name == "BlackmanWindow" ? 0.08 : 0;
  Values dims = e.refine({e.arith("max", size->front(), e.i64(0))});
  Value *n = intAttr(op, "periodic", 1) != 0 ? dims[0] : e.sub(dims[0], e.i64(1));
  constexpr DType type = DType::F64;
  auto binary = [&](llvm::StringRef f, Tensor x, Tensor y) {
    return e.lazy(f, type, {std::move(x), std::move(y)});
  };
  Tensor turn = binary("Mul", e.cast(e.iota(dims, 0), type), e.scalar(type, 6.283185307179586));
  turn = binary("Div", std::move(turn), e.cast(e.fromIntegers(DType::I64, {n}, true), type));
  turn = e.inMemory(std::move(turn));
  Tensor once = binary("Mul", e.lazy("Cos", type, {turn}), e.scalar(type, a1));
  Tensor out = binary("Sub", e.scalar(type, a0), std::move(once));
  if (a2 != 0) {
    Tensor twice = e.lazy("Cos", type, {binary("Add", turn, turn)});
    out = binary("Add", std::move(out), binary("Mul", std::move(twice), e.scalar(type, a2)));
  }
  results.push_back(e.cast(std::move(out), resultType(op)));
  return mlir::success();
}

static mlir::LogicalResult melWeights(Emitter &e, mlir::Operation *op, Tensors &args,
                                      Tensors &results) {
  Values sizes;
  for (size_t i = 0; i < 3; ++i) {
    auto value = e.integersOf(args[i], 1);
    if (mlir::failed(value))
      return e.error("sizes that are not single numbers");
    sizes.push_back(value->front());
  }
  Value *bins = e.add(e.arith("div", sizes[1], e.i64(2)), e.i64(1));
  e.check(e.b.CreateICmpSGE(sizes[0], e.i64(1)), "num_mel_bins is below 1");
  e.check(e.b.CreateICmpSGE(sizes[1], e.i64(1)), "dft_length is below 1");
  Tensor low = e.denseAs(std::move(args[3]), DType::F64);
  Tensor high = e.denseAs(std::move(args[4]), DType::F64);
  Tensor out = e.allocate(DType::F64, e.refine({bins, sizes[0]}));
  e.call("op_mel_weights",
         {sizes[0], sizes[1], sizes[2], low.data, high.data, out.data, e.cstring(e.nodeName())});
  results.push_back(e.cast(std::move(out), resultType(op)));
  return mlir::success();
}

static mlir::LogicalResult det(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  size_t rank = args[0].rank();
  if (rank < 2)
    return e.error("an input of rank below 2");
  Tensor x = e.denseAs(std::move(args[0]), DType::F64);
  Value *n = e.checkEqual(x.dims[rank - 2], x.dims[rank - 1], "the matrices are not square");
  Values dims(x.dims.begin(), x.dims.end() - 2);
  Tensor out = e.allocate(DType::F64, dims);
  e.call("op_det", {x.data, e.product(dims), n, out.data});
  results.push_back(e.cast(std::move(out), resultType(op)));
  return mlir::success();
}

static mlir::LogicalResult col2Im(Emitter &e, mlir::Operation *op, Tensors &args,
                                  Tensors &results) {
  auto type = mlir::dyn_cast<mlir::RankedTensorType>(op->getResult(0).getType());
  auto image = e.integers(args[1]), block = e.integers(args[2]);
  if (args[0].rank() != 3 || !type || mlir::failed(image) || mlir::failed(block) ||
      block->size() != image->size())
    return e.error("an input whose rank is not 3, or sizes that are not short vectors");
  size_t n = image->size();
  Tensor x = e.denseAs(std::move(args[0]), DType::F64);
  Tensor shape; // stands for the image
  shape.dims = {e.i64(1), e.i64(1)};
  shape.dims.insert(shape.dims.end(), image->begin(), image->end());
  auto win = windowOf(e, op, shape, *block);
  if (mlir::failed(win))
    return mlir::failure();
  Value *taps = e.product(*block), *channels = e.arith("div", x.dims[1], taps);
  e.checkEqual(e.mul(channels, taps), x.dims[1], "the block does not divide the columns");
  e.checkEqual(e.product(win->out), x.dims[2], "the columns do not fit the image");
  Values dims{x.dims[0], channels}, geometry;
  dims.insert(dims.end(), image->begin(), image->end());
  for (const Values *list :
       {&win->sizes, &win->kernel, &win->strides, &win->dilations, &win->before, &win->out})
    geometry.insert(geometry.end(), list->begin(), list->end());
  Tensor out = e.allocate(DType::F64, e.refine(std::move(dims)));
  e.call("op_col2im", {x.data, e.mul(x.dims[0], channels), e.i64(static_cast<int64_t>(n)),
                       stackList(e, geometry), out.data});
  results.push_back(e.cast(std::move(out), resultType(op)));
  return mlir::success();
}

static mlir::LogicalResult maxUnpool(Emitter &e, mlir::Operation *op, Tensors &args,
                                     Tensors &results) {
  size_t rank = args[0].rank();
  if (rank < 3 || args[1].rank() != rank)
    return e.error("an input of rank below 3, or indices of another rank");
  auto kernel = spatialAttr(e, op, "kernel_shape", rank - 2, 1);
  auto strides = spatialAttr(e, op, "strides", rank - 2, 1);
  auto pads = spatialAttr(e, op, "pads", 2 * (rank - 2), 0);
  if (mlir::failed(kernel) || mlir::failed(strides) || mlir::failed(pads))
    return mlir::failure();
  Tensor x = e.denseAs(std::move(args[0]), DType::F64);
  Tensor indices = e.denseAs(std::move(args[1]), DType::I64);
  for (size_t i = 0; i < rank; ++i)
    e.checkEqual(x.dims[i], indices.dims[i], "there is not one index an element");
  Values plain{x.dims[0], x.dims[1]};
  for (size_t i = 0; i < rank - 2; ++i) {
    Value *size = e.mul(e.sub(x.dims[i + 2], e.i64(1)), (*strides)[i]);
    Value *cut = e.add((*pads)[i], (*pads)[rank - 2 + i]);
    plain.push_back(e.add(e.sub(size, cut), (*kernel)[i]));
  }
  Values dims = plain;
  if (given(args, 2)) {
    auto shape = e.integersOf(args[2], static_cast<int64_t>(rank));
    if (mlir::failed(shape))
      return e.error("an output_shape that is not a short vector");
    dims = *shape;
  }
  for (Value *d : dims)
    e.check(e.b.CreateICmpSGE(d, e.i64(0)), "a negative size");
  dims = e.refine(std::move(dims));
  Tensor out = e.allocate(DType::F64, dims);
  plain.insert(plain.end(), dims.begin(), dims.end());
  e.call("op_max_unpool",
         {x.data, indices.data, e.product(x.dims), e.i64(static_cast<int64_t>(rank)),
          stackList(e, plain), out.data, e.cstring(e.nodeName())});
  results.push_back(e.cast(std::move(out), resultType(op)));
  return mlir::success();
}

void moec::host::addSignal(Handlers &h) {
  h["DFT"] = dft;
  h["STFT"] = stft;
  h["HannWindow"] = h["HammingWindow"] = h["BlackmanWindow"] = cosineWindow;
  h["MelWeightMatrix"] = melWeights;
  h["Det"] = det;
  h["Col2Im"] = col2Im;
  h["MaxUnpool"] = maxUnpool;
}
