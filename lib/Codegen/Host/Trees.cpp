// Ensembles of decision trees (ai.onnx.ml): constant arrays, walked by the runtime.
#include "Emitter.h"
#include "moec/Dialect/Onnx/TreeEnsemble.h"

using namespace moec::host;
using llvm::Value;
using moec::onnx::TreeEnsemble;
using Tensors = std::vector<Tensor>;

template <class T>
static Value *constantArray(Emitter &e, const std::vector<T> &list) {
  if (list.empty())
    return e.null();
  return e.constantData({reinterpret_cast<const char *>(list.data()), list.size() * sizeof(T)});
}

/// A moert_trees on the stack.
static Value *ensemble(Emitter &e, const TreeEnsemble &t) {
  Value *fields[] = {e.i64(static_cast<int64_t>(t.roots.size())),
                     e.i64(t.count),
                     e.i64(t.leastFeatures),
                     e.i64(t.aggregate),
                     constantArray(e, t.roots),
                     constantArray(e, t.modes),
                     constantArray(e, t.features),
                     constantArray(e, t.yes),
                     constantArray(e, t.no),
                     constantArray(e, t.missing),
                     constantArray(e, t.values),
                     constantArray(e, t.members),
                     constantArray(e, t.entries),
                     constantArray(e, t.targets),
                     constantArray(e, t.weights),
                     constantArray(e, t.base)};
  Value *slot = e.stackSlot(e.b.getInt64Ty(), std::size(fields));
  for (auto [i, field] : llvm::enumerate(fields))
    e.b.CreateStore(field, e.b.CreateConstInBoundsGEP1_64(e.b.getInt64Ty(), slot, i));
  return slot;
}

static Tensor finish(Emitter &e, const TreeEnsemble &t, Tensor scores) {
  if (t.post == TreeEnsemble::LOGISTIC)
    return e.lazy("Sigmoid", DType::F64, {std::move(scores)});
  if (t.post != TreeEnsemble::SOFTMAX)
    return scores;
  scores = e.inMemory(std::move(scores));
  Tensor out = e.allocate(DType::F64, scores.dims);
  e.softmax(scores, /*log=*/false, out);
  return out;
}

/// [rows, 2] from the one sum of each row.
static Tensor bothClasses(Emitter &e, const TreeEnsemble &t, const Tensor &sum) {
  bool share = t.post == TreeEnsemble::NONE && t.allPositive;
  Tensor other = share ? e.lazy("Sub", DType::F64, {e.scalar(DType::F64, 1), sum})
                       : e.lazy("Neg", DType::F64, {sum});
  Tensor out = e.allocate(DType::F64, {sum.dims[0], e.i64(2)});
  for (int64_t k : {0, 1}) {
    Tensor column = out;
    column.buffer.reset();
    column.data = e.elementPointer(out, e.i64(k));
    column.dims[1] = e.i64(1);
    e.store(k ? sum : other, column);
  }
  return out;
}

static Tensor chosenLabels(Emitter &e, const TreeEnsemble &t, const Tensor &scores) {
  auto number = [&](int64_t v) { return e.fromIntegers(DType::I64, {e.i64(v)}, true); };
  if (t.binary) {
    Tensor above = e.lazy("Greater", DType::Bool,
                          {scores, e.scalar(DType::F64, t.allPositive ? 0.5 : 0.0)});
    Tensor label = e.lazy("Where", DType::I64,
                          {std::move(above), number(t.labels[1]), number(t.labels[0])});
    return e.reshape(e.dense(std::move(label)), {scores.dims[0]});
  }
  Tensor best = e.allocate(DType::I64, {scores.dims[0]}), out = e.allocate(DType::I64, best.dims);
  e.call("op_arg", {e.view(scores), e.i64(1), e.i32(1), e.i32(0), best.data});
  Tensor labels;
  labels.dtype = labels.storage = DType::I64;
  labels.dims = {e.i64(static_cast<int64_t>(t.labels.size()))};
  labels.strides = e.rowMajor(labels.dims);
  labels.data = constantArray(e, t.labels);
  e.call("op_gather", {e.view(labels), e.view(best), e.i64(0), out.data, e.cstring(e.nodeName())});
  return out;
}

static mlir::LogicalResult trees(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  auto read = moec::onnx::treeEnsembleOf(mlir::cast<moec::onnx::CustomOp>(op));
  if (!read) {
    std::string why = llvm::toString(read.takeError());
    return e.error(llvm::StringRef(why).starts_with("unsupported: ") ? why.substr(13) : why);
  }
  const TreeEnsemble &t = *read;
  if (args[0].rank() != 2)
    return e.error("an input that is not a matrix");
  Tensor x = e.dense(std::move(args[0]));
  bool numeric = x.dtype == DType::F32 || x.dtype == DType::F64 || x.dtype == DType::F16 ||
                 x.dtype == DType::I32 || x.dtype == DType::I64;
  if (!numeric)
    return e.error(llvm::Twine("features of type ") + dtypeName(x.dtype));
  Tensor scores = e.allocate(DType::F64, {x.dims[0], e.i64(t.count)});
  e.call("op_trees", {e.view(x), ensemble(e, t), scores.data, e.cstring(e.nodeName())});
  if (!t.classifier) {
    results.push_back(e.cast(finish(e, t, std::move(scores)), resultType(op)));
    return mlir::success();
  }
  results.push_back(chosenLabels(e, t, scores));
  if (t.binary)
    scores = bothClasses(e, t, scores);
  results.push_back(e.cast(finish(e, t, std::move(scores)), DType::F32));
  return mlir::success();
}

void moec::host::addTrees(Handlers &h) {
  for (const char *name : {"TreeEnsemble", "TreeEnsembleRegressor", "TreeEnsembleClassifier"})
    h["ai.onnx.ml::" + std::string(name)] = trees;
}
