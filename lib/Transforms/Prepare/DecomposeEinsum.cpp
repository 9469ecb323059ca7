// Einsum as sums, transposes and matrix products.
//
// Operands are joined from the left, two at a time. A label of both operands
// that is still needed is a batch axis, one that is not is contracted. MatMul
// broadcasts its batch axes, so that of the labels of one operand only the last
// is a row or column and the others are batch axes of size one in the other
// operand: parameters keep their layout, nothing is flattened but contractions
// over several labels.
#include "Decompose.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include <map>

using namespace mlir;

namespace moec::prepare {

namespace {

using Labels = std::string; // one letter an axis

bool has(StringRef labels, char label) { return labels.contains(label); }

struct Term {
  Value value;
  Labels labels;
};

struct Equation {
  SmallVector<Term> terms;
  Labels result;
};

bool lettersOnce(StringRef labels) {
  for (auto [i, c] : llvm::enumerate(labels))
    if (!llvm::isAlpha(c) || has(labels.drop_front(i + 1), c))
      return false;
  return true;
}

// Without "->" the result has the axes of ellipses, then the labels that occur
// once, in alphabetical order.
Labels impliedResult(StringRef terms) {
  Labels result;
  for (char c : terms)
    if (llvm::isAlpha(c) && terms.count(c) == 1)
      result.push_back(c);
  llvm::sort(result);
  return (terms.contains("...") ? "..." : "") + result;
}

// Axes [first, first + count) of x as one. Sizes that are not known are computed
// without -1, which says nothing about an empty tensor.
Value flattened(OnnxBuilder &b, Value x, int64_t first, int64_t count);

// Letters that the equation does not use, for the axes of ellipses.
Labels unusedLetters(StringRef equation) {
  Labels out;
  for (char c = 'A'; c <= 'z'; ++c)
    if (llvm::isAlpha(c) && !has(equation, c))
      out.push_back(c);
  return out;
}

// `part` with its ellipsis, if any, as the last `axes` of the letters. False when
// there are not so many, or what is left is no list of letters.
bool named(Labels &part, StringRef letters, int64_t axes) {
  size_t at = part.find("...");
  if (at != Labels::npos) {
    if (axes < 0 || axes > static_cast<int64_t>(letters.size()))
      return false;
    part.replace(at, 3, letters.take_back(axes).str());
  }
  return llvm::all_of(part, llvm::isAlpha);
}

// A label twice in one term: the diagonal of its axes. Null when their size is
// not known.
std::optional<Term> withoutDiagonals(OnnxBuilder &b, Term x) {
  for (size_t i = 0; i < x.labels.size(); ++i) {
    size_t j = x.labels.find(x.labels[i], i + 1);
    if (j == Labels::npos)
      continue;
    auto type = rankedType(x.value);
    int64_t size = type.getDimSize(i), rank = type.getRank();
    if (size < 0 || type.getDimSize(j) != size)
      return std::nullopt;
    SmallVector<int64_t> perm;
    Labels rest;
    for (int64_t k = 0; k < rank; ++k)
      if (k != static_cast<int64_t>(i) && k != static_cast<int64_t>(j)) {
        perm.push_back(k);
        rest.push_back(x.labels[k]);
      }
    perm.append({static_cast<int64_t>(i), static_cast<int64_t>(j)});
    Value pairs = flattened(b, b.transpose(x.value, perm), rank - 2, 2);
    x = {b.slice(pairs, rank - 2, 0, size * size, size + 1), rest + x.labels[i]};
    i = static_cast<size_t>(-1); // from the front again
  }
  return x;
}

// A label has one size: an axis of size one where another term has more is left
// out of its term, as it broadcasts. False when sizes contradict each other.
bool dropBroadcasts(OnnxBuilder &b, MutableArrayRef<Term> terms) {
  std::map<char, int64_t> sizes;
  for (const Term &term : terms)
    for (auto [label, size] : llvm::zip(term.labels, rankedType(term.value).getShape())) {
      int64_t &known = sizes.try_emplace(label, 1).first->second;
      if (size == 1 || size == known)
        continue;
      if (known > 1 && size > 1)
        return false;
      known = known == 1 || size > 1 ? size : known;
    }
  for (Term &term : terms) {
    auto type = rankedType(term.value);
    SmallVector<int64_t> gone, dims;
    Labels rest;
    for (auto [i, label] : llvm::enumerate(term.labels)) {
      if (type.getDimSize(i) == 1 && sizes[label] != 1) {
        gone.push_back(static_cast<int64_t>(i));
        continue;
      }
      dims.push_back(type.getDimSize(i));
      rest.push_back(label);
    }
    if (!gone.empty())
      term = {b.op("Squeeze", {term.value, b.ints(gone)},
                   RankedTensorType::get(dims, type.getElementType())),
              rest};
  }
  return true;
}

// What the equation says about each operand. False for what is not covered:
// types that are not numbers of one kind, axes that do not match the equation.
bool readEquation(Operation *op, Equation &e) {
  auto attr = op->getAttrOfType<StringAttr>("equation");
  if (!attr || op->getNumOperands() == 0 || !rankedType(op->getResult(0)))
    return false;
  std::string text = attr.str();
  llvm::erase(text, ' ');
  auto [left, right] = StringRef(text).split("->");
  SmallVector<StringRef> parts;
  left.split(parts, ',');
  e.result = StringRef(text).contains("->") ? right.str() : impliedResult(left);
  if (parts.size() != op->getNumOperands())
    return false;
  Type element = rankedType(op->getResult(0)).getElementType();
  Labels letters = unusedLetters(text);
  int64_t widest = 0; // of the ellipses
  for (auto [part, value] : llvm::zip(parts, op->getOperands())) {
    auto type = rankedType(value);
    if (!type || type.getElementType() != element || element.isInteger(1) ||
        !element.isIntOrFloat())
      return false;
    bool open = part.contains("...");
    int64_t axes = type.getRank() - static_cast<int64_t>(part.size()) + 3;
    Labels labels = part.str();
    if (!named(labels, letters, axes) || static_cast<int64_t>(labels.size()) != type.getRank())
      return false;
    widest = open ? std::max(widest, axes) : widest;
    e.terms.push_back({value, labels});
  }
  if (!named(e.result, letters, widest) || !lettersOnce(e.result) ||
      rankedType(op->getResult(0)).getRank() != static_cast<int64_t>(e.result.size()))
    return false;
  return llvm::all_of(e.result, [&](char c) {
    return llvm::any_of(e.terms, [&](const Term &term) { return has(term.labels, c); });
  });
}

SmallVector<int64_t> permutation(StringRef from, StringRef to) {
  SmallVector<int64_t> perm;
  for (char c : to)
    perm.push_back(static_cast<int64_t>(from.find(c)));
  return perm;
}

Term permuted(OnnxBuilder &b, Term x, StringRef labels) {
  if (x.labels == labels)
    return x;
  return {b.transpose(x.value, permutation(x.labels, labels)), labels.str()};
}

// Sums over the labels outside of `kept`.
Term summed(OnnxBuilder &b, Term x, StringRef kept) {
  SmallVector<int64_t> axes;
  Labels rest;
  for (auto [i, c] : llvm::enumerate(x.labels)) {
    if (has(kept, c))
      rest.push_back(c);
    else
      axes.push_back(static_cast<int64_t>(i));
  }
  if (axes.empty())
    return x;
  return {b.reduce("ReduceSum", x.value, axes, /*keep=*/false), rest};
}

Value flattened(OnnxBuilder &b, Value x, int64_t first, int64_t count) {
  auto type = rankedType(x);
  ArrayRef<int64_t> dims = type.getShape();
  SmallVector<int64_t> to(dims.take_front(first));
  int64_t product = 1;
  for (int64_t d : dims.slice(first, count))
    product = d < 0 || product < 0 ? ShapedType::kDynamic : product * d;
  to.push_back(product);
  to.append(dims.begin() + first + count, dims.end());
  auto size = [&](int64_t i) { return dims[i] >= 0 ? b.ints(dims[i]) : b.shape(x, i, i + 1); };
  Value shape;
  if (llvm::all_of(to, [](int64_t d) { return d >= 0; })) {
    shape = b.ints(to);
  } else {
    Value joint = product >= 0 ? b.ints(product) : size(first);
    for (int64_t i = first + 1; product < 0 && i < first + count; ++i)
      joint = b.binary("Mul", joint, size(i));
    SmallVector<Value> parts;
    for (int64_t i = 0; i < type.getRank(); ++i)
      if (i <= first || i >= first + count)
        parts.push_back(i == first ? joint : size(i));
    shape = b.concat(parts, 0);
  }
  return b.op("Reshape", {x, shape}, RankedTensorType::get(to, type.getElementType()),
              {b.attr("allowzero", int64_t(1))});
}

// x with axes in the order of `labels`; axes it lacks have size one.
Value spread(OnnxBuilder &b, Term x, StringRef labels) {
  Labels own;
  SmallVector<int64_t> missing;
  for (auto [i, c] : llvm::enumerate(labels)) {
    if (has(x.labels, c))
      own.push_back(c);
    else
      missing.push_back(static_cast<int64_t>(i));
  }
  Value y = permuted(b, x, own).value;
  return missing.empty() ? y : b.unsqueeze(y, missing);
}

// How MatMul joins two terms.
struct Product {
  Term left, right;
  Labels batch;        // in the order of the result
  Labels row, column;  // one label or none
  Labels contracted;

