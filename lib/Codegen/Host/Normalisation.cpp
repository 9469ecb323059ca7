// Normalisations with learned scales: of batches, instances, groups and chosen axes.
#include "Window.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

static DType wideType(DType type) {
  return type == DType::F16 || type == DType::BF16 ? DType::F32 : type;
}

static Tensor binary(Emitter &e, llvm::StringRef op, Tensor a, Tensor b) {
  DType type = a.dtype;
  return e.lazy(op, type, {std::move(a), std::move(b)});
}

/// The mean over the dimensions where `reduced`.
static Tensor mean(Emitter &e, const Tensor &x, const std::vector<bool> &reduced) {
  Values sizes;
  for (size_t i = 0; i < reduced.size(); ++i)
    if (reduced[i])
      sizes.push_back(x.dims[i]);
  Value *count = e.product(sizes);
  Tensor divisor = known(count) ? e.scalar(x.dtype, static_cast<double>(*known(count)))
                                : e.cast(e.fromIntegers(DType::I64, {count}, true), x.dtype);
  return e.inMemory(binary(e, "Div", reduceInto(e, "sum", x, reduced), std::move(divisor)));
}

/// (x - mean) / sqrt(variance + epsilon); with `outside`, / (sqrt(variance) + epsilon).
static Tensor standardise(Emitter &e, const Tensor &x, const std::vector<bool> &reduced,
                          double epsilon, bool outside = false) {
  DType type = x.dtype;
  Tensor centred = e.inMemory(binary(e, "Sub", x, mean(e, x, reduced)));
  Tensor variance = mean(e, e.lazy("Square", type, {centred}), reduced);
  Tensor small = e.scalar(type, epsilon);
  Tensor root = outside ? binary(e, "Add", e.lazy("Sqrt", type, {variance}), small)
                        : e.lazy("Sqrt", type, {binary(e, "Add", variance, small)});
  return binary(e, "Div", std::move(centred), e.inMemory(std::move(root)));
}

/// A vector of one element a channel (axis 1 of `rank`).
static mlir::FailureOr<Tensor> perChannel(Emitter &e, const Tensor &v, const Tensor &x,
                                          DType type) {
  if (v.none || v.rank() != 1)
    return e.error("scale, bias, mean or variance that is no vector");
  Values dims(x.rank() - 1, e.i64(1));
  dims[0] = e.checkEqual(v.dims[0], x.rank() > 1 ? x.dims[1] : e.i64(1),
                         "there is not one element for each channel");
  return e.reshape(e.cast(v, type), std::move(dims));
}

/// Training mode: the batch's own mean and variance take the place of parts 2 and 3; the running
/// ones are results.
static void useBatch(Emitter &e, mlir::Operation *op, Tensor &x, Tensor (&parts)[4],
                     Tensors &results) {
  DType type = x.dtype;
  double momentum = floatAttr(op, "momentum", 0.9f);
  x = e.inMemory(std::move(x));
  std::vector<bool> reduced(x.rank(), true);
  reduced[1] = false;
  Tensor average = mean(e, x, reduced);
  Tensor centred = e.lazy("Sub", type, {x, average});
  Tensor variance = mean(e, e.lazy("Square", type, {centred}), reduced);
  for (auto [i, own] : {std::pair(2u, &average), std::pair(3u, &variance)}) {
    own->dims.erase(own->dims.begin()); // [C, 1, ...]
    own->strides.erase(own->strides.begin());
    Tensor old = binary(e, "Mul", parts[i], e.scalar(type, momentum));
    Tensor next = binary(e, "Mul", *own, e.scalar(type, 1 - momentum));
    Tensor running = e.inMemory(binary(e, "Add", std::move(old), std::move(next)));
    if (op->getNumResults() > i - 1)
      results.push_back(mlir::isa<mlir::NoneType>(op->getResult(i - 1).getType())
                            ? Tensor()
                            : e.cast(e.reshape(running, {x.dims[1]}), resultType(op, i - 1)));
    parts[i] = *own;
  }
}

