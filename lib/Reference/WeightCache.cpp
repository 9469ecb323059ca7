#include "WeightCache.h"

using namespace llvm;

namespace moec::reference {

Tensor WeightCache::get(StringRef bind, int64_t row) {
  Key key(bind.str(), row);
  auto it = entries.find(key);
  if (it != entries.end()) {
    order.splice(order.begin(), order, it->second.place);
    return it->second.tensor;
  }
  Tensor t = evaluate(bind, row);
  int64_t bytes = t.size() * bytesOf(t.type);
  if (bytes > bound)
    return t;
  while (held + bytes > bound) {
    Tensor &oldest = entries.at(order.back()).tensor;
    held -= oldest.size() * bytesOf(oldest.type);
    entries.erase(order.back());
    order.pop_back();
  }
  held += bytes;
  order.push_front(key);
  entries[key] = {t, order.begin()};
  return t;
}

Tensor WeightCache::evaluate(StringRef bind, int64_t row) {
  auto type = evaluator.type(bind);
  if (!type)
    fail(toString(type.takeError()));
  Elem elem = elemOf(type->getElementType());
  if (elem == Elem::none)
    fail("unsupported element type of weight " + bind);
  Shape shape(type->getShape());
  SmallVector<char, 0> bytes;
  if (row >= 0) {
    if (shape.empty() || row >= shape[0])
      fail("weight " + bind + " has no row " + Twine(row));
    shape.erase(shape.begin());
  }
  if (Error error = row < 0 ? evaluator.all(bind, bytes) : evaluator.rows(bind, row, 1, bytes))
    fail(toString(std::move(error)));
  Tensor t(elem, shape);
  if (static_cast<int64_t>(bytes.size()) != t.size() * bytesOf(elem))
    fail("weight " + bind + " has " + Twine(bytes.size()) + " bytes where " + nameOf(elem) +
         text(shape) + " is declared");
  if (!bytes.empty())
    std::memcpy(t.mutableBytes(), bytes.data(), bytes.size());
  return t;
}

} // namespace moec::reference