  Labels leftOrder() const { return own(left) + row + contracted; }
  Labels rightOrder() const { return own(right) + contracted + column; }
  Labels result() const { return batch + row + column; }
  Labels own(const Term &term) const {
    Labels out;
    llvm::copy_if(batch, std::back_inserter(out), [&](char c) { return has(term.labels, c); });
    return out;
  }
  int transposes(StringRef wanted) const {
    return (left.labels != leftOrder()) + (right.labels != rightOrder()) + (result() != wanted);
  }
};

// `result`: the labels of the joined term, in order.
Product planProduct(Term left, Term right, StringRef result) {
  Product p{left, right, {}, {}, {}, {}};
  for (char c : left.labels)
    if (has(right.labels, c) && !has(result, c))
      p.contracted.push_back(c);
  for (char c : result) {
    bool inLeft = has(left.labels, c), inRight = has(right.labels, c);
    if (inLeft && !inRight)
      p.row = c;
    if (inRight && !inLeft)
      p.column = c;
  }
  for (char c : result)
    if (!has(p.row, c) && !has(p.column, c))
      p.batch.push_back(c);
  // Parameters, [experts, K, N], stay as they are: broadcasting gives them axes in front.
  for (const Term *term : {&p.left, &p.right})
    if (Operation *use = term->value.getDefiningOp();
        use && use->getName().getStringRef() == "moe.weight.use") {
      llvm::stable_sort(p.batch, [&](char a, char b) {
        return !has(term->labels, a) && has(term->labels, b);
      });
      break;
    }
  return p;
}

// [batch axes, own axes] with size-one axes for what the operand lacks.
Value productOperand(OnnxBuilder &b, const Product &p, const Term &term, bool isLeft) {
  Value x = permuted(b, term, isLeft ? p.leftOrder() : p.rightOrder()).value;
  Labels own = p.own(term);
  const Labels &edge = isLeft ? p.row : p.column;
  auto leading = static_cast<int64_t>(own.size()), count = static_cast<int64_t>(p.contracted.size());
  if (count > 1)
    x = flattened(b, x, leading + (isLeft ? edge.size() : 0), count);
  SmallVector<int64_t> missing;
  for (auto [i, c] : llvm::enumerate(p.batch))
    if (!has(own, c))
      missing.push_back(static_cast<int64_t>(i));
  if (own.empty()) // broadcast anyway
    missing.clear();
  if (edge.empty())
    missing.push_back((own.empty() ? 0 : static_cast<int64_t>(p.batch.size())) + (isLeft ? 0 : 1));
  return missing.empty() ? x : b.unsqueeze(x, missing);
}

Term multiplied(OnnxBuilder &b, const Product &p) {
  Value y = b.matmul(productOperand(b, p, p.left, true), productOperand(b, p, p.right, false));
  auto rank = static_cast<int64_t>(p.batch.size());
  SmallVector<int64_t> extra;
  if (p.row.empty())
    extra.push_back(rank);
  if (p.column.empty())
    extra.push_back(rank + 1);
  if (extra.empty())
    return {y, p.result()};
  auto type = rankedType(y);
  SmallVector<int64_t> dims;
  for (auto [i, d] : llvm::enumerate(type.getShape()))
    if (!llvm::is_contained(extra, static_cast<int64_t>(i)))
      dims.push_back(d);
  y = b.op("Squeeze", {y, b.ints(extra)}, RankedTensorType::get(dims, type.getElementType()));
  return {y, p.result()};
}

// `needed`: labels that the result or a later operand has.
Term joined(OnnxBuilder &b, Term left, Term right, StringRef needed) {
  left = summed(b, left, needed.str() + right.labels);
  right = summed(b, right, needed.str() + left.labels);
  Labels result;
  for (char c : needed)
    if ((has(left.labels, c) || has(right.labels, c)) && !has(result, c))
      result.push_back(c);
  Product p = planProduct(left, right, result);
  if (p.contracted.empty())
    return {b.binary("Mul", spread(b, left, result), spread(b, right, result)), result};
  Product swapped = planProduct(right, left, result);
  return multiplied(b, swapped.transposes(result) < p.transposes(result) ? swapped : p);
}

} // namespace

bool einsum(Operation *op, OnnxBuilder &b) {
  Equation e;
  if (!readEquation(op, e))
    return false;
  for (Term &term : e.terms) {
    auto plain = withoutDiagonals(b, term);
    if (!plain)
      return false;
    term = *plain;
  }
  if (!dropBroadcasts(b, e.terms))
    return false;
  Term y = e.terms.front();
  for (size_t i = 1; i < e.terms.size(); ++i) {
    Labels needed = e.result;
    for (const Term &later : ArrayRef(e.terms).drop_front(i + 1))
      needed += later.labels;
    y = joined(b, y, e.terms[i], needed);
  }
  y = permuted(b, summed(b, y, e.result), e.result);
  Type type = op->getResult(0).getType();
  if (e.terms.size() == 1 && y.value == e.terms.front().value)
    y.value = b.op("Identity", y.value, type);
  else // its uses, a return among them, were made for this type
    y.value.setType(type);
  op->getResult(0).replaceAllUsesWith(y.value);
  return true;
}

} // namespace moec::prepare
