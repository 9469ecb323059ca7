// decompose-ml: operators of ai.onnx.ml on numbers in terms of the standard's.
#include "Decompose.h"
#include "moec/Dialect/Onnx/Onnx.h"
#include "moec/Transforms/Prepare/Passes.h"
#include <cmath>

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_DECOMPOSEML
#include "moec/Transforms/Prepare/Passes.h.inc"

namespace {

struct Node {
  onnx::CustomOp op;
  OnnxBuilder &b;
  DictionaryAttr attributes;

  Value in(unsigned i) const {
    return i < op->getNumOperands() ? op->getOperand(i) : Value();
  }
  RankedTensorType out() const { return rankedType(op->getResult(0)); }
  template <class T>
  T get(StringRef name) const {
    return attributes ? dyn_cast_or_null<T>(attributes.get(name)) : T();
  }
  ArrayRef<float> floats(StringRef name) const {
    auto list = get<DenseF32ArrayAttr>(name);
    return list ? list.asArrayRef() : ArrayRef<float>();
  }
  StringRef text(StringRef name, StringRef otherwise) const {
    auto value = get<StringAttr>(name);
    return value ? value.getValue() : otherwise;
  }
  int64_t integer(StringRef name, int64_t otherwise) const {
    return prepare::intAttr(attributes ? attributes.get(name) : Attribute(), otherwise);
  }
  double number(StringRef name, double otherwise) const {
    return prepare::floatAttr(attributes ? attributes.get(name) : Attribute(), otherwise);
  }