static mlir::LogicalResult batchNormalization(Emitter &e, mlir::Operation *op, Tensors &args,
                                              Tensors &results) {
  DType type = wideType(args[0].dtype);
  Tensor x = e.cast(std::move(args[0]), type);
  if (x.rank() < 2 || args.size() < 5)
    return e.error("an input of rank below 2");
  Tensor parts[4];
  for (size_t i = 0; i < 4; ++i) {
    auto part = perChannel(e, args[i + 1], x, type);
    if (mlir::failed(part))
      return mlir::failure();
    parts[i] = std::move(*part);
  }
  if (intAttr(op, "training_mode", 0) != 0)
    useBatch(e, op, x, parts, results);
  Tensor shifted = binary(e, "Add", parts[3], e.scalar(type, floatAttr(op, "epsilon", 1e-5f)));
  Tensor root = e.inMemory(e.lazy("Sqrt", type, {std::move(shifted)}));
  Tensor factor = e.inMemory(binary(e, "Div", parts[0], std::move(root)));
  Tensor y = binary(e, "Mul", binary(e, "Sub", std::move(x), parts[2]), std::move(factor));
  y = e.cast(binary(e, "Add", std::move(y), parts[1]), resultType(op));
  results.insert(results.begin(), std::move(y));
  return mlir::success();
}

/// InstanceNormalization is GroupNormalization with a group for each channel.
static mlir::LogicalResult groupNormalization(Emitter &e, mlir::Operation *op, Tensors &args,
                                              Tensors &results) {
  DType type = wideType(args[0].dtype);
  Tensor x = e.cast(std::move(args[0]), type);
  if (x.rank() < 3 || args.size() < 3)
    return e.error("an input of rank below 3");
  bool instance = op->getName().stripDialect() == "InstanceNormalization";
  Value *groups = instance ? x.dims[1] : e.i64(intAttr(op, "num_groups", 0));
  if (known(groups).value_or(1) < 1)
    return e.error("num_groups below 1");
  auto scale = perChannel(e, args[1], x, type), bias = perChannel(e, args[2], x, type);
  if (mlir::failed(scale) || mlir::failed(bias))
    return mlir::failure();
  Value *each = instance ? e.i64(1) : e.arith("div", x.dims[1], groups);
  e.checkEqual(e.mul(each, groups), x.dims[1], "the groups do not divide the channels");
  const Values dims = x.dims;
  Value *inner = e.mul(each, e.product(llvm::ArrayRef<Value *>(dims).drop_front(2)));
  Tensor flat = e.reshape(e.inMemory(std::move(x)), {dims[0], groups, inner});
  Tensor y = standardise(e, flat, {false, false, true}, floatAttr(op, "epsilon", 1e-5f));
  y = e.reshape(e.inMemory(std::move(y)), dims);
  y = binary(e, "Add", binary(e, "Mul", std::move(y), std::move(*scale)), std::move(*bias));
  results.push_back(e.cast(std::move(y), resultType(op)));
  return mlir::success();
}

static mlir::LogicalResult meanVariance(Emitter &e, mlir::Operation *op, Tensors &args,
                                        Tensors &results) {
  DType type = wideType(args[0].dtype);
  std::vector<bool> reduced(args[0].rank(), false);
  for (int64_t a : intsAttr(op, "axes").value_or(std::vector<int64_t>{0, 2, 3})) {
    auto axis = normalAxis(a, reduced.size());
    if (!axis)
      return e.error("an axis out of range");
    reduced[*axis] = true;
  }
  Tensor x = e.inMemory(e.cast(std::move(args[0]), type));
  // The function's body adds 1e-9 to the deviation.
  results.push_back(e.cast(standardise(e, x, reduced, 1e-9, /*outside=*/true), resultType(op)));
  return mlir::success();
}

void moec::host::addNormalisation(Handlers &h) {
  h["BatchNormalization"] = batchNormalization;
  h["InstanceNormalization"] = h["GroupNormalization"] = groupNormalization;
  h["MeanVarianceNormalization"] = meanVariance;
}
