// The kinds of loop nests: elementwise (with copies), reductions, softmax.
#include "NestPlan.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace moec::host;
namespace arith = mlir::arith;
namespace linalg = mlir::linalg;
using V = mlir::Value;

// --- writing ---

V NestWriter::index(int64_t value) { return arith::ConstantIndexOp::create(b, loc, value); }

std::vector<unsigned> NestWriter::loopsOf(unsigned operand, size_t from) {
  std::vector<unsigned> loops;
  for (size_t i = from; i < plan.dims.size(); ++i)
    if (strides[operand][i])
      loops.push_back(i);
  return loops;
}

mlir::AffineMap NestWriter::map(unsigned operand, size_t from) {
  llvm::SmallVector<mlir::AffineExpr> results;
  for (unsigned loop : loopsOf(operand, from))
    results.push_back(b.getAffineDimExpr(loop - from));
  return mlir::AffineMap::get(plan.dims.size() - from, 0, results, b.getContext());
}

V NestWriter::memref(unsigned operand, size_t from, V offset) {
  llvm::SmallVector<mlir::OpFoldResult> shape, steps;
  llvm::SmallVector<int64_t> staticShape, staticSteps;
  for (unsigned loop : loopsOf(operand, from)) {
    auto size = staticSize(loop);
    shape.push_back(size ? mlir::OpFoldResult(b.getIndexAttr(*size)) : sizes[loop]);
    staticShape.push_back(size.value_or(mlir::ShapedType::kDynamic));
    bool unit = known(plan.operands[operand].strides[loop]) == 1;
    steps.push_back(unit ? mlir::OpFoldResult(b.getIndexAttr(1)) : strides[operand][loop]);
    staticSteps.push_back(unit ? 1 : mlir::ShapedType::kDynamic);
  }
  int64_t start = offset ? mlir::ShapedType::kDynamic : 0;
  auto layout = mlir::StridedLayoutAttr::get(b.getContext(), start, staticSteps);
  auto type = mlir::MemRefType::get(staticShape,
                                    scalars.storageType(plan.operands[operand].storage), layout);
  mlir::OpFoldResult at = offset ? mlir::OpFoldResult(offset) : b.getIndexAttr(0);
  return mlir::memref::ReinterpretCastOp::create(b, loc, type, bases[operand], at, shape, steps);
}

V NestWriter::offset(unsigned operand, llvm::ArrayRef<V> at) {
  V sum = index(0);
  for (auto [loop, i] : llvm::enumerate(at)) {
    if (!strides[operand][loop])
      continue;
    V term = arith::MulIOp::create(b, loc, i, strides[operand][loop]);
    sum = arith::AddIOp::create(b, loc, sum, term);
  }
  return sum;
}

V NestWriter::body(llvm::function_ref<V(unsigned)> leaf, llvm::function_ref<V(unsigned)> loop) {
  std::vector<V> values;
  for (const BodyNode &n : plan.body) {
    V value;
    if (n.op == "leaf") {
      value = scalars.load(leaf(n.number), plan.operands[n.number].storage, n.type);
    } else if (n.op == "const") {
      value = scalars.constant(n.type, n.numbers[0], n.number);
    } else if (n.op == "arg") {
      V x = arguments[n.number];
      value = scalars.convert(x, DType::I64, n.type);
    } else if (n.op == "Iota") {
      value = arith::IndexCastOp::create(b, loc, b.getI64Type(), loop(n.number));
    } else {
      llvm::SmallVector<V> args;
      llvm::SmallVector<DType> types;
      for (unsigned a : n.args) {
        args.push_back(values[a]);
        types.push_back(plan.body[a].type);
      }
      value = scalars.apply(n, args, types);
    }
    values.push_back(value);
  }
  return values.back();
}

namespace {
/// linalg.generic over the plan's loops from `from` on.
struct Generic {
  explicit Generic(NestWriter &w, size_t from = 0) : w(w), from(from) {}
  NestWriter &w;
  size_t from;
  llvm::SmallVector<V> inputs, outputs;
  llvm::SmallVector<mlir::AffineMap> inputMaps, outputMaps;

  void in(V memref, mlir::AffineMap map) {
    inputs.push_back(memref);
    inputMaps.push_back(map);
  }
  void out(V memref, mlir::AffineMap map) {
    outputs.push_back(memref);
    outputMaps.push_back(map);
  }
  /// The body gets the inputs' and then the outputs' stored elements and yields the outputs.
  void emit(bool reductions, llvm::function_ref<llvm::SmallVector<V>(mlir::ValueRange)> body) {
    llvm::SmallVector<mlir::utils::IteratorType> kinds;
    for (size_t i = from; i < w.plan.dims.size(); ++i)
      kinds.push_back(reductions && w.plan.reduced[i] ? mlir::utils::IteratorType::reduction
                                                      : mlir::utils::IteratorType::parallel);
    llvm::SmallVector<mlir::AffineMap> maps(inputMaps);
    maps.append(outputMaps);
    linalg::GenericOp::create(w.b, w.loc, inputs, outputs, maps, kinds,
                              [&](mlir::OpBuilder &b, mlir::Location loc, mlir::ValueRange args) {
                                auto saved = w.b.saveInsertionPoint();
                                w.b.restoreInsertionPoint(b.saveInsertionPoint());
                                auto results = body(args);
                                linalg::YieldOp::create(w.b, loc, results);
                                w.b.restoreInsertionPoint(saved);
                              });
  }
};
} // namespace