  Value constant(DenseElementsAttr value) const {
    return b.op("Constant", {}, value.getType(), {b.builder.getNamedAttr("value", value)});
  }
  // A vector of numbers of the given element type.
  Value vector(ArrayRef<double> values, Type element) const {
    auto type = RankedTensorType::get({static_cast<int64_t>(values.size())}, element);
    SmallVector<Attribute> numbers;
    for (double v : values)
      numbers.push_back(isa<FloatType>(element)
                            ? Attribute(FloatAttr::get(element, v))
                            : Attribute(IntegerAttr::get(element, static_cast<int64_t>(v))));
    return constant(DenseElementsAttr::get(type, numbers));
  }
  Value vector(ArrayRef<float> values, Type element) const {
    return vector(SmallVector<double>(values.begin(), values.end()), element);
  }
  Value asFloat(Value x) const { return b.cast(x, b.builder.getF32Type()); }
  bool replace(Value y) const {
    prepare::replaceResult(b, op, 0, b.cast(y, out().getElementType()));
    return true;
  }
};

bool binarizer(Node &n) {
  Value x = n.in(0);
  Type element = rankedType(x).getElementType();
  return n.replace(n.b.cast(
      n.b.binary("Greater", x, n.b.scalar(element, n.number("threshold", 0))), element));
}

bool scaler(Node &n) {
  ArrayRef<float> offset = n.floats("offset"), scale = n.floats("scale");
  Value y = n.asFloat(n.in(0));
  Type f32 = n.b.builder.getF32Type();
  if (!offset.empty())
    y = n.b.binary("Sub", y, n.vector(offset, f32));
  if (!scale.empty())
    y = n.b.binary("Mul", y, n.vector(scale, f32));
  return n.replace(y);
}

// Each row divided by its norm; a row of zeros stays.
bool normalizer(Node &n) {
  StringRef norm = n.text("norm", "MAX");
  Value x = n.asFloat(n.in(0));
  int64_t last = rankedType(x).getRank() - 1;
  if (last < 0 || (norm != "MAX" && norm != "L1" && norm != "L2"))
    return false;
  Type f32 = n.b.builder.getF32Type();
  Value size = norm == "MAX" ? n.b.reduce("ReduceMax", x, {last})
                             : n.b.reduce(norm == "L1" ? "ReduceL1" : "ReduceL2", x, {last});
  Value empty = n.b.binary("Equal", size, n.b.scalar(f32, 0));
  Value divisor = n.b.op("Where", {empty, n.b.scalar(f32, 1), size}, size.getType());
  return n.replace(n.b.binary("Div", x, divisor));
}

bool imputer(Node &n) {
  Value x = n.in(0);
  Type element = rankedType(x).getElementType();
  bool real = isa<FloatType>(element);
  SmallVector<double> values;
  if (real)
    values.assign(n.floats("imputed_value_floats").begin(), n.floats("imputed_value_floats").end());
  else if (auto list = n.get<DenseI64ArrayAttr>("imputed_value_int64s"))
    values.assign(list.asArrayRef().begin(), list.asArrayRef().end());
  if (values.empty())
    return false;
  double replaced = real ? n.number("replaced_value_float", 0)
                         : static_cast<double>(n.integer("replaced_value_int64", 0));
  Value missing = real && std::isnan(replaced)
                      ? n.b.op("IsNaN", x, rankedType(x).clone(n.b.builder.getI1Type()))
                      : n.b.binary("Equal", x, n.b.scalar(element, replaced));
  Value fill = n.vector(values, element);
  return n.replace(n.b.op("Where", {missing, fill, x}, x.getType()));
}

bool arrayFeatureExtractor(Node &n) {
  Value x = n.in(0), at = n.in(1);
  int64_t rank = rankedType(x).getRank();
  if (!at || !rankedType(at) || rank < 1)
    return false;
  if (rankedType(at).getRank() != 1)
    at = n.b.reshape(at, {-1});
  Value y = n.b.gather(x, at, rank - 1);
  if (rank == 1)
    y = n.b.unsqueeze(y, 0);
  return n.replace(y);
}

Value transformed(Node &n, Value y) {
  StringRef post = n.text("post_transform", "NONE");
  if (post == "NONE")
    return y;
  if (post == "LOGISTIC")
    return n.b.unary("Sigmoid", y);
  return post == "SOFTMAX" ? n.b.softmax(y, -1) : Value();
}

// The columns [features, rows] of a list of rows; null when it is none.
Value columns(Node &n, ArrayRef<float> list, int64_t rows) {
  auto count = static_cast<int64_t>(list.size());
  if (rows < 1 || count == 0 || count % rows != 0)
    return {};
  auto shape = RankedTensorType::get({rows, count / rows}, n.b.builder.getF32Type());
  return n.b.transpose(n.constant(DenseElementsAttr::get(shape, list)), {1, 0});
}

// x [rows, features] times coefficients [targets, features] and intercepts.
Value linear(Node &n, int64_t targets) {
  ArrayRef<float> bias = n.floats("intercepts");
  Value w = columns(n, n.floats("coefficients"), targets);
  if (rankedType(n.in(0)).getRank() != 2 || !w ||
      (!bias.empty() && static_cast<int64_t>(bias.size()) != targets))
    return {};
  Value y = n.b.matmul(n.asFloat(n.in(0)), w);
  return bias.empty() ? y : n.b.binary("Add", y, n.vector(bias, n.b.builder.getF32Type()));
}

bool linearRegressor(Node &n) {
  Value y = linear(n, n.integer("targets", 1));
  y = y ? transformed(n, y) : y;
  return y && n.replace(y);
}

// One row of coefficients for each label; the label of the highest score.
bool linearClassifier(Node &n) {
  auto labels = n.get<DenseI64ArrayAttr>("classlabels_ints");
  Value scores = labels && labels.size() > 1 ? linear(n, labels.size()) : Value();
  Value shown = scores ? transformed(n, scores) : Value();
  if (!shown || n.op->getNumResults() != 2)
    return false;
  SmallVector<double> values(labels.asArrayRef().begin(), labels.asArrayRef().end());
  Type i64 = n.b.builder.getI64Type();
  auto places = RankedTensorType::get({rankedType(scores).getDimSize(0)}, i64);
  Value best = n.b.op("ArgMax", scores, places,
                      {n.b.attr("axis", int64_t(1)), n.b.attr("keepdims", int64_t(0)),
                       n.b.attr("select_last_index", int64_t(0))});
  prepare::replaceResult(n.b, n.op, 1, shown);
  return n.replace(n.b.gather(n.vector(values, i64), best, 0));
}

// kernel_params: gamma, coef0, degree. `products`: x times each support vector.
Value kernel(Node &n, Value x, Value supports, Value products) {
  StringRef type = n.text("kernel_type", "LINEAR");
  ArrayRef<float> parameters = n.floats("kernel_params");
  Type f32 = n.b.builder.getF32Type();
  if (type == "LINEAR")
    return products;
  if (parameters.size() != 3 || (type != "POLY" && type != "RBF" && type != "SIGMOID"))
    return {};
  auto number = [&](double v) { return n.b.scalar(f32, v); };
  if (type == "RBF") { // exp(-gamma |x - s|^2)
    Value far = n.b.binary("Add", n.b.reduce("ReduceSumSquare", x, {1}),
                           n.b.reduce("ReduceSumSquare", supports, {0}));
    far = n.b.binary("Sub", far, n.b.binary("Mul", products, number(2)));
    return n.b.unary("Exp", n.b.binary("Mul", far, number(-parameters[0])));
  }
  Value y = n.b.binary("Add", n.b.binary("Mul", products, number(parameters[0])),
                       number(parameters[1]));
  return type == "POLY" ? n.b.binary("Pow", y, number(parameters[2])) : n.b.unary("Tanh", y);
}

// Without support vectors the coefficients are those of the features.
bool svmRegressor(Node &n) {
  ArrayRef<float> weights = n.floats("coefficients"), rho = n.floats("rho");
  int64_t supports = n.integer("n_supports", 0);
  if (rankedType(n.in(0)).getRank() != 2 || rho.size() != 1 || n.integer("one_class", 0) != 0)
    return false;
  Value x = n.asFloat(n.in(0));
  if (supports > 0) {
    Value vectors = columns(n, n.floats("support_vectors"), supports);
    x = vectors ? kernel(n, x, vectors, n.b.matmul(x, vectors)) : Value();
  }
  Value w = columns(n, weights, 1);
  if (!x || !w || (supports > 0 && static_cast<int64_t>(weights.size()) != supports))
    return false;
  Value y = n.b.binary("Add", n.b.matmul(x, w), n.b.scalar(n.b.builder.getF32Type(), rho[0]));
  y = transformed(n, y);
  return y && n.replace(y);
}

bool featureVectorizer(Node &n) {
  auto sizes = n.get<DenseI64ArrayAttr>("inputdimensions");
  if (!sizes || sizes.size() != static_cast<int64_t>(n.op->getNumOperands()))
    return false;
  SmallVector<Value> parts;
  for (auto [x, size] : llvm::zip(n.op->getOperands(), sizes.asArrayRef())) {
    auto type = rankedType(x);
    if (!type || type.getRank() != 2 || type.getDimSize(1) != size)
      return false;
    parts.push_back(n.asFloat(x));
  }
  return n.replace(n.b.concat(parts, 1));
}

// x compared with every one of `list`, along a new last axis.
Value hits(Node &n, Value x, ArrayRef<double> list) {
  Type element = rankedType(x).getElementType();
  Value wide = n.b.unsqueeze(x, rankedType(x).getRank());
  Value each = n.vector(list, element);
  if (llvm::any_of(list, [](double v) { return std::isnan(v); })) { // a NaN finds a NaN
    auto truth = [&](Value v) {
      return n.b.op("IsNaN", v, rankedType(v).clone(n.b.builder.getI1Type()));
    };
    return n.b.binary("Or", n.b.binary("Equal", wide, each),
                      n.b.binary("And", truth(wide), truth(each)));
  }
  return n.b.binary("Equal", wide, each);
}

bool oneHotEncoder(Node &n) {
  auto list = n.get<DenseI64ArrayAttr>("cats_int64s");
  if (!list || n.integer("zeros", 1) == 0)
    return false;
  SmallVector<double> values(list.asArrayRef().begin(), list.asArrayRef().end());
  return n.replace(n.asFloat(hits(n, n.in(0), values)));
}

// One list of a LabelEncoder, as integers, floats or a tensor of either.
std::optional<SmallVector<double>> numbers(Node &n, StringRef what) {
  SmallVector<double> out;
  if (auto list = n.get<DenseI64ArrayAttr>((what + "_int64s").str())) {
    out.assign(list.asArrayRef().begin(), list.asArrayRef().end());
    return out;
  }
  if (auto list = n.get<DenseF32ArrayAttr>((what + "_floats").str())) {
    out.assign(list.asArrayRef().begin(), list.asArrayRef().end());
    return out;
  }
  auto tensor = n.get<DenseElementsAttr>((what + "_tensor").str());
  if (!tensor)
    return std::nullopt;
  if (isa<FloatType>(tensor.getElementType())) {
    for (llvm::APFloat v : tensor.getValues<llvm::APFloat>()) {
      bool lost;
      v.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &lost);
      out.push_back(v.convertToDouble());
    }
  } else {
    for (llvm::APInt v : tensor.getValues<llvm::APInt>())
      out.push_back(static_cast<double>(v.getSExtValue()));
  }
  return out;
}

