// Which experts have one formula.
#include "RegionBody.h"
#include "llvm/ADT/SetVector.h"
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

// `apart`: what comes before the common end is a part of the expert where it has
// parameters.
bool sameEnd(Analysis &analysis, const Recipe &a, const Recipe &b, bool apart) {
  size_t most = std::min(a.ops.size(), b.ops.size());
  auto ownFront = apart ? hasParameters : hasMatrix;
  for (size_t n = most; n > 0; --n) {
    size_t x = a.ops.size() - n, y = b.ops.size() - n;
    if (ownFront(ArrayRef(a.ops).take_front(x)) || ownFront(ArrayRef(b.ops).take_front(y)))
      return false;
    if (hasMatrix(ArrayRef(a.ops).drop_front(x)) &&
        recipeKey(analysis, a, x, false) == recipeKey(analysis, b, y, false))
      return true;
  }
  return false;
}

// A complete sum of experts' results.
bool isSum(const Expr *e) {
  return (e->kind == Expr::Terms || e->kind == Expr::AllTerms) && !e->apart;
}

} // namespace

bool givesTokens(const RegionBody &body, bool computed) {
  return llvm::any_of(body.experts, [&](const Recipe &recipe) {
    return recipe.ops.empty() && (computed || !recipe.result.getDefiningOp());
  });
}

bool readTokensOnly(const RegionBody &body) {
  return llvm::all_of(body.experts, [&](const Recipe &recipe) {
    return llvm::all_of(recipe.sources, [&](const auto &entry) {
      return entry.second == 0 || body.sources[entry.second].rowAxes == 0;
    });
  });
}

bool isGivenSlice(Operation *op, int64_t experts, int depth) {
  StringRef n = onnxName(op);
  if (n == "Transpose" || n == "Cast" || n == "Identity" || n == "Squeeze" || n == "Unsqueeze")
    return depth < 8 && isGivenSlice(op->getOperand(0).getDefiningOp(), experts, depth + 1);
  auto type = n == "Gather" ? ranked(op->getOperand(0)) : RankedTensorType();
  auto index = type ? ranked(op->getOperand(1)) : RankedTensorType();
  return index && index.getRank() == 0 && isOnnx(op->getOperand(1).getDefiningOp(), "Constant") &&
         type.getRank() > 1 && type.getDimSize(0) == experts && !isWeight(op->getOperand(0)) &&
         intAttr(op, "axis", 0) == 0;
}

bool isOwnNumber(OpOperand &operand, int64_t experts) {
  Operation *op = operand.getOwner();
  if (!isWeight(operand.get()))
    return false;
  if (isOnnx(op, "QuantizeLinear") || isOnnx(op, "DequantizeLinear"))
    return true;
  if (!isOnnx(op, "Gather") || operand.getOperandNumber() != 1)
    return false;
  auto data = ranked(op->getOperand(0)), index = ranked(operand.get());
  int64_t axis = intAttr(op, "axis", 0);
  return data && index && index.getRank() == 0 && !isWeight(op->getOperand(0)) && axis >= 0 &&
         axis < data.getRank() && data.getDimSize(axis) == experts;
}

bool isSizeOperand(OpOperand &operand) {
  StringRef n = onnxName(operand.getOwner());
  return operand.getOperandNumber() == 1 && (n == "Reshape" || n == "Expand");
}

bool standsForNumber(Analysis &analysis, OpOperand &operand) {
  Operation *op = operand.getOwner();
  StringRef n = onnxName(op);
  if (n == "GRU" || n == "LSTM" || n == "RNN")
    return operand.getOperandNumber() >= 5 &&
           analysis.get(operand.get()).expr->nums[0] == 0;
  return isElementwise(op) && llvm::any_of(op->getOperands(), [&](Value v) {
    auto type = ranked(v), to = ranked(op->getResult(0));
    return v != operand.get() && type && to && type.getShape() == to.getShape();
  });
}

bool sharesExperts(Analysis &analysis, Operation *op) {
  if (op->getNumResults() != 1 || !isSum(analysis.get(op->getResult(0)).expr))
    return false;
  llvm::SetVector<Operation *> behind;
  behind.insert(op);
  for (size_t i = 0; i < behind.size() && i < 4096; ++i) {
    const Expr *to = analysis.get(behind[i]->getResult(0)).expr;
    for (Value operand : behind[i]->getOperands()) {
      const Expr *e = analysis.get(operand).expr;
      Operation *def = operand.getDefiningOp();
      bool part = e->expertLinear || (e->kind == to->kind && e->ids && e->ids == to->ids);
      if (part && def && def->getBlock() == op->getBlock())
        behind.insert(def);
    }
  }
  return llvm::any_of(ArrayRef(behind.getArrayRef()).drop_front(), [&](Operation *inner) {
    return llvm::any_of(inner->getUsers(), [&](Operation *user) {
      return !behind.contains(user) && !isOnnx(user, "Shape");
    });
  });
}

bool ofLayer(Analysis &analysis, Value v, int depth) {
  Operation *op = v.getDefiningOp();
  if (isSum(analysis.get(v).expr))
    return true;
  if (depth > 12 || onnxName(op).empty() || hasMatrix(op))
    return false;
  return llvm::any_of(op->getOperands(), [&](Value operand) {
    return !isAbsent(operand) && !isWeight(operand) && ofLayer(analysis, operand, depth + 1);
  });
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
  auto other = [&](size_t i, bool apart) {
    return llvm::any_of(ArrayRef(kinds).take_front(i), [&](const Recipe *k) {
      return sameEnd(analysis, *kinds[i], *k, apart);
    });
  };
  // Experts that differ anyway may have a norm of their own; one among equals that
  // has one reads other tokens.
  size_t formulas = 0;
  for (size_t i = 0; i < kinds.size(); ++i)
    formulas += !other(i, false);
  for (size_t i = 0; i < kinds.size(); ++i)
    if (other(i, formulas > 1))
      return kinds[i];
  return nullptr;
}

} // namespace moec::raise
