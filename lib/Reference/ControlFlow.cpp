// If, Loop and Scan.
#include "Call.h"
#include "Shapes.h"
#include "mlir/IR/BuiltinTypes.h"

using namespace llvm;

namespace moec::reference {

namespace {

using Value = std::optional<Tensor>;

bool truth(const Tensor &t) {
  if (t.type != Elem::boolean || t.size() != 1)
    fail("the condition is no boolean scalar");
  return t.bytes()[0] != 0;
}

void setAll(Call &c, std::vector<Value> values) {
  for (int64_t i = 0; i < c.outputs(); ++i)
    if (values[i])
      c.set(i, std::move(*values[i]));
}

void ifOp(Call &c) {
  auto values = c.machine.region(c.op->getRegion(truth(c.in(0)) ? 0 : 1), {});
  if (static_cast<int64_t>(values.size()) != c.outputs())
    fail("a branch gives " + Twine(values.size()) + " values for " + Twine(c.outputs()));
  setAll(c, std::move(values));
}

// What each iteration gave for one scan output, along `axis`. Without iterations only the
// declared type tells the shape; what it leaves open is 0.
Tensor joined(Call &c, const std::vector<Tensor> &parts, int64_t axis, int64_t result) {
  if (!parts.empty())
    return stack(parts, Call::axis(axis, parts[0].rank() + 1));
  auto type = dyn_cast<mlir::RankedTensorType>(c.op->getResult(result).getType());
  if (!type || type.getRank() == 0)
    fail("the shape of result " + Twine(result) + " without iterations is unknown");
  Shape shape;
  for (int64_t d : type.getShape())
    shape.push_back(mlir::ShapedType::isDynamic(d) ? 0 : d);
  shape[Call::axis(axis, type.getRank())] = 0;
  return Tensor(c.outType(result), shape);
}

void loop(Call &c) {
  int64_t trips = c.hasIn(0) ? c.intIn(0) : std::numeric_limits<int64_t>::max();
  bool go = !c.hasIn(1) || truth(c.in(1));
  int64_t carried = c.inputs() - 2, scans = c.outputs() - carried;
  if (carried < 0 || scans < 0)
    fail("fewer results than loop-carried values");
  std::vector<Value> state;
  for (int64_t i = 0; i < carried; ++i)
    state.push_back(c.optional(2 + i));
  std::vector<std::vector<Tensor>> collected(scans);
  for (int64_t trip = 0; go && trip < trips; ++trip) {
    std::vector<Value> args = {ints({trip}).reshaped({}), scalar(Elem::boolean, 1)};
    args.insert(args.end(), state.begin(), state.end());
    auto values = c.machine.region(c.op->getRegion(0), args);
    if (static_cast<int64_t>(values.size()) != 1 + carried + scans || !values[0])
      fail("the body gives " + Twine(values.size()) + " values");
    go = truth(*values[0]);
    for (int64_t i = 0; i < carried; ++i)
      state[i] = values[1 + i];
    for (int64_t i = 0; i < scans; ++i) {
      if (!values[1 + carried + i])
        fail("a scan output is absent");
      collected[i].push_back(*values[1 + carried + i]);
    }
  }
  for (int64_t i = 0; i < scans; ++i)
    state.push_back(joined(c, collected[i], 0, carried + i));
  setAll(c, std::move(state));
}

void scan(Call &c) {
  int64_t n = c.i64("num_scan_inputs", 0), states = c.inputs() - n, outs = c.outputs() - states;
  if (n < 1 || states < 0 || outs < 0)
    fail("num_scan_inputs = " + Twine(n) + " does not fit the node");
  auto list = [&](StringRef name, int64_t size) {
    auto values = c.i64s(name).value_or(std::vector<int64_t>(size, 0));
    if (static_cast<int64_t>(values.size()) != size)
      fail("attribute " + name + " needs " + Twine(size) + " values");
    return values;
  };
  auto inAxes = list("scan_input_axes", n), inBack = list("scan_input_directions", n);
  auto outAxes = list("scan_output_axes", outs), outBack = list("scan_output_directions", outs);
  std::vector<Value> state;
  for (int64_t i = 0; i < states; ++i)
    state.push_back(c.optional(i));
  int64_t trips = -1;
  for (int64_t i = 0; i < n; ++i) {
    const Tensor &x = c.in(states + i);
    inAxes[i] = Call::axis(inAxes[i], x.rank());
    if (trips >= 0 && trips != x.shape[inAxes[i]])
      fail("scan inputs of different lengths");
    trips = x.shape[inAxes[i]];
  }
  std::vector<std::vector<Tensor>> collected(outs);
  for (int64_t trip = 0; trip < trips; ++trip) {
    std::vector<Value> args = state;
    for (int64_t i = 0; i < n; ++i) {
      const Tensor &x = c.in(states + i);
      Tensor slice = part(x, inAxes[i], inBack[i] ? trips - 1 - trip : trip, 1);
      Shape shape(slice.shape);
      shape.erase(shape.begin() + inAxes[i]);
      args.push_back(slice.reshaped(shape));
    }
    auto values = c.machine.region(c.op->getRegion(0), args);
    if (static_cast<int64_t>(values.size()) != states + outs)
      fail("the body gives " + Twine(values.size()) + " values");
    for (int64_t i = 0; i < states; ++i)
      state[i] = values[i];
    for (int64_t i = 0; i < outs; ++i) {
      if (!values[states + i])
        fail("a scan output is absent");
      auto &parts = collected[i];
      parts.insert(outBack[i] ? parts.begin() : parts.end(), *values[states + i]);
    }
  }
  for (int64_t i = 0; i < outs; ++i)
    state.push_back(joined(c, collected[i], outAxes[i], states + i));
  setAll(c, std::move(state));
}

} // namespace

void addControlFlow(Registry &r) {
  r.add("onnx.If", ifOp);
  r.add("onnx.Loop", loop);
  r.add("onnx.Scan", scan);
}

} // namespace moec::reference