// Numbers that f64 holds, so that one list type serves them all.
bool labelEncoder(Node &n) {
  auto keys = numbers(n, "keys"), values = numbers(n, "values");
  if (!keys || !values || keys->empty() || keys->size() != values->size())
    return false;
  Type element = n.out().getElementType();
  bool real = isa<FloatType>(element);
  double otherwise = real ? n.number("default_float", -0.0)
                          : static_cast<double>(n.integer("default_int64", -1));
  if (auto tensor = n.get<DenseElementsAttr>("default_tensor"); tensor && tensor.getNumElements() == 1)
    otherwise = real ? (*tensor.value_begin<llvm::APFloat>()).convertToDouble()
                     : static_cast<double>((*tensor.value_begin<llvm::APInt>()).getSExtValue());
  Value hit = hits(n, n.in(0), *keys);
  int64_t last = rankedType(hit).getRank() - 1;
  auto places = rankedType(n.in(0)).clone(n.b.builder.getI64Type());
  // The first key that is met; 0 stands for none of them, too.
  Value truth = n.b.cast(hit, n.b.builder.getI32Type());
  Value at = n.b.op("ArgMax", truth, places,
                    {n.b.attr("axis", last), n.b.attr("keepdims", int64_t(0)),
                     n.b.attr("select_last_index", int64_t(0))});
  Value found = n.b.cast(n.b.reduce("ReduceMax", truth, {last}, /*keep=*/false),
                         n.b.builder.getI1Type());
  Value label = n.b.gather(n.vector(*values, element), at, 0);
  return n.replace(n.b.op("Where", {found, label, n.b.scalar(element, otherwise)}, label.getType()));
}

