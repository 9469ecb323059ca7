// Einsum, by its definition: one sum over every label that the result does not show.
#include "Call.h"
#include "Shapes.h"
#include "llvm/ADT/StringExtras.h"
#include <map>

using namespace llvm;

namespace moec::reference {

namespace {

// A label is a letter, or -1, -2, ... for the dimensions of an ellipsis, counted from the last.
using Labels = std::vector<int>;

struct Equation {
  std::vector<Labels> operands;
  Labels result;
  std::map<int, int64_t> sizes;
};

Labels parseTerm(StringRef term, int64_t ellipsis) {
  Labels labels;
  bool seen = false;
  while (!term.empty()) {
    if (term.consume_front("...")) {
      if (seen || ellipsis < 0)
        fail("unexpected ellipsis in the equation");
      seen = true;
      for (int64_t i = ellipsis; i > 0; --i)
        labels.push_back(static_cast<int>(-i));
      continue;
    }
    if (!llvm::isAlpha(term.front()))
      fail(Twine("'") + Twine(term.front()) + "' in the equation");
    labels.push_back(term.front());
    term = term.drop_front();
  }
  return labels;
}

Equation parse(Call &c) {
  std::string equation = c.str("equation", "");
  llvm::erase(equation, ' ');
  auto [left, right] = StringRef(equation).split("->");
  SmallVector<StringRef> terms;
  left.split(terms, ',');
  if (static_cast<int64_t>(terms.size()) != c.inputs())
    fail("the equation has " + Twine(terms.size()) + " operands, the node " + Twine(c.inputs()));
  Equation e;
  std::map<int, int> uses;
  int64_t widest = 0;
  for (auto [i, term] : enumerate(terms)) {
    const Tensor &x = c.in(static_cast<int64_t>(i));
    int64_t letters = static_cast<int64_t>(term.size()) - (term.contains("...") ? 3 : 0);
    int64_t ellipsis = term.contains("...") ? x.rank() - letters : 0;
    Labels labels = parseTerm(term, ellipsis);
    if (static_cast<int64_t>(labels.size()) != x.rank())
      fail("term " + term + " for a tensor of rank " + Twine(x.rank()));
    widest = std::max(widest, ellipsis);
    for (auto [label, size] : zip(labels, x.shape)) {
      ++uses[label];
      int64_t &known = e.sizes.try_emplace(label, 1).first->second;
      if (known != size && known != 1 && size != 1)
        fail("a label stands for " + Twine(known) + " and for " + Twine(size));
      known = known == 1 ? size : known;
    }
    e.operands.push_back(labels);
  }
  if (StringRef(equation).contains("->")) {
    e.result = parseTerm(right, widest);
  } else { // the ellipsis, then every label used once, in the order of the alphabet
    for (int64_t i = widest; i > 0; --i)
      e.result.push_back(static_cast<int>(-i));
    for (auto [label, n] : uses)
      if (label > 0 && n == 1)
        e.result.push_back(label);
  }
  for (int label : e.result)
    if (!e.sizes.count(label) || llvm::count(e.result, label) != 1)
      fail("the result has a label twice or one that no operand has");
  return e;
}

template <class T>
void evaluate(Call &c, const Equation &e) {
  // All labels, those of the result first: one loop each.
  Labels loops = e.result;
  for (auto [label, size] : e.sizes)
    if (!is_contained(loops, label))
      loops.push_back(label);
  Shape sizes, shape;
  for (int label : loops)
    sizes.push_back(e.sizes.at(label));
  shape.assign(sizes.begin(), sizes.begin() + e.result.size());
  std::vector<Elements<T>> in;
  std::vector<Shape> strides(c.inputs(), Shape(loops.size(), 0));
  for (int64_t i = 0; i < c.inputs(); ++i) {
    in.emplace_back(c.in(i));
    Shape own = stridesOf(c.in(i).shape);
    for (auto [axis, label] : enumerate(e.operands[i]))
      if (c.in(i).shape[axis] != 1)
        strides[i][find(loops, label) - loops.begin()] += own[axis];
  }
  std::vector<T> out(count(shape), T(0));
  Shape index(loops.size(), 0);
  int64_t summed = count(ArrayRef<int64_t>(sizes).drop_front(shape.size()));
  if (summed > 0 && !out.empty()) {
    int64_t step = 0;
    do {
      T product = T(1);
      for (int64_t i = 0; i < c.inputs(); ++i) {
        int64_t at = 0;
        for (size_t d = 0; d < loops.size(); ++d)
          at += index[d] * strides[i][d];
        product *= in[i][at];
      }
      out[step++ / summed] += product;
    } while (advance(index, sizes));
  }
  c.set(0, pack(c.in(0).type, shape, out));
}

void einsum(Call &c) {
  Equation e = parse(c);
  for (int64_t i = 1; i < c.inputs(); ++i)
    if (c.in(i).type != c.in(0).type)
      fail("operands of different element types");
  isFloat(c.in(0).type) ? evaluate<double>(c, e) : evaluate<uint64_t>(c, e);
}

} // namespace

void addEinsum(Registry &r) { r.add("onnx.Einsum", einsum); }

} // namespace moec::reference
