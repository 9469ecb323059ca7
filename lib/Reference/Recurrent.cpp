// RNN, GRU and LSTM, one step and one sequence at a time.
#include "Call.h"
#include "Shapes.h"
#include "llvm/ADT/StringSwitch.h"
#include <cmath>
#include <functional>

using namespace llvm;

namespace moec::reference {
namespace {

using Row = std::vector<double>;
using Function = std::function<double(double)>;

// The parameters of activations, taken in the order of the activations that have any.
struct Parameters {
  std::vector<double> values;
  size_t next = 0;
  double take(double fallback) { return next < values.size() ? values[next++] : fallback; }
};

Function activation(StringRef given, Parameters &alphas, Parameters &betas) {
  std::string name = given.lower();
  if (name == "tanh")
    return [](double x) { return std::tanh(x); };
  if (name == "sigmoid")
    return [](double x) { return 1 / (1 + std::exp(-x)); };
  if (name == "relu")
    return [](double x) { return x < 0 ? 0 : x; };
  if (name == "softsign")
    return [](double x) { return x / (1 + std::fabs(x)); };
  if (name == "softplus")
    return [](double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); };
  double a = alphas.take(
      StringSwitch<double>(name).Case("leakyrelu", 0.01f).Case("hardsigmoid", 0.2f).Default(1));
  if (name == "leakyrelu")
    return [a](double x) { return x < 0 ? a * x : x; };
  if (name == "thresholdedrelu")
    return [a](double x) { return x > a ? x : 0; };
  if (name == "elu")
    return [a](double x) { return x < 0 ? a * std::expm1(x) : x; };
  double b = betas.take(name == "hardsigmoid" ? 0.5 : name == "scaledtanh" ? 1 : 0);
  if (name == "affine")
    return [a, b](double x) { return a * x + b; };
  if (name == "scaledtanh")
    return [a, b](double x) { return a * std::tanh(b * x); };
  if (name == "hardsigmoid")
    return [a, b](double x) { return std::fmin(std::fmax(a * x + b, 0), 1); };
  fail("unsupported activation " + given);
}

// What all three have in common. Arrays are in layout 0.
struct Recurrence {
  Call &c;
  int64_t gates;
  int64_t length, batch, width, hidden, directions;
  bool batchFirst;
  std::string direction;
  Row x, w, r, bias, peephole;
  std::vector<int64_t> lengths;
  std::vector<Function> functions; // of all directions
  double clip;