/// Adds every operand that is read and walks forward; returns each operand's place, or -1.
static std::vector<int> addReads(Generic &g, llvm::function_ref<V(unsigned)> memref) {
  const Plan &plan = g.w.plan;
  std::vector<int> place(plan.operands.size(), -1);
  for (unsigned o = plan.written; o < plan.operands.size(); ++o) {
    if (!plan.operands[o].reversed.empty())
      continue;
    place[o] = g.inputs.size();
    g.in(memref(o), g.w.map(o, g.from));
  }
  return place;
}

static void writeMap(NestWriter &w) {
  Generic g(w);
  auto place = addReads(g, [&](unsigned o) { return w.memref(o); });
  std::vector<V> backwards(place.size());
  for (unsigned o = w.plan.written; o < place.size(); ++o)
    if (place[o] < 0)
      backwards[o] = w.memref(o);
  g.out(w.memref(0), w.map(0));
  auto loop = [&](unsigned i) -> V { return linalg::IndexOp::create(w.b, w.loc, i); };
  g.emit(false, [&](mlir::ValueRange args) {
    auto leaf = [&](unsigned o) -> V {
      if (place[o] >= 0)
        return args[place[o]];
      llvm::SmallVector<V> at;
      for (unsigned i : w.loopsOf(o)) {
        V position = loop(i);
        if (w.plan.operands[o].reversed[i]) {
          V last = arith::SubIOp::create(w.b, w.loc, w.size(i), w.index(1));
          position = arith::SubIOp::create(w.b, w.loc, last, position);
        }
        at.push_back(position);
      }
      return mlir::memref::LoadOp::create(w.b, w.loc, backwards[o], at);
    };
    V result = w.body(leaf, loop);
    return llvm::SmallVector<V>{w.scalars.store(result, w.bodyType(), w.plan.operands[0].storage)};
  });
}

/// Nothing to do, known at compile time. (An empty dimension makes the strides around it 0, too.)
static bool isEmpty(llvm::ArrayRef<llvm::Value *> dims) {
  return llvm::any_of(dims, [](llvm::Value *d) { return known(d) == 0; });
}

void Emitter::store(const Tensor &source, const Tensor &destination) {
  if (isEmpty(destination.dims))
    return;
  Plan plan;
  plan.dims = destination.dims;
  plan.reduced.assign(plan.dims.size(), false);
  addOperand(*this, plan, destination);
  addBody(*this, plan, source);
  coalesce(*this, plan);
  normalise(*this, plan);
  launch(*this, "map", plan, writeMap);
}

// --- reductions ---

static bool hasBackwards(const Plan &plan) {
  return llvm::any_of(plan.operands, [](const Operand &o) {
    return llvm::any_of(o.strides, [](llvm::Value *s) { return known(s).value_or(0) < 0; });
  });
}

/// Dense, and not known to be constant: an operand of the nest.
static Tensor inPlainMemory(Emitter &e, const Tensor &source) {
  Tensor t = e.dense(source);
  t.splat.reset();
  t.ints.reset();
  return t;
}

static void writeReduce(NestWriter &w, llvm::StringRef kind) {
  DType type = w.plan.operands[0].storage;
  V out = w.memref(0);
  V start = w.scalars.store(w.scalars.identity(kind, type), type, type);
  linalg::FillOp::create(w.b, w.loc, mlir::ValueRange{start}, mlir::ValueRange{out});
  Generic g(w);
  auto place = addReads(g, [&](unsigned o) { return w.memref(o); });
  g.out(out, w.map(0));
  auto loop = [&](unsigned i) -> V { return linalg::IndexOp::create(w.b, w.loc, i); };
  g.emit(true, [&](mlir::ValueRange args) {
    V x = w.body([&](unsigned o) { return args[place[o]]; }, loop);
    x = w.scalars.convert(x, w.bodyType(), type);
    V sum = w.scalars.combine(kind, type, w.scalars.load(args.back(), type, type), x);
    return llvm::SmallVector<V>{w.scalars.store(sum, type, type)};
  });
}

