// Elementwise ops: integer shape arithmetic is folded into moe_main, everything else stays lazy.
#include "Emitter.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

// --- integers known as values ---

static std::optional<llvm::StringRef> integerName(llvm::StringRef op) {
  return llvm::StringSwitch<std::optional<llvm::StringRef>>(op)
      .Case("Add", "add")
      .Case("Sub", "sub")
      .Case("Mul", "mul")
      .Case("Div", "div")
      .Case("Min", "min")
      .Case("Max", "max")
      .Case("Equal", "eq")
      .Case("Less", "lt")
      .Case("LessOrEqual", "le")
      .Case("Greater", "gt")
      .Case("GreaterOrEqual", "ge")
      .Case("And", "and")
      .Case("Or", "or")
      .Case("Xor", "xor")
      .Case("Mod", "mod")
      .Default(std::nullopt);
}

static Value *integerOp(Emitter &e, llvm::StringRef op, const std::vector<double> &numbers,
                        llvm::ArrayRef<Value *> x) {
  if (op == "Not")
    return e.arith("eq", x[0], e.i64(0));
  if (op == "Neg")
    return e.sub(e.i64(0), x[0]);
  if (op == "Abs")
    return e.arith("max", x[0], e.sub(e.i64(0), x[0]));
  if (op == "Where")
    return e.select(x[0], x[1], x[2]);
  if (op == "Mod" && numbers[0])
    return e.arith("rem", x[0], x[1]);
  return e.arith(*integerName(op), x[0], x[1]);
}

/// The result when all arguments are small i64 or bool tensors whose elements are Values.
static std::optional<Tensor> foldIntegers(Emitter &e, llvm::StringRef op, DType type,
                                          const Tensors &args, const std::vector<double> &numbers) {
  bool supported = integerName(op) || op == "Not" || op == "Neg" || op == "Abs" || op == "Where";
  if (!supported || (type != DType::I64 && type != DType::Bool))
    return std::nullopt;
  size_t count = 1, rank = 0;
  for (const Tensor &a : args) {
    if (!a.ints || a.rank() > 1 || (a.dtype != DType::I64 && a.dtype != DType::Bool))
      return std::nullopt;
    if (a.ints->size() != 1)
      count = a.ints->size();
    rank = std::max(rank, a.rank());
  }
  Values results;
  for (size_t i = 0; i < count; ++i) {
    Values x;
    for (const Tensor &a : args) {
      if (a.ints->size() != 1 && a.ints->size() != count)
        return std::nullopt;
      x.push_back(a.ints->size() == 1 ? a.ints->front() : (*a.ints)[i]);
    }
    results.push_back(integerOp(e, op, numbers, x));
  }
  return e.fromIntegers(type, std::move(results), rank == 0);
}

static Tensor apply(Emitter &e, llvm::StringRef op, DType type, Tensors args,
                    std::vector<double> numbers = {}) {
  if (auto folded = foldIntegers(e, op, type, args, numbers))
    return *folded;
  return e.lazy(op, type, std::move(args), std::move(numbers));
}

// --- handlers ---

/// The importer's files are type-correct; other IR may not be.
static bool sameTypes(llvm::ArrayRef<Tensor> args) {
  return llvm::all_of(args, [&](const Tensor &t) { return t.dtype == args[0].dtype; });
}

static mlir::LogicalResult plain(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  bool where = op->getName().stripDialect() == "Where";
  if (!sameTypes(llvm::ArrayRef(args).drop_front(where)) || (where && args[0].dtype != DType::Bool))
    return e.error("operands of different element types");
  results.push_back(apply(e, op->getName().stripDialect(), resultType(op), std::move(args)));
  return mlir::success();
}

/// Ops that are one scalar function with attributes as numbers.
static mlir::LogicalResult withNumbers(Emitter &e, mlir::Operation *op, Tensors &args,
                                       Tensors &results) {
  llvm::StringRef name = op->getName().stripDialect();
  auto f = [&](llvm::StringRef attr, double fallback) { return floatAttr(op, attr, fallback); };
  std::vector<double> numbers;
  if (name == "LeakyRelu")
    numbers = {f("alpha", 0.01)};
  else if (name == "Elu" || name == "Celu" || name == "ThresholdedRelu" || name == "Swish")
    numbers = {f("alpha", 1.0)};
  else if (name == "Selu")
    numbers = {f("alpha", 1.67326319217681884765625), f("gamma", 1.05070102214813232421875)};
  else if (name == "HardSigmoid")
    numbers = {f("alpha", static_cast<double>(0.2f)), f("beta", 0.5)};
  else if (name == "Shrink")
    numbers = {f("lambd", 0.5), f("bias", 0.0)};
  else if (name == "Gelu")
    numbers = {stringAttr(op, "approximate", "none") == "tanh" ? 1.0 : 0.0};
  else if (name == "Mod")
    numbers = {static_cast<double>(intAttr(op, "fmod", 0))};
  else if (name == "BitShift")
    numbers = {stringAttr(op, "direction", "LEFT") == "LEFT" ? 1.0 : 0.0};
  else if (name == "IsInf")
    numbers = {static_cast<double>(intAttr(op, "detect_negative", 1)),
               static_cast<double>(intAttr(op, "detect_positive", 1))};
  results.push_back(apply(e, name, resultType(op), std::move(args), std::move(numbers)));
  return mlir::success();
}

