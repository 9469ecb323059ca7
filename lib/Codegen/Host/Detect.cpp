// Regions of interest, suppression of boxes, deformed convolutions.
#include "Lists.h"
#include "Window.h"
#include "moec/Codegen/KernelSpec/KernelSpec.h"
#include <limits>

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

static Tensor *given(Tensors &args, size_t i) {
  return args.size() > i && !args[i].none ? &args[i] : nullptr;
}

static Value *number32(Emitter &e, double value) {
  return llvm::ConstantFP::get(e.b.getFloatTy(), value);
}

static mlir::LogicalResult roiAlign(Emitter &e, mlir::Operation *op, Tensors &args,
                                    Tensors &results) {
  if (args[0].rank() != 4 || args[1].rank() != 2 || args[2].rank() != 1)
    return e.error("an input whose rank is not 4, or regions that are not [n, 4] and [n]");
  auto at =
      choiceAttr(e, op, "coordinate_transformation_mode", {"half_pixel", "output_half_pixel"});
  auto mode = choiceAttr(e, op, "mode", {"avg", "max"});
  int64_t rows = intAttr(op, "output_height", 1), columns = intAttr(op, "output_width", 1);
  if (mlir::failed(at) || mlir::failed(mode))
    return mlir::failure();
  if (rows < 1 || columns < 1)
    return e.error("an output size below 1");
  Tensor x = e.denseAs(std::move(args[0]), DType::F64);
  Tensor rois = e.denseAs(std::move(args[1]), DType::F64);
  Tensor batches = e.denseAs(std::move(args[2]), DType::I64);
  Value *count = e.checkEqual(rois.dims[0], batches.dims[0], "there is not one batch index a roi");
  e.checkEqual(rois.dims[1], e.i64(4), "rois have not four numbers");
  Tensor out = e.allocate(DType::F64, {count, x.dims[1], e.i64(rows), e.i64(columns)});
  std::vector<int64_t> options{rows, columns, intAttr(op, "sampling_ratio", 0), *at == 0, *mode};
  e.call("op_roi_align",
         {x.data, stackList(e, x.dims), rois.data, batches.data, count, constantList(e, options),
          number32(e, floatAttr(op, "spatial_scale", 1)), out.data, e.cstring(e.nodeName())});
  results.push_back(e.cast(std::move(out), resultType(op)));
  return mlir::success();
}

static mlir::LogicalResult maxRoiPool(Emitter &e, mlir::Operation *op, Tensors &args,
                                      Tensors &results) {
  auto pooled = intsAttr(op, "pooled_shape");
  if (args[0].rank() != 4 || args[1].rank() != 2 || !pooled || pooled->size() != 2 ||
      (*pooled)[0] < 1 || (*pooled)[1] < 1)
    return e.error("an input whose rank is not 4, or regions that are not [n, 5]");
  Tensor x = e.denseAs(std::move(args[0]), DType::F64);
  Tensor rois = e.denseAs(std::move(args[1]), DType::F64);
  e.checkEqual(rois.dims[1], e.i64(5), "rois have not five numbers");
  Value *rows = e.i64((*pooled)[0]), *columns = e.i64((*pooled)[1]);
  Tensor out = e.allocate(DType::F64, {rois.dims[0], x.dims[1], rows, columns});
  e.call("op_max_roi_pool",
         {x.data, stackList(e, x.dims), rois.data, rois.dims[0], rows, columns,
          number32(e, floatAttr(op, "spatial_scale", 1)), out.data, e.cstring(e.nodeName())});
  results.push_back(e.cast(std::move(out), resultType(op)));
  return mlir::success();
}

/// The only element of a float input as f64.
static Value *loadDouble(Emitter &e, const Tensor &t) {
  Tensor wide = e.denseAs(t, DType::F64);
  e.checkEqual(e.product(wide.dims), e.i64(1), "a threshold is not one number");
  return e.b.CreateLoad(e.b.getDoubleTy(), wide.data);
}

static mlir::LogicalResult nonMaxSuppression(Emitter &e, mlir::Operation *op, Tensors &args,
                                             Tensors &results) {
  if (args[0].rank() != 3 || args[1].rank() != 3)
    return e.error("boxes or scores whose rank is not 3");
  Value *most = e.i64(0);
  if (given(args, 2)) {
    auto value = e.integersOf(args[2], 1);
    if (mlir::failed(value))
      return e.error("max_output_boxes_per_class that is not one number");
    most = value->front();
  }
  Tensor boxes = e.denseAs(std::move(args[0]), DType::F64);
  Tensor scores = e.denseAs(std::move(args[1]), DType::F64);
  e.checkEqual(boxes.dims[0], scores.dims[0], "boxes and scores have different batches");
  e.checkEqual(boxes.dims[1], scores.dims[2], "there is not one score a box");
  e.checkEqual(boxes.dims[2], e.i64(4), "boxes have not four numbers");
  auto constant = [&](double v) -> Value * { return llvm::ConstantFP::get(e.b.getDoubleTy(), v); };
  Value *limit = given(args, 3) ? loadDouble(e, args[3]) : constant(0);
  Value *threshold =
      given(args, 4) ? loadDouble(e, args[4]) : constant(-std::numeric_limits<double>::infinity());
  Value *numbers = e.stackSlot(e.b.getDoubleTy(), 2);
  e.b.CreateStore(limit, numbers);
  e.b.CreateStore(threshold, e.b.CreateConstInBoundsGEP1_64(e.b.getDoubleTy(), numbers, 1));
  Value *slot = e.stackSlot(e.b.getPtrTy(), 1);
  Value *count =
      e.call("op_nms", {boxes.data, scores.data, boxes.dims[0], scores.dims[1], boxes.dims[1], most,
                        e.i32(intAttr(op, "center_point_box", 0) != 0), numbers, slot});
  Tensor out;
  out.dtype = out.storage = DType::I64;
  out.dims = {count, e.i64(3)};
  out.strides = e.rowMajor(out.dims);
  out.data = e.b.CreateLoad(e.b.getPtrTy(), slot);
  out.buffer = std::make_shared<Buffer>(e, out.data);
  results.push_back(std::move(out));
  return mlir::success();
}