  Recurrence(Call &c, int64_t gates, ArrayRef<StringRef> defaults);
  // The initial states of all directions [directions, batch, hidden].
  Row initial(int64_t input) const;
  // sum over k of matrix[d, gate * hidden + j, k] * values[k].
  double product(const Row &matrix, int64_t d, int64_t gate, int64_t j, const double *values,
                 int64_t size) const {
    const double *row = matrix.data() + ((d * gates + gate) * hidden + j) * size;
    double sum = 0;
    for (int64_t k = 0; k < size; ++k)
      sum += row[k] * values[k];
    return sum;
  }
  double wBias(int64_t d, int64_t gate, int64_t j) const {
    return bias[(d * 2 * gates + gate) * hidden + j];
  }
  double rBias(int64_t d, int64_t gate, int64_t j) const {
    return bias[((d * 2 + 1) * gates + gate) * hidden + j];
  }
  // The sum that a gate's function takes, without what the op adds itself.
  double sum(int64_t d, int64_t gate, int64_t j, const double *xt, const double *h) const {
    return product(w, d, gate, j, xt, width) + product(r, d, gate, j, h, hidden) +
           wBias(d, gate, j) + rBias(d, gate, j);
  }
  double apply(int64_t d, int64_t i, double x) const {
    double bounded = clip > 0 ? std::fmin(std::fmax(x, -clip), clip) : x;
    return functions[d * (static_cast<int64_t>(functions.size()) / directions) + i](bounded);
  }
  // step(d, x_t, h, cell) makes the next h and cell of one sequence in place.
  void run(function_ref<void(int64_t, const double *, Row &, Row &)> step, bool cells);
};

Recurrence::Recurrence(Call &c, int64_t gates, ArrayRef<StringRef> defaults) : c(c), gates(gates) {
  batchFirst = c.i64("layout", 0) != 0;
  direction = c.str("direction", "forward");
  if (c.in(0).rank() != 3 || c.in(1).rank() != 3 || c.in(2).rank() != 3)
    fail("X, W and R must have rank 3");
  Tensor input = batchFirst ? transpose(c.in(0), {1, 0, 2}) : c.in(0);
  length = input.shape[0], batch = input.shape[1], width = input.shape[2];
  directions = direction == "bidirectional" ? 2 : 1;
  hidden = c.in(2).shape[2];
  Shape wShape{directions, gates * hidden, width}, rShape{directions, gates * hidden, hidden};
  if (c.in(1).shape != wShape || c.in(2).shape != rShape)
    fail("W " + text(c.in(1).shape) + " and R " + text(c.in(2).shape) + " do not fit " +
         text(wShape) + " and " + text(rShape));
  auto read = [&](const Tensor &t, int64_t size) {
    Elements<double> e(t);
    if (e.size() != size)
      fail(text(t.shape) + " has not " + Twine(size) + " elements");
    return Row(e.begin(), e.end());
  };
  x = read(input, length * batch * width);
  w = read(c.in(1), count(wShape));
  r = read(c.in(2), count(rShape));
  bias = c.hasIn(3) ? read(c.in(3), directions * 2 * gates * hidden)
                    : Row(directions * 2 * gates * hidden);
  peephole = c.hasIn(7) ? read(c.in(7), directions * 3 * hidden) : Row(directions * 3 * hidden);
  lengths = c.hasIn(4) ? c.intsIn(4) : std::vector<int64_t>(batch, length);
  if (static_cast<int64_t>(lengths.size()) != batch)
    fail("sequence_lens needs " + Twine(batch) + " elements");
  for (int64_t l : lengths)
    if (l < 0 || l > length)
      fail("a sequence of length " + Twine(l));
  clip = c.f64("clip", 0);
  Parameters alphas{c.f64s("activation_alpha")}, betas{c.f64s("activation_beta")};
  auto names = dyn_cast_or_null<mlir::ArrayAttr>(c.attribute("activations"));
  size_t wanted = directions * defaults.size();
  if (names && names.size() < wanted) // the default of an RNN names two
    fail(Twine(wanted) + " activations expected");
  for (size_t i = 0; i < wanted; ++i)
    functions.push_back(activation(names ? cast<mlir::StringAttr>(names[i]).getValue()
                                         : defaults[i % defaults.size()],
                                   alphas, betas));
}

Row Recurrence::initial(int64_t input) const {
  if (!c.hasIn(input))
    return Row(directions * batch * hidden);
  Tensor t = c.in(input);
  if (t.size() != directions * batch * hidden || t.rank() != 3)
    fail("the initial state " + text(t.shape) + " does not fit");
  Elements<double> e(batchFirst ? transpose(t, {1, 0, 2}) : t);
  return Row(e.begin(), e.end());
}

void Recurrence::run(function_ref<void(int64_t, const double *, Row &, Row &)> step, bool cells) {
  Row hs = initial(5), cs = cells ? initial(6) : Row(hs.size());
  Row y(length * directions * batch * hidden);
  for (int64_t d = 0; d < directions; ++d)
    for (int64_t b = 0; b < batch; ++b) {
      auto first = (d * batch + b) * hidden;
      Row h(hs.begin() + first, hs.begin() + first + hidden);
      Row cell(cs.begin() + first, cs.begin() + first + hidden);
      bool backward = direction == "reverse" || d == 1;
      for (int64_t i = 0; i < lengths[b]; ++i) {
        int64_t t = backward ? lengths[b] - 1 - i : i;
        step(d, x.data() + (t * batch + b) * width, h, cell);
        std::copy(h.begin(), h.end(), y.begin() + ((t * directions + d) * batch + b) * hidden);
      }
      std::copy(h.begin(), h.end(), hs.begin() + first);
      std::copy(cell.begin(), cell.end(), cs.begin() + first);
    }
  Elem type = c.in(0).type;
  auto last = [&](const Row &values) {
    Tensor t = pack(type, {directions, batch, hidden}, values);
    return batchFirst ? transpose(t, {1, 0, 2}) : t;
  };
  Tensor all = pack(type, {length, directions, batch, hidden}, y);
  c.set(0, batchFirst ? transpose(all, {2, 0, 1, 3}) : all);
  c.set(1, last(hs));
  if (cells)
    c.set(2, last(cs));
}

void rnn(Call &c) {
  Recurrence r(c, 1, {"Tanh"});
  r.run(
      [&](int64_t d, const double *x, Row &h, Row &) {
        Row old = h;
        for (int64_t j = 0; j < r.hidden; ++j)
          h[j] = r.apply(d, 0, r.sum(d, 0, j, x, old.data()));
      },
      false);
}

void gru(Call &c) {
  Recurrence r(c, 3, {"Sigmoid", "Tanh"});
  bool before = c.i64("linear_before_reset", 0) != 0;
  r.run(
      [&](int64_t d, const double *x, Row &h, Row &) {
        Row old = h, reset(r.hidden), resetOld(r.hidden);
        for (int64_t j = 0; j < r.hidden; ++j) {
          reset[j] = r.apply(d, 0, r.sum(d, 1, j, x, old.data()));
          resetOld[j] = reset[j] * old[j];
        }
        for (int64_t j = 0; j < r.hidden; ++j) {
          double update = r.apply(d, 0, r.sum(d, 0, j, x, old.data()));
          double own = r.product(r.w, d, 2, j, x, r.width) + r.wBias(d, 2, j);
          double past = r.product(r.r, d, 2, j, before ? old.data() : resetOld.data(), r.hidden) +
                        r.rBias(d, 2, j);
          double next = r.apply(d, 1, own + (before ? reset[j] * past : past));
          h[j] = (1 - update) * next + update * old[j];
        }
      },
      false);
}

void lstm(Call &c) {
  Recurrence r(c, 4, {"Sigmoid", "Tanh", "Tanh"});
  bool coupled = c.i64("input_forget", 0) != 0;
  r.run(
      [&](int64_t d, const double *x, Row &h, Row &cell) {
        Row old = h;
        for (int64_t j = 0; j < r.hidden; ++j) {
          auto gate = [&](int64_t g) { return r.sum(d, g, j, x, old.data()); };
          auto peep = [&](int64_t g) { return r.peephole[(d * 3 + g) * r.hidden + j]; };
          double input = r.apply(d, 0, gate(0) + peep(0) * cell[j]);
          double forget = coupled ? 1 - input : r.apply(d, 0, gate(2) + peep(2) * cell[j]);
          cell[j] = forget * cell[j] + input * r.apply(d, 1, gate(3));
          double output = r.apply(d, 0, gate(1) + peep(1) * cell[j]);
          h[j] = output * r.apply(d, 2, cell[j]);
        }
      },
      true);
}

} // namespace

void addRecurrent(Registry &r) {
  r.add("onnx.RNN", rnn);
  r.add("onnx.GRU", gru);
  r.add("onnx.LSTM", lstm);
}

} // namespace moec::reference