/// Max, Min, Sum and Mean of any number of tensors.
static mlir::LogicalResult variadic(Emitter &e, mlir::Operation *op, Tensors &args,
                                    Tensors &results) {
  if (!sameTypes(args))
    return e.error("operands of different element types");
  llvm::StringRef name = op->getName().stripDialect();
  bool mean = name == "Mean";
  llvm::StringRef step = mean || name == "Sum" ? "Add" : name;
  DType type = resultType(op);
  size_t count = args.size();
  Tensor sum = std::move(args[0]);
  for (size_t i = 1; i < count; ++i)
    sum = apply(e, step, type, {std::move(sum), std::move(args[i])});
  if (mean)
    sum = e.lazy("Div", type, {std::move(sum), e.scalar(type, static_cast<double>(count))});
  results.push_back(std::move(sum));
  return mlir::success();
}

static mlir::LogicalResult power(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  DType type = resultType(op);
  std::optional<double> exponent = args[1].splat;
  if (args[1].ints && args[1].ints->size() == 1)
    if (auto k = known(args[1].ints->front()))
      exponent = static_cast<double>(*k);
  bool same = exponent && args[1].rank() <= args[0].rank(); // the result has the base's shape
  if (same && *exponent == 2.0)
    results.push_back(e.lazy("Square", type, {std::move(args[0])}));
  else if (same && *exponent == 1.0)
    results.push_back(std::move(args[0]));
  else if (same && *exponent == 0.5 && isFloat(type))
    results.push_back(e.lazy("Sqrt", type, {std::move(args[0])}));
  else if (same && *exponent == -1.0 && isFloat(type))
    results.push_back(e.lazy("Reciprocal", type, {std::move(args[0])}));
  else
    results.push_back(e.lazy("Pow", type, {std::move(args[0]), e.cast(std::move(args[1]), type)}));
  return mlir::success();
}

static mlir::LogicalResult clip(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  DType type = resultType(op);
  Tensor x = std::move(args[0]);
  if (args.size() > 1 && !args[1].none)
    x = apply(e, "Max", type, {std::move(x), std::move(args[1])});
  if (args.size() > 2 && !args[2].none)
    x = apply(e, "Min", type, {std::move(x), std::move(args[2])});
  results.push_back(std::move(x));
  return mlir::success();
}

static mlir::LogicalResult castTo(Emitter &e, mlir::Operation *op, Tensors &args,
                                  Tensors &results) {
  DType type = resultType(op);
  if (!isNarrowFloat(type)) {
    results.push_back(e.cast(std::move(args[0]), type));
    return mlir::success();
  }
  std::string round = stringAttr(op, "round_mode", "up");
  Narrowing::Round way = round == "down"      ? Narrowing::Down
                         : round == "nearest" ? Narrowing::Nearest
                                              : Narrowing::Up;
  results.push_back(e.lazy("Cast", type, {std::move(args[0])},
                           {intAttr(op, "saturate", 1) ? 0.0 : 1.0, static_cast<double>(way)}));
  return mlir::success();
}

static mlir::LogicalResult identity(Emitter &e, mlir::Operation *op, Tensors &args,
                                    Tensors &results) {
  results.push_back(std::move(args[0]));
  return mlir::success();
}

static mlir::LogicalResult dropout(Emitter &e, mlir::Operation *op, Tensors &args,
                                   Tensors &results) {
  if (args.size() > 2 && !args[2].none) {
    auto training = e.integers(args[2]);
    if (mlir::failed(training) || known(training->front()) != 0)
      return e.error("Dropout in training mode");
  }
  Tensor mask = e.scalar(DType::Bool, 1);
  mask.dims = args[0].dims;
  results.push_back(std::move(args[0]));
  if (op->getNumResults() > 1)
    results.push_back(std::move(mask));
  return mlir::success();
}

/// The same bytes under another type of equal size.
static mlir::LogicalResult bitCast(Emitter &e, mlir::Operation *op, Tensors &args,
                                   Tensors &results) {
  DType type = resultType(op);
  if (byteSize(type) != byteSize(args[0].dtype) || narrowWidth(type) || narrowWidth(args[0].dtype))
    return e.error("BitCast between types of different sizes");
  Tensor t = e.dense(std::move(args[0]));
  t.dtype = t.storage = type;
  t.ints.reset();
  t.splat.reset();
  results.push_back(std::move(t));
  return mlir::success();
}

void moec::host::addElementwise(Handlers &h) {
  for (const char *name : {"Add",
                           "Sub",
                           "Mul",
                           "Div",
                           "And",
                           "Or",
                           "Xor",
                           "BitwiseAnd",
                           "BitwiseOr",
                           "BitwiseXor",
                           "Not",
                           "BitwiseNot",
                           "Equal",
                           "Less",
                           "LessOrEqual",
                           "Greater",
                           "GreaterOrEqual",
                           "Where",
                           "Abs",
                           "Neg",
                           "Sign",
                           "Ceil",
                           "Floor",
                           "Round",
                           "Sqrt",
                           "Reciprocal",
                           "Exp",
                           "Log",
                           "Sin",
                           "Cos",
                           "Tan",
                           "Asin",
                           "Acos",
                           "Atan",
                           "Sinh",
                           "Cosh",
                           "Tanh",
                           "Asinh",
                           "Acosh",
                           "Atanh",
                           "Erf",
                           "Sigmoid",
                           "Relu",
                           "PRelu",
                           "HardSwish",
                           "Mish",
                           "Softplus",
                           "Softsign",
                           "IsNaN"})
    h[name] = plain;
  for (const char *name : {"LeakyRelu", "Elu", "Celu", "Selu", "ThresholdedRelu", "Swish",
                           "HardSigmoid", "Shrink", "Gelu", "Mod", "BitShift", "IsInf"})
    h[name] = withNumbers;
  for (const char *name : {"Max", "Min", "Sum", "Mean"})
    h[name] = variadic;
  h["Pow"] = power;
  h["Clip"] = clip;
  h["Cast"] = h["CastLike"] = castTo;
  h["Identity"] = identity;
  h["Dropout"] = dropout;
  h["BitCast"] = bitCast;
}