/// out[n, g, m, p] = sum over k of w[g, m, k] * columns[n, g, k, p].
static Tensor grouped(Emitter &e, const Tensor &w, const Tensor &columns, Value *out) {
  Value *batch = columns.dims[0], *groups = columns.dims[1], *k = columns.dims[2];
  Value *p = columns.dims[3], *zero = e.i64(0), *one = e.i64(1);
  Tensor sums = e.allocate(columns.dtype, {batch, groups, out, p});
  if (columns.dtype == DType::F32) {
    unsigned slot = e.kernelSlot(moec::bgemmSpec().text());
    Value *matrix = e.mul(out, p);
    e.call("bgemm", {e.i32(static_cast<int32_t>(slot)),
                     batch,
                     groups,
                     out,
                     p,
                     k,
                     w.data,
                     zero,
                     e.mul(out, k),
                     k,
                     one,
                     columns.data,
                     columns.strides[0],
                     columns.strides[1],
                     p,
                     one,
                     sums.data,
                     e.mul(matrix, groups),
                     matrix,
                     p});
    return sums;
  }
  Tensor a = w, b = columns, to = sums;
  a.dims = b.dims = {batch, groups, out, k, p};
  a.strides = {zero, e.mul(out, k), k, one, zero};
  b.strides = {columns.strides[0], columns.strides[1], zero, p, one};
  to.dims = {batch, groups, out, one, p};
  to.strides = e.rowMajor(to.dims);
  e.reduce("sum", e.lazy("Mul", columns.dtype, {a, b}), {false, false, false, true, false}, to);
  return sums;
}

static mlir::LogicalResult deformConv(Emitter &e, mlir::Operation *op, Tensors &args,
                                      Tensors &results) {
  if (args[0].rank() != 4 || args[1].rank() != 4 || args[2].rank() != 4)
    return e.error("DeformConv of a rank other than 4");
  DType type = args[0].dtype == DType::F64 ? DType::F64 : DType::F32;
  auto win = windowOf(e, op, args[0], Values(args[1].dims.begin() + 2, args[1].dims.end()));
  if (mlir::failed(win))
    return mlir::failure();
  Value *groups = e.i64(std::max<int64_t>(intAttr(op, "group", 1), 1));
  Value *offsetGroups = e.i64(std::max<int64_t>(intAttr(op, "offset_group", 1), 1));
  Tensor x = e.denseAs(std::move(args[0]), DType::F64), w = e.denseAs(args[1], type);
  Tensor offsets = e.denseAs(std::move(args[2]), DType::F64), mask;
  if (given(args, 4))
    mask = e.denseAs(*given(args, 4), DType::F64);
  Value *taps = e.product(win->kernel), *positions = e.product(win->out);
  Value *each = e.arith("div", w.dims[0], groups);
  e.checkEqual(e.mul(each, groups), w.dims[0], "the groups do not divide the weights");
  e.checkEqual(e.mul(w.dims[1], groups), x.dims[1], "the channels of input and weights differ");
  e.checkEqual(e.arith("rem", x.dims[1], offsetGroups), e.i64(0),
               "offset_group does not divide the channels");
  Value *entries = e.mul(x.dims[0], e.mul(offsetGroups, e.mul(taps, positions)));
  e.checkEqual(e.product(offsets.dims), e.mul(entries, e.i64(2)), "the offsets do not fit");
  if (mask.data)
    e.checkEqual(e.product(mask.dims), entries, "the mask does not fit");
  Values geometry;
  for (const Values *list : {&win->kernel, &win->strides, &win->dilations, &win->before, &win->out})
    geometry.insert(geometry.end(), list->begin(), list->end());
  Tensor columns = e.allocate(DType::F64, {x.dims[0], groups, e.mul(taps, w.dims[1]), positions});
  e.call("op_deform_columns",
         {x.data, stackList(e, x.dims), offsets.data, mask.data ? mask.data : e.null(),
          offsetGroups, stackList(e, geometry), columns.data});
  Tensor out = grouped(e, w, e.denseAs(std::move(columns), type), each);
  out.dims = e.refine({x.dims[0], w.dims[0], win->out[0], win->out[1]});
  out.strides = e.rowMajor(out.dims);
  if (Tensor *bias = given(args, 3)) {
    e.checkEqual(e.product(bias->dims), w.dims[0], "the bias does not fit the channels");
    Tensor b = e.reshape(e.cast(*bias, type), {w.dims[0], e.i64(1), e.i64(1)});
    out = e.lazy("Add", type, {std::move(out), std::move(b)});
  }
  results.push_back(e.cast(std::move(out), resultType(op)));
  return mlir::success();
}

void moec::host::addDetection(Handlers &h) {
  h["RoiAlign"] = roiAlign;
  h["MaxRoiPool"] = maxRoiPool;
  h["NonMaxSuppression"] = nonMaxSuppression;
  h["DeformConv"] = deformConv;
}
