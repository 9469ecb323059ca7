// Sequences of tensors.
#include "Call.h"
#include "Shapes.h"
#include "moec/Dialect/Onnx/OnnxDialect.h"

using namespace llvm;

namespace moec::reference {

namespace {

using List = std::vector<Tensor>;

const List &listIn(Call &c, int64_t i) {
  if (!c.in(i).elements)
    fail("input " + Twine(i) + " is no sequence");
  return *c.in(i).elements;
}

void setList(Call &c, Elem type, List elements) {
  Tensor t;
  t.type = type;
  t.elements = std::make_shared<const List>(std::move(elements));
  c.set(0, std::move(t));
}

Elem declaredType(Call &c) {
  auto type = dyn_cast<onnx::SequenceType>(c.op->getResult(0).getType());
  return type ? elemOf(type.getElementType().getElementType()) : Elem::none;
}

// A position among `places` of a list; negative ones count from the end of `size` elements.
int64_t position(Call &c, int64_t i, int64_t size, int64_t places) {
  int64_t at = c.intIn(i), from = at < 0 ? at + size : at;
  if (from < 0 || from >= places)
    fail("position " + Twine(at) + " in a sequence of " + Twine(size));
  return from;
}

void construct(Call &c) {
  List elements;
  for (int64_t i = 0; i < c.inputs(); ++i)
    elements.push_back(c.in(i));
  setList(c, declaredType(c), std::move(elements));
}

void insert(Call &c) {
  List elements = listIn(c, 0);
  auto size = static_cast<int64_t>(elements.size());
  if (c.in(1).type != c.in(0).type)
    fail("an element of another type than the sequence's");
  int64_t at = c.hasIn(2) ? position(c, 2, size, size + 1) : size;
  elements.insert(elements.begin() + at, c.in(1));
  setList(c, c.in(0).type, std::move(elements));
}

void erase(Call &c) {
  List elements = listIn(c, 0);
  auto size = static_cast<int64_t>(elements.size());
  int64_t at = c.hasIn(1) ? position(c, 1, size, size) : size - 1;
  if (size == 0)
    fail("nothing to erase in an empty sequence");
  elements.erase(elements.begin() + at);
  setList(c, c.in(0).type, std::move(elements));
}

void at(Call &c) {
  const List &elements = listIn(c, 0);
  auto size = static_cast<int64_t>(elements.size());
  c.set(0, elements[position(c, 1, size, size)]);
}

void length(Call &c) { c.set(0, ints({static_cast<int64_t>(listIn(c, 0).size())}).reshaped({})); }

void concatFrom(Call &c) {
  const List &elements = listIn(c, 0);
  if (elements.empty())
    fail("an empty sequence cannot be joined");
  int64_t rank = elements[0].rank(), axis = c.i64("axis", 0);
  for (const Tensor &t : elements)
    if (t.rank() != rank)
      fail("elements of different ranks cannot be joined");
  c.set(0, c.i64("new_axis", 0) ? stack(elements, Call::axis(axis, rank + 1))
                                : concat(elements, Call::axis(axis, rank)));
}

void split(Call &c) {
  const Tensor &x = c.in(0);
  int64_t axis = Call::axis(c.i64("axis", 0), x.rank()), size = x.shape[axis];
  bool chunks = !c.hasIn(1) || c.in(1).rank() == 0;
  std::vector<int64_t> sizes;
  if (chunks) {
    int64_t each = c.hasIn(1) ? c.intIn(1) : 1;
    if (each < 1)
      fail("parts of size " + Twine(each));
    for (int64_t from = 0; from < size; from += each)
      sizes.push_back(std::min(each, size - from));
  } else {
    sizes = c.intsIn(1);
  }
  List elements;
  int64_t start = 0;
  for (int64_t each : sizes) {
    if (each < 0 || each > size - start)
      fail("the parts do not add up to " + Twine(size));
    Tensor piece = part(x, axis, start, each);
    if (!c.hasIn(1) && c.i64("keepdims", 1) == 0) {
      Shape shape = piece.shape;
      shape.erase(shape.begin() + axis);
      piece = piece.reshaped(shape);
    }
    elements.push_back(std::move(piece));
    start += each;
  }
  if (start != size)
    fail("the parts do not add up to " + Twine(size));
  setList(c, x.type, std::move(elements));
}

} // namespace

void addSequences(Registry &r) {
  r.add("onnx.SequenceConstruct", construct);
  r.add("onnx.SequenceEmpty", [](Call &c) { setList(c, declaredType(c), {}); });
  r.add("onnx.SequenceInsert", insert);
  r.add("onnx.SequenceErase", erase);
  r.add("onnx.SequenceAt", at);
  r.add("onnx.SequenceLength", length);
  r.add("onnx.ConcatFromSequence", concatFrom);
  r.add("onnx.SplitToSequence", split);
}

} // namespace moec::reference
