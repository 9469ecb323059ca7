// Resize, GridSample, AffineGrid: calls of the runtime's operators, which compute in f64.
#include "Lists.h"
#include <cmath>

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

static Tensor *given(Tensors &args, size_t i) {
  return args.size() > i && !args[i].none ? &args[i] : nullptr;
}

/// An input that may be given as an empty list.
static Tensor *filled(Tensors &args, size_t i) {
  Tensor *t = given(args, i);
  bool empty = t && llvm::any_of(t->dims, [](Value *d) { return known(d) == 0; });
  return empty ? nullptr : t;
}

/// f64 results as the op's type; integers are rounded and kept in range.
static Tensor narrowed(Emitter &e, mlir::Operation *op, Tensor out) {
  DType type = resultType(op);
  if (isFloat(type) || type == DType::Bool)
    return e.cast(std::move(out), type);
  int64_t bits = 8 * byteSize(type);
  double low = isUnsigned(type) ? 0 : -std::ldexp(1.0, static_cast<int>(bits) - 1);
  double high = std::ldexp(1.0, static_cast<int>(isUnsigned(type) ? bits : bits - 1)) - 1;
  out = e.lazy("Round", DType::F64, {std::move(out)});
  out = e.lazy("Max", DType::F64, {std::move(out), e.scalar(DType::F64, low)});
  out = e.lazy("Min", DType::F64, {std::move(out), e.scalar(DType::F64, high)});
  return e.cast(std::move(out), type);
}

/// Which axes a Resize names, counted from the front.
static mlir::FailureOr<std::vector<int64_t>> resizedAxes(Emitter &e, mlir::Operation *op,
                                                         size_t rank) {
  std::vector<int64_t> axes;
  for (int64_t a : intsAttr(op, "axes").value_or(std::vector<int64_t>{})) {
    auto axis = normalAxis(a, rank);
    if (!axis)
      return e.error("an axis out of range");
    axes.push_back(static_cast<int64_t>(*axis));
  }
  bool all = axes.empty();
  for (size_t i = 0; all && i < rank; ++i)
    axes.push_back(static_cast<int64_t>(i));
  return axes;
}

/// Starts, then ends of all axes as f64; null unless the mode reads them.
static mlir::FailureOr<Value *> regionOf(Emitter &e, Tensors &args, size_t rank,
                                         const std::vector<int64_t> &axes, bool crops) {
  Tensor *roi = filled(args, 1);
  if (!roi || !crops)
    return e.null();
  Tensor wide = e.denseAs(*roi, DType::F64);
  if (wide.rank() != 1)
    return e.error("a roi that is no vector");
  e.checkEqual(wide.dims[0], e.i64(static_cast<int64_t>(2 * axes.size())),
               "roi has not two elements for each axis");
  Value *list = e.stackSlot(e.b.getDoubleTy(), 2 * rank);
  auto at = [&](Value *base, uint64_t i) {
    return e.b.CreateConstInBoundsGEP1_64(e.b.getDoubleTy(), base, i);
  };
  for (size_t i = 0; i < 2 * rank; ++i)
    e.b.CreateStore(llvm::ConstantFP::get(e.b.getDoubleTy(), i < rank ? 0 : 1), at(list, i));
  for (size_t i = 0; i < 2 * axes.size(); ++i) {
    Value *v = e.b.CreateLoad(e.b.getDoubleTy(), at(wide.data, i));
    size_t axis = static_cast<size_t>(axes[i % axes.size()]);
    e.b.CreateStore(v, at(list, i < axes.size() ? axis : rank + axis));
  }
  return list;
}

