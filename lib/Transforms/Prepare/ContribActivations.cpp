// Activations: Gelu, BiasGelu, FastGelu, QuickGelu.
#include "Contrib.h"

using namespace mlir;

namespace moec::prepare {

namespace {

// FastGelu approximates with tanh; its bias is optional.
bool geluOf(const Custom &c, OnnxBuilder &b, bool tanh) {
  if (!c.areFloats({0}) || (c.in(1) && !c.areFloats({1})))
    return false;
  Value x = c.in(0);
  if (Value bias = c.in(1))
    x = b.binary("Add", x, bias);
  c.replace(0, gelu(b, x, tanh));
  return true;
}
bool exactGelu(const Custom &c, OnnxBuilder &b) { return geluOf(c, b, false); }
bool fastGelu(const Custom &c, OnnxBuilder &b) { return geluOf(c, b, true); }

bool quickGelu(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({0}))
    return false;
  c.replace(0, swish(b, c.in(0), c.real("alpha", 1.702)));
  return true;
}

} // namespace

void addContribActivations(ContribTable &table) {
  table["Gelu"] = exactGelu;
  table["BiasGelu"] = exactGelu;
  table["FastGelu"] = fastGelu;
  table["QuickGelu"] = quickGelu;
}

} // namespace moec::prepare