void Emitter::reduce(llvm::StringRef kind, const Tensor &source, const std::vector<bool> &reduced,
                     const Tensor &destination) {
  if (isEmpty(destination.dims))
    return;
  Plan plan;
  plan.dims = source.dims;
  plan.reduced = reduced;
  addOperand(*this, plan, destination);
  for (size_t i = 0; i < reduced.size(); ++i)
    if (reduced[i])
      plan.operands[0].strides[i] = i64(0);
  addBody(*this, plan, source);
  if (plan.operands.size() == 1 || hasBackwards(plan)) {
    reduce(kind, inPlainMemory(*this, source), reduced, destination);
    return;
  }
  coalesce(*this, plan);
  // Linalg takes a loop's size from an operand that walks it.
  plan.everywhere[1] = true;
  launch(*this, ("reduce_" + kind).str(), plan, [&](NestWriter &w) { writeReduce(w, kind); });
}

// --- softmax ---

/// One row: t = body, m = max t; t = exp(t - m), s = sum t; out = t / s, or log of it.
static void writeSoftmaxRow(NestWriter &w, llvm::ArrayRef<V> at, V maximum, V sum, bool log,
                            DType type) {
  size_t last = w.plan.dims.size() - 1;
  mlir::OpBuilder &b = w.b;
  auto row = [&](unsigned o) { return w.memref(o, last, w.offset(o, at)); };
  auto none = mlir::AffineMap::get(1, 0, b.getContext());
  auto loop = [&](unsigned i) -> V {
    return i < last ? at[i] : V(linalg::IndexOp::create(b, w.loc, 0));
  };
  V temporary = row(1);
  V low = w.scalars.identity("max", type), zero = w.scalars.identity("sum", type);
  mlir::memref::StoreOp::create(b, w.loc, low, maximum);
  mlir::memref::StoreOp::create(b, w.loc, zero, sum);
  {
    Generic g(w, last);
    auto place = addReads(g, row);
    g.out(temporary, w.map(1, last));
    g.out(maximum, none);
    g.emit(true, [&](mlir::ValueRange args) {
      V x = w.body([&](unsigned o) { return args[place[o]]; }, loop);
      x = w.scalars.convert(x, w.bodyType(), type);
      return llvm::SmallVector<V>{x, w.scalars.combine("max", type, args.back(), x)};
    });
  }
  V top = mlir::memref::LoadOp::create(b, w.loc, maximum);
  {
    Generic g(w, last);
    g.out(temporary, w.map(1, last));
    g.out(sum, none);
    g.emit(true, [&](mlir::ValueRange args) {
      V x = arith::SubFOp::create(b, w.loc, args[0], top);
      V e = mlir::math::ExpOp::create(b, w.loc, x);
      return llvm::SmallVector<V>{log ? x : e, w.scalars.combine("sum", type, args[1], e)};
    });
  }
  V total = mlir::memref::LoadOp::create(b, w.loc, sum);
  if (log)
    total = mlir::math::LogOp::create(b, w.loc, total);
  Generic g(w, last);
  g.in(temporary, w.map(1, last));
  g.out(row(0), w.map(0, last));
  g.emit(true, [&](mlir::ValueRange args) {
    V y = log ? V(arith::SubFOp::create(b, w.loc, args[0], total))
              : V(arith::DivFOp::create(b, w.loc, args[0], total));
    DType storage = w.plan.operands[0].storage;
    return llvm::SmallVector<V>{w.scalars.store(y, type, storage)};
  });
}

static void writeSoftmax(NestWriter &w, bool log) {
  DType type = w.plan.operands[1].storage;
  auto cell = mlir::MemRefType::get({}, w.scalars.storageType(type));
  V maximum = mlir::memref::AllocaOp::create(w.b, w.loc, cell);
  V sum = mlir::memref::AllocaOp::create(w.b, w.loc, cell);
  size_t outer = w.plan.dims.size() - 1;
  mlir::OpBuilder::InsertionGuard guard(w.b);
  std::vector<V> at;
  V zero = w.index(0), one = w.index(1);
  for (size_t i = 0; i < outer; ++i) {
    auto loop = mlir::scf::ForOp::create(w.b, w.loc, zero, w.size(i), one);
    at.push_back(loop.getInductionVar());
    w.b.setInsertionPointToStart(loop.getBody());
  }
  writeSoftmaxRow(w, at, maximum, sum, log, type);
}

void Emitter::softmax(const Tensor &source, bool log, const Tensor &destination) {
  if (isEmpty(source.dims))
    return;
  size_t last = source.rank() - 1;
  DType type = source.dtype == DType::F64 ? DType::F64 : DType::F32;
  Tensor row = allocate(type, {source.dims[last]});
  Plan plan;
  plan.dims = source.dims;
  plan.reduced.assign(last, false);
  plan.reduced.push_back(true); // the row; outputs over it are written as they come
  plan.written = 2;
  addOperand(*this, plan, destination);
  addOperand(*this, plan, expand(row, source.dims));
  addBody(*this, plan, source);
  if (plan.operands.size() == 2 || hasBackwards(plan)) {
    softmax(inPlainMemory(*this, source), log, destination);
    return;
  }
  coalesce(*this, plan, /*pinned=*/1);
  launch(*this, log ? "log_softmax" : "softmax", plan,
         [&](NestWriter &w) { writeSoftmax(w, log); });
}
