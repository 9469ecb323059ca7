#include "Call.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Location.h"

using namespace llvm;

namespace moec::reference {

Call::Call(mlir::Operation *op, std::vector<std::optional<Tensor>> operands, Machine &machine)
    : op(op), machine(machine), operands(std::move(operands)), results(op->getNumResults()) {}

const Tensor &Call::in(int64_t i) const {
  if (!hasIn(i))
    fail("input " + Twine(i) + " is missing");
  return *operands[i];
}

const std::optional<Tensor> &Call::optional(int64_t i) const {
  static const std::optional<Tensor> absent;
  return i < inputs() ? operands[i] : absent;
}

std::vector<int64_t> Call::intsIn(int64_t i) const {
  Elements<int64_t> values(in(i));
  return {values.begin(), values.end()};
}

int64_t Call::intIn(int64_t i) const {
  std::vector<int64_t> values = intsIn(i);
  if (values.size() != 1)
    fail("input " + Twine(i) + " holds " + Twine(values.size()) + " elements instead of one");
  return values[0];
}

int64_t Call::axis(int64_t axis, int64_t rank) {
  if (axis < -rank || axis >= rank)
    fail("axis " + Twine(axis) + " is outside of rank " + Twine(rank));
  return axis < 0 ? axis + rank : axis;
}

mlir::Attribute Call::attribute(StringRef name) const {
  if (op->getName().getStringRef() == "onnx.custom") {
    auto all = op->getAttrOfType<mlir::DictionaryAttr>("attributes");
    return all ? all.get(name) : mlir::Attribute();
  }
  return op->getAttr(name);
}

int64_t Call::i64(StringRef name, int64_t fallback) const {
  mlir::Attribute a = attribute(name);
  if (!a)
    return fallback;
  if (auto b = dyn_cast<mlir::BoolAttr>(a))
    return b.getValue();
  if (auto i = dyn_cast<mlir::IntegerAttr>(a); i && i.getValue().getSignificantBits() <= 64)
    return i.getValue().getSExtValue();
  fail("attribute " + name + " is no integer");
}

static double number(mlir::Attribute a, StringRef name) {
  if (auto f = dyn_cast<mlir::FloatAttr>(a))
    return f.getValueAsDouble();
  if (auto i = dyn_cast<mlir::IntegerAttr>(a); i && i.getValue().getSignificantBits() <= 64)
    return static_cast<double>(i.getValue().getSExtValue());
  fail("attribute " + name + " is no number");
}

double Call::f64(StringRef name, double fallback) const {
  mlir::Attribute a = attribute(name);
  return a ? number(a, name) : fallback;
}

std::string Call::str(StringRef name, StringRef fallback) const {
  mlir::Attribute a = attribute(name);
  if (!a)
    return fallback.str();
  auto s = dyn_cast<mlir::StringAttr>(a);
  if (!s)
    fail("attribute " + name + " is no string");
  return s.getValue().str();
}

std::optional<std::vector<int64_t>> Call::i64s(StringRef name) const {
  mlir::Attribute a = attribute(name);
  if (!a)
    return std::nullopt;
  if (auto d = dyn_cast<mlir::DenseI64ArrayAttr>(a))
    return d.asArrayRef().vec();
  if (auto d = dyn_cast<mlir::DenseI32ArrayAttr>(a))
    return std::vector<int64_t>(d.asArrayRef().begin(), d.asArrayRef().end());
  if (auto list = dyn_cast<mlir::ArrayAttr>(a)) {
    std::vector<int64_t> out;
    for (mlir::Attribute each : list)
      out.push_back(static_cast<int64_t>(number(each, name)));
    return out;
  }
  fail("attribute " + name + " is no list of integers");
}

std::vector<double> Call::f64s(StringRef name) const {
  mlir::Attribute a = attribute(name);
  std::vector<double> out;
  if (!a)
    return out;
  if (auto d = dyn_cast<mlir::DenseF32ArrayAttr>(a))
    return {d.asArrayRef().begin(), d.asArrayRef().end()};
  if (auto d = dyn_cast<mlir::DenseF64ArrayAttr>(a))
    return d.asArrayRef().vec();
  auto list = dyn_cast<mlir::ArrayAttr>(a);
  if (!list)
    fail("attribute " + name + " is no list of numbers");
  for (mlir::Attribute each : list)
    out.push_back(number(each, name));
  return out;
}

bool Call::wants(int64_t i) const {
  return i < outputs() && !isa<mlir::NoneType>(op->getResult(i).getType()) &&
         !op->getResult(i).use_empty();
}

Elem Call::outType(int64_t i) const {
  auto type = i < outputs() ? dyn_cast<mlir::ShapedType>(op->getResult(i).getType()) : nullptr;
  Elem e = type ? elemOf(type.getElementType()) : Elem::none;
  if (e == Elem::none)
    fail("unsupported type of result " + Twine(i));
  return e;
}

void Call::set(int64_t i, Tensor t) {
  if (i < outputs())
    results[i] = std::move(t);
}

std::vector<std::optional<Tensor>> Call::takeResults() {
  for (int64_t i = 0; i < outputs(); ++i) {
    if (!wants(i)) {
      results[i].reset();
      continue;
    }
    if (!results[i])
      fail("unsupported: result " + Twine(i) + " is not computed by the interpreter");
    auto type = dyn_cast<mlir::RankedTensorType>(op->getResult(i).getType());
    if (!type)
      continue;
    // What the IR claims of a value must hold, or passes that believe it are wrong.
    bool fits =
        elemOf(type.getElementType()) == results[i]->type && type.getRank() == results[i]->rank();
    for (int64_t d = 0; fits && d < type.getRank(); ++d)
      fits = type.isDynamicDim(d) || type.getDimSize(d) == results[i]->shape[d];
    if (fits)
      continue;
    std::string declared;
    raw_string_ostream(declared) << type;
    fail("result " + Twine(i) + " is " + nameOf(results[i]->type) + text(results[i]->shape) +
         " where the graph declares " + declared);
  }
  return std::move(results);
}

Registry::Registry() {
  for (auto add :
       {addElementwise, addBinary, addReductions, addMovement, addCreation, addIndexing, addScatter,
        addSelection, addMatMul, addEinsum, addNormalisation, addQuantisation, addAttention,
        addControlFlow, addSequences, addContrib, addTrees, addLosses, addConvolutions, addPools, addRecurrent,
        addResampling, addDetection, addSignal, addStateful, addMoERouting, addMoEExperts,
        addMoEExchange})
    add(*this);
}

const OpEntry *Registry::find(mlir::Operation *op) const {
  std::string name = op->getName().getStringRef().str();
  if (name == "onnx.custom") {
    auto domain = op->getAttrOfType<mlir::StringAttr>("domain");
    auto type = op->getAttrOfType<mlir::StringAttr>("op_type");
    if (!domain || !type)
      return nullptr;
    // ONNX Runtime's fusions write its operators without their domain.
    bool standard = domain.getValue().empty() || domain.getValue() == "ai.onnx";
    name = (standard ? "com.microsoft" : domain.getValue().str()) + "::" + type.str();
  }
  auto it = table.find(name);
  return it == table.end() ? nullptr : &it->second;
}

void Registry::add(StringRef name, OpFunction run, OpCheck check) {
  table[name] = OpEntry{run, check};
}

std::string nodeName(mlir::Operation *op) {
  StringRef type = op->getName().getStringRef();
  type.consume_front("onnx.");
  std::string shown = type.str();
  if (auto custom = op->getAttrOfType<mlir::StringAttr>("op_type"); custom && type == "custom")
    shown = custom.str();
  std::string name;
  op->getLoc()->walk([&](mlir::Location loc) {
    auto named = dyn_cast<mlir::NameLoc>(loc);
    if (!named)
      return mlir::WalkResult::advance();
    name = named.getName().str();
    return mlir::WalkResult::interrupt();
  });
  return name.empty() ? "node (" + shown + ")" : "node \"" + name + "\" (" + shown + ")";
}

} // namespace moec::reference