static mlir::LogicalResult resize(Emitter &e, mlir::Operation *op, Tensors &args,
                                  Tensors &results) {
  size_t rank = args[0].rank();
  auto axes = resizedAxes(e, op, rank);
  auto mode = choiceAttr(e, op, "mode", {"nearest", "linear", "cubic"});
  auto at = choiceAttr(e, op, "coordinate_transformation_mode",
                       {"half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize",
                        "pytorch_half_pixel", "half_pixel_symmetric"});
  auto nearest = choiceAttr(e, op, "nearest_mode",
                            {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"});
  auto policy =
      choiceAttr(e, op, "keep_aspect_ratio_policy", {"stretch", "not_larger", "not_smaller"});
  if (mlir::failed(axes) || mlir::failed(mode) || mlir::failed(at) || mlir::failed(nearest) ||
      mlir::failed(policy))
    return mlir::failure();
  Tensor *scales = filled(args, 2), *sizes = filled(args, 3);
  if (!scales == !sizes)
    return e.error("not exactly one of scales and sizes");
  Tensor factors = sizes ? e.denseAs(*sizes, DType::I64) : e.denseAs(*scales, DType::F32);
  auto count = static_cast<int64_t>(axes->size());
  e.checkEqual(e.product(factors.dims), e.i64(count), "there is not one scale or size an axis");
  auto roi = regionOf(e, args, rank, *axes, *at == 3);
  if (mlir::failed(roi))
    return mlir::failure();
  Tensor x = e.denseAs(std::move(args[0]), DType::F64);
  Value *in = stackList(e, x.dims), *list = constantList(e, *axes);
  Value *scale = e.stackSlot(e.b.getDoubleTy(), std::max<size_t>(rank, 1));
  Value *out = e.stackSlot(e.b.getInt64Ty(), std::max<size_t>(rank, 1));
  Value *n = e.i64(static_cast<int64_t>(rank));
  e.call("op_resize_plan", {n, in, e.i64(count), list, sizes ? e.null() : factors.data,
                            sizes ? factors.data : e.null(), e.i32(static_cast<int32_t>(*policy)),
                            scale, out, e.cstring(e.nodeName())});
  Values dims;
  for (size_t i = 0; i < rank; ++i)
    dims.push_back(llvm::is_contained(*axes, static_cast<int64_t>(i)) ? listElement(e, out, i)
                                                                      : x.dims[i]);
  dims = e.refine(std::move(dims));
  Tensor y = e.allocate(DType::F64, dims);
  std::vector<int64_t> options{*mode, *at, *nearest, intAttr(op, "antialias", 0),
                               intAttr(op, "exclude_outside", 0)};
  std::vector<double> numbers{floatAttr(op, "cubic_coeff_a", -0.75),
                              floatAttr(op, "extrapolation_value", 0)};
  e.call("op_resize", {n, x.data, in, out, scale, *roi, constantList(e, options),
                       constantList(e, numbers), y.data});
  results.push_back(narrowed(e, op, std::move(y)));
  return mlir::success();
}

static mlir::LogicalResult gridSample(Emitter &e, mlir::Operation *op, Tensors &args,
                                      Tensors &results) {
  size_t rank = args[0].rank();
  if (rank < 3 || args[1].rank() != rank)
    return e.error("an input or grid of another rank");
  std::string name = stringAttr(op, "mode", "linear");
  int64_t mode = llvm::StringSwitch<int64_t>(name)
                     .Case("nearest", 0)
                     .Cases({"linear", "bilinear"}, 1)
                     .Cases({"cubic", "bicubic"}, 2)
                     .Default(-1);
  auto padding = choiceAttr(e, op, "padding_mode", {"zeros", "border", "reflection"});
  if (mode < 0)
    return e.error("mode = " + name);
  if (mlir::failed(padding))
    return mlir::failure();
  auto axes = static_cast<int64_t>(rank) - 2;
  Tensor x = e.denseAs(std::move(args[0]), DType::F64);
  Tensor grid = e.denseAs(std::move(args[1]), DType::F64);
  e.checkEqual(grid.dims[0], x.dims[0], "the grid is for another batch");
  e.checkEqual(grid.dims.back(), e.i64(axes), "the grid's points have another number of axes");
  Values dims{x.dims[0], x.dims[1]};
  dims.insert(dims.end(), grid.dims.begin() + 1, grid.dims.end() - 1);
  Value *points = e.product(llvm::ArrayRef<Value *>(dims).drop_front(2));
  dims = e.refine(std::move(dims));
  Tensor y = e.allocate(DType::F64, dims);
  std::vector<int64_t> options{mode, *padding, intAttr(op, "align_corners", 0)};
  e.call("op_grid_sample", {e.i64(axes), x.data, stackList(e, x.dims), grid.data, points,
                            constantList(e, options), y.data});
  results.push_back(e.cast(std::move(y), resultType(op)));
  return mlir::success();
}

static mlir::LogicalResult affineGrid(Emitter &e, mlir::Operation *op, Tensors &args,
                                      Tensors &results) {
  if (args[0].rank() != 3)
    return e.error("theta whose rank is not 3");
  auto fixed = mlir::dyn_cast<mlir::RankedTensorType>(op->getResult(0).getType());
  auto length = known(args[0].dims[1]);
  if (!length && fixed)
    length = fixed.getRank() - 2;
  if (!length || *length < 1)
    return e.error("theta of unknown size");
  auto size = e.integersOf(args[1], *length + 2);
  if (mlir::failed(size))
    return e.error("a size that does not fit theta");
  Tensor theta = e.denseAs(std::move(args[0]), DType::F64);
  e.checkEqual(theta.dims[0], (*size)[0], "theta is for another batch");
  e.checkEqual(theta.dims[1], e.i64(*length), "theta does not fit the size");
  e.checkEqual(theta.dims[2], e.i64(*length + 1), "theta does not fit the size");
  Values dims{(*size)[0]};
  dims.insert(dims.end(), size->begin() + 2, size->end());
  dims.push_back(e.i64(*length));
  dims = e.refine(std::move(dims));
  for (Value *d : dims)
    if (!known(d))
      e.check(e.b.CreateICmpSGE(d, e.i64(0)), "a negative size");
  Tensor grid = e.allocate(DType::F64, dims);
  e.call("op_affine_grid", {e.i64(*length), theta.data, stackList(e, dims),
                            e.i32(intAttr(op, "align_corners", 0) != 0), grid.data});
  results.push_back(e.cast(std::move(grid), resultType(op)));
  return mlir::success();
}

void moec::host::addResampling(Handlers &h) {
  h["Resize"] = resize;
  h["GridSample"] = gridSample;
  h["AffineGrid"] = affineGrid;
}
