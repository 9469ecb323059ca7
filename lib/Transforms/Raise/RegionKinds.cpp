// Which experts have one formula.
#include "RegionBody.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace moec::raise {

namespace {

bool hasMatrix(ArrayRef<Operation *> ops) {
  return llvm::any_of(ops, [](Operation *op) {
    return llvm::any_of(op->getOperands(), [](Value v) {
      return isWeight(v) && ranked(v) && ranked(v).getRank() >= 2;
    });
  });
}

bool hasParameters(ArrayRef<Operation *> ops) {
  return llvm::any_of(ops, [](Operation *op) {
    return llvm::any_of(op->getOperands(), [](Value v) {
      return isWeight(v) && ranked(v) && ranked(v).hasStaticShape() &&
             ranked(v).getNumElements() > 1;
    });
  });
}

// What comes before the common end is part of an expert where it has parameters.
bool sameEnd(Analysis &analysis, const Recipe &a, const Recipe &b) {
  size_t most = std::min(a.ops.size(), b.ops.size());
  for (size_t n = most; n > 0; --n) {
    size_t x = a.ops.size() - n, y = b.ops.size() - n;
    if (hasParameters(ArrayRef(a.ops).take_front(x)) ||
        hasParameters(ArrayRef(b.ops).take_front(y)))
      return false;
    if (hasMatrix(ArrayRef(a.ops).drop_front(x)) &&
        recipeKey(analysis, a, x, false) == recipeKey(analysis, b, y, false))
      return true;
  }
  return false;
}

} // namespace

bool isSizeOperand(OpOperand &operand) {
  StringRef n = onnxName(operand.getOwner());
  return operand.getOperandNumber() == 1 && (n == "Reshape" || n == "Expand");
}

std::string recipeKey(Analysis &analysis, const Recipe &recipe, size_t from, bool sources) {
  std::string key;
  llvm::raw_string_ostream os(key);
  llvm::DenseMap<Value, unsigned> number, parameter;
  auto name = [&](Value v) {
    Operation *op = v.getDefiningOp();
    if (auto n = number.find(v); n != number.end())
      os << 'v' << n->second;
    else if (isAbsent(v))
      os << '_';
    else if (llvm::is_contained(recipe.parameters, v))
      os << 'p' << parameter.insert({v, parameter.size()}).first->second << v.getType();
    else if (isOnnx(op, "Constant"))
      os << op->getAttrDictionary();
    else if (Expr *e = analysis.get(v).expr; e->kind == Expr::Splat)
      os << e->nums[0];
    else
      os << 's' << (sources ? recipe.sources.lookup(v) : 0);
    os << ' ';
  };
  for (Operation *op : ArrayRef(recipe.ops).drop_front(from)) {
    os << op->getName() << op->getAttrDictionary();
    for (OpOperand &operand : op->getOpOperands())
      if (!isSizeOperand(operand))
        name(operand.get());
    for (Value v : op->getResults()) {
      unsigned n = number.size();
      number[v] = n;
      os << v.getType();
    }
    os << '\n';
  }
  name(recipe.result);
  return key;
}

const Recipe *sameFormula(Analysis &analysis, const RegionBody &body) {
  SmallVector<const Recipe *> kinds;
  for (const Recipe &recipe : body.experts)
    if (llvm::none_of(kinds, [&](const Recipe *k) { return k->key == recipe.key; }))
      kinds.push_back(&recipe);
  for (size_t i = 0; i < kinds.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      if (sameEnd(analysis, *kinds[i], *kinds[j]))
        return kinds[i];
  return nullptr;
}

} // namespace moec::raise