struct DecomposeMl : impl::DecomposeMlBase<DecomposeMl> {
  void runOnOperation() override {
    using Fn = bool (*)(Node &);
    const llvm::StringMap<Fn> table = {
        {"ArrayFeatureExtractor", arrayFeatureExtractor},
        {"Binarizer", binarizer},
        {"FeatureVectorizer", featureVectorizer},
        {"Imputer", imputer},
        {"LabelEncoder", labelEncoder},
        {"LinearClassifier", linearClassifier},
        {"LinearRegressor", linearRegressor},
        {"Normalizer", normalizer},
        {"OneHotEncoder", oneHotEncoder},
        {"SVMRegressor", svmRegressor},
        {"Scaler", scaler},
    };
    SmallVector<onnx::CustomOp> ops;
    getOperation()->walk([&](onnx::CustomOp op) {
      if (op.getDomain() == "ai.onnx.ml" && table.contains(op.getOpType()))
        ops.push_back(op);
    });
    for (onnx::CustomOp op : ops) {
      OpBuilder builder(op);
      OnnxBuilder b(builder, op.getLoc());
      Node node{op, b, op->getAttrOfType<DictionaryAttr>("attributes")};
      bool typed = node.in(0) && rankedType(node.in(0)) && node.out() &&
                   rankedType(node.in(0)).getElementType().isIntOrFloat();
      if (!typed || !table.lookup(op.getOpType())(node)) {
        ++numKept;
        continue;
      }
      op.erase();
      ++numDecomposed;
    }
  }
};

} // namespace
} // namespace moec
