#include "AttentionMatch.h"
#include "SymbolicShape.h"
#include "moec/Transforms/Prepare/OnnxBuilder.h"
#include "mlir/IR/BuiltinAttributes.h"

using namespace mlir;

namespace moec::prepare {

namespace {

// The operation `name` that makes `v`, or null.
Operation *madeBy(Value v, StringRef name) {
  Operation *op = v ? v.getDefiningOp() : nullptr;
  return onnxName(op) == name ? op : nullptr;
}

std::optional<double> number(Value v) {
  Operation *op = madeBy(v, "Constant");
  auto dense =
      op ? dyn_cast_or_null<DenseElementsAttr>(op->getAttr("value")) : nullptr;
  if (!dense || !isa<FloatType>(dense.getElementType()) ||
      (dense.getNumElements() != 1 && !dense.isSplat()))
    return std::nullopt;
  APFloat f = *dense.getValues<APFloat>().begin();
  bool lost;
  f.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &lost);
  return f.convertToDouble();
}

// Looks through casts between float types and identities: attention is computed
// in f32 whatever they round to.
Value plain(Value v) {
  while (Operation *op = v.getDefiningOp()) {
    StringRef n = onnxName(op);
    auto from = op->getNumOperands() ? rankedType(op->getOperand(0))
                                     : RankedTensorType();
    bool cast = n == "Cast" && from && isa<FloatType>(from.getElementType()) &&
                isa<FloatType>(rankedType(v).getElementType());
    if (n != "Identity" && !cast)
      return v;
    v = op->getOperand(0);
  }
  return v;
}

// Takes constant factors off: v == factor * result.
Value unscaled(Value v, double &factor) {
  while (Operation *op = plain(v).getDefiningOp()) {
    StringRef n = onnxName(op);
    if (n == "Mul") {
      auto a = number(op->getOperand(0)), b = number(op->getOperand(1));
      if (!a && !b)
        break;
      factor *= b ? *b : *a;
      v = op->getOperand(b ? 0 : 1);
    } else if (n == "Div") {
      auto b = number(op->getOperand(1));
      if (!b || *b == 0)
        break;
      factor /= *b;
      v = op->getOperand(0);
    } else {
      break;
    }
  }
  return v;
}

// Scores are [.., S, T]: masks of lower rank broadcast against them.
bool maskShape(Value mask, Value scores) {
  auto m = rankedType(mask), s = rankedType(scores);
  return m && s && m.getRank() <= s.getRank();
}

// A condition step: Where(c, scores, low) or Where(c, low, scores).
bool conditional(Operation *where, AttentionMatch &m, Value &scores) {
  for (bool inverted : {false, true}) {
    auto low = number(where->getOperand(inverted ? 1 : 2));
    // Lower than any score: adding it has the effect of replacing.
    auto type = rankedType(where->getResult(0));
    double bound = type.getElementType().isF16() ? -6e4 : -1e30;
    if (!low || *low > bound || !maskShape(where->getOperand(0), scores))
      continue;
    MaskTerm term;
    term.tensor = where->getOperand(0);
    term.conditional = true;
    term.inverted = inverted;
    term.low = *low;
    m.masks.push_back(term);
    scores = where->getOperand(inverted ? 2 : 1);
    return true;
  }
  return false;
}

// The scores are somewhere below: a product of two computed [.., m, n] tensors.
bool reachesProduct(Value v, int depth = 0) {
  double factor = 1;
  Operation *op = plain(unscaled(v, factor)).getDefiningOp();
  StringRef n = onnxName(op);
  if (n == "MatMul")
    return rankedType(op->getOperand(0)) && rankedType(op->getOperand(1)) &&
           rankedType(op->getOperand(0)).getRank() == 4 &&
           rankedType(op->getOperand(1)).getRank() == 4;
  if (depth > 4 || (n != "Add" && n != "Where"))
    return false;
  return llvm::any_of(op->getOperands(), [&](Value operand) {
    return reachesProduct(operand, depth + 1);
  });
}

// From the softmax's operand down to the product of q and k.
Operation *scoreProduct(Value scores, AttentionMatch &m, std::string &why) {
  while (true) {
    Operation *op = plain(unscaled(scores, m.scale)).getDefiningOp();
    StringRef n = onnxName(op);
    if (n == "MatMul")
      return op;
    // A factor outside of a mask would scale the mask too.
    if (m.scale != 1) {
      why = "the scores are scaled after the mask";
      return nullptr;
    }
    if (n == "Where" && conditional(op, m, scores))
      continue;
    if (n != "Add")
      break;
    bool first = reachesProduct(op->getOperand(0));
    if (first == reachesProduct(op->getOperand(1)))
      break;
    Value mask = op->getOperand(first ? 1 : 0);
    scores = op->getOperand(first ? 0 : 1);
    if (!maskShape(mask, scores))
      break;
    MaskTerm term;
    term.tensor = mask;
    m.masks.push_back(term);
  }
  why = "the scores are no masked, scaled product of queries and keys";
  return nullptr;
}

// Reshape(Transpose(Reshape(x, [-1, T, d])), [B, h, d, T]): x with its last two
// axes swapped. Returns x.
Value swappedByReshapes(Value v, SymbolicSizes &sizes) {
  Operation *outer = madeBy(v, "Reshape");
  Operation *turn = outer ? madeBy(outer->getOperand(0), "Transpose") : nullptr;
  Operation *inner = turn ? madeBy(turn->getOperand(0), "Reshape") : nullptr;
  auto perm = turn ? turn->getAttrOfType<DenseI64ArrayAttr>("perm") : nullptr;
  if (!inner || !perm || perm.asArrayRef() != ArrayRef<int64_t>{0, 2, 1})
    return {};
  Value x = inner->getOperand(0);
  auto type = rankedType(x);
  Sizes flat = sizes.elements(inner->getOperand(1)), full = sizes.elements(outer->getOperand(1));
  if (!type || type.getRank() != 4 || flat.size() != 3 || full.size() != 4)
    return {};
  // -1 in front: the rest is known.
  bool ok = flat[1] == sizes.of(x, 2) && flat[2] == sizes.of(x, 3) &&
            full[0] == sizes.of(x, 0) && full[1] == sizes.of(x, 1) &&
            full[2] == sizes.of(x, 3) && full[3] == sizes.of(x, 2);
  return ok ? x : Value();
}

// Reshape(Expand(Unsqueeze(x, 2), [B, n, g, T, d]), [B, n * g, T, d]): every
// head repeated g times. Returns x, or `v` itself.
Value unrepeated(Value v, SymbolicSizes &sizes) {
  Operation *merge = madeBy(v, "Reshape");
  Operation *repeat = merge ? madeBy(merge->getOperand(0), "Expand") : nullptr;
  Operation *split = repeat ? madeBy(repeat->getOperand(0), "Unsqueeze") : nullptr;
  if (!split)
    return v;
  Value x = split->getOperand(0);
  auto from = rankedType(x), wide = rankedType(repeat->getResult(0)),
       to = rankedType(v);
  Sizes axes = sizes.elements(split->getOperand(1));
  bool axis = axes.size() == 1 && (axes[0].number == 2 || axes[0].number == -3);
  if (!axis || !from || !wide || !to || from.getRank() != 4 ||
      wide.getRank() != 5 || to.getRank() != 4)
    return v;
  int64_t heads = from.getDimSize(1), times = wide.getDimSize(2);
  if (heads < 1 || times < 1 || wide.getDimSize(1) != heads ||
      to.getDimSize(1) != heads * times || wide.getDimSize(4) < 1 ||
      wide.getDimSize(4) != to.getDimSize(3) ||
      wide.getDimSize(4) != from.getDimSize(3))
    return v;
  // Only heads grow: a batch or a length of one would otherwise be repeated.
  if ((from.getDimSize(0) == 1 && wide.getDimSize(0) != 1) ||
      (from.getDimSize(2) == 1 && wide.getDimSize(2) != 1))
    return v;
  // The merge keeps batch and length apart: when one of them is what it was, so
  // is the other, as their product is.
  Sizes expanded = sizes.elements(repeat->getOperand(1));
  Sizes merged = sizes.elements(merge->getOperand(1));
  auto kept = [&](size_t before, size_t after) {
    if (wide.getDimSize(before) > 0)
      return wide.getDimSize(before) == to.getDimSize(after);
    return expanded.size() == 5 && merged.size() == 4 &&
           expanded[before] == merged[after];
  };
  return kept(0, 0) || kept(3, 2) ? x : v;
}

// The keys behind k^T, [B, h, d, T].
void keys(Value turned, SymbolicSizes &sizes, AttentionMatch &m) {
  m.k = unscaled(turned, m.scale);
  if (Value x = swappedByReshapes(m.k, sizes)) {
    m.k = x;
    return;
  }
  m.kPerm = {0, 1, 3, 2};
  Operation *op = madeBy(m.k, "Transpose");
  auto perm = op ? op->getAttrOfType<DenseI64ArrayAttr>("perm") : nullptr;
  if (!perm || perm.size() != 4)
    return;
  m.k = op->getOperand(0);
  m.kPerm.assign(perm.asArrayRef().begin(), perm.asArrayRef().end());
  std::swap(m.kPerm[2], m.kPerm[3]);
  if (llvm::equal(m.kPerm, ArrayRef<int64_t>{0, 1, 2, 3}))
    m.kPerm.clear();
}

// The softmax behind the left operand of the second product, null if none.
Operation *probabilities(Value v, AttentionMatch &m) {
  v = plain(v);
  if (Operation *where = madeBy(v, "Where")) {
    Operation *nan = madeBy(where->getOperand(0), "IsNaN");
    auto zero = number(where->getOperand(1));
    if (!nan || zero != 0.0 || nan->getOperand(0) != where->getOperand(2))
      return nullptr;
    m.guarded = true;
    v = plain(where->getOperand(2));
  }
  Operation *softmax = madeBy(v, "Softmax");
  auto type = softmax ? rankedType(v) : RankedTensorType();
  auto axis = softmax ? softmax->getAttrOfType<IntegerAttr>("axis") : nullptr;
  if (!type || type.getRank() != 4 ||
      (axis && axis.getInt() != -1 && axis.getInt() != 3))
    return nullptr;
  return softmax;
}

// Nothing else reads the probabilities: each step leads to the next.
bool onlyWay(Operation *from, Operation *to) {
  SmallVector<Operation *> work = {from};
  while (!work.empty()) {
    Operation *op = work.pop_back_val();
    for (Operation *user : op->getUsers()) {
      StringRef n = onnxName(user);
      if (user == to)
        continue;
      if (n != "Cast" && n != "Identity" && n != "IsNaN" && n != "Where")
        return false;
      work.push_back(user);
    }
  }
  return true;
}

// Type and shape rules of the kernel behind onnx.Attention.
bool fits(const AttentionMatch &m, std::string &why) {
  auto q = rankedType(m.q), k = rankedType(m.k), v = rankedType(m.v);
  if (!q || !k || !v || q.getRank() != 4 || k.getRank() != 4 || v.getRank() != 4) {
    why = "queries, keys and values are not [batch, heads, length, size]";
    return false;
  }
  Type element = q.getElementType();
  if (!element.isF32() && !element.isF16()) {
    why = "attention in this element type is unsupported";
    return false;
  }
  if (k.getElementType() != element || v.getElementType() != element) {
    why = "queries, keys and values have different element types";
    return false;
  }
  auto dim = [&](int64_t i) {
    return m.kPerm.empty() ? k.getDimSize(i) : k.getDimSize(m.kPerm[i]);
  };
  int64_t heads = q.getDimSize(1), kv = dim(1);
  if (heads < 1 || kv < 1 || heads % kv != 0 || v.getDimSize(1) != kv ||
      q.getDimSize(3) < 1 || dim(3) != q.getDimSize(3) || v.getDimSize(3) < 1) {
    why = "the numbers or sizes of the heads are not constant or do not fit";
    return false;
  }
  return true;
}

} // namespace

std::optional<AttentionMatch> matchAttention(Operation *product,
                                             SymbolicSizes &sizes,
                                             std::string &why) {
  AttentionMatch m;
  if (onnxName(product) != "MatMul")
    return std::nullopt;
  m.softmax = probabilities(product->getOperand(0), m);
  if (!m.softmax)
    return std::nullopt;
  if (!onlyWay(m.softmax, product)) {
    why = "the probabilities are used elsewhere too";
    return std::nullopt;
  }
  Operation *scores = scoreProduct(m.softmax->getOperand(0), m, why);
  if (!scores)
    return std::nullopt;
  m.q = unscaled(scores->getOperand(0), m.scale);
  keys(scores->getOperand(1), sizes, m);
  m.v = product->getOperand(1);
  if (m.kPerm.empty()) {
    Value k = unrepeated(m.k, sizes), v = unrepeated(m.v, sizes);
    // Grouped heads only when keys and values are grouped alike.
    if (k != m.k && v != m.v && rankedType(k).getDimSize(1) ==
                                    rankedType(v).getDimSize(1)) {
      m.k = k;
      m.v = v;
    }
  }
  if (!fits(m, why))
    return std::nullopt;
  return m;
}

} // namespace moec::prepare
