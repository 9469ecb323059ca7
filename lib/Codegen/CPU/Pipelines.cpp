#include "Pipelines.h"
#include "Math.h"
#include <limits>

using namespace Halide;

namespace moec::cpu {
namespace {

Halide::Type weightType(WeightType type) {
  switch (type) {
  case WeightType::F32:
    return Float(32);
  case WeightType::F16:
    return Float(16);
  case WeightType::BF16:
    return BFloat(16);
  }
  return Float(32);
}

/// A stored weight as f32. A bf16 is the upper half of an f32.
Expr widen(const Expr &weight) {
  if (weight.type().is_bfloat())
    return reinterpret<float>(cast<uint32_t>(reinterpret<uint16_t>(weight)) << 16);
  return cast<float>(weight);
}

Module compile(std::vector<Func> outs, std::vector<Argument> args, const Isa &isa,
               const std::string &name) {
  return Pipeline(outs).compile_to_module(args, name, isa.target, LinkageType::External);
}

/// A buffer whose first dimension is dense and whose coordinates start at 0.
template <typename Buffer> void dense(Buffer buffer, int dimensions) {
  for (int d = 0; d < dimensions; ++d)
    buffer.dim(d).set_min(0);
  buffer.dim(0).set_stride(1);
}

ImageParam input(Halide::Type type, int dimensions, const std::string &name) {
  ImageParam param(type, dimensions, name);
  dense(param, dimensions);
  return param;
}

/// The sum over k of one tile, for the columns [first, first + columns) of each panel.
Func product(const std::string &name, ImageParam a, ImageParam b, Expr first, Var x, Var m, Var p) {
  RDom k(0, a.dim(0).extent(), "k");
  Func sum(name);
  sum(x, m, p) = 0.0f;
  sum(x, m, p) += widen(b(x + first, k, p)) * a(k, m);
  return sum;
}

void scheduleProduct(Func sum, Func out, Var at, Var x, Var m, Var p, TileShape shape,
                     int columns, int lanes) {
  Var xo("xo"), xi("xi");
  RVar k = sum.rvars(0)[0];
  sum.compute_at(out, at);
  sum.split(x, xo, xi, lanes).reorder(xi, xo, p, m).vectorize(xi).unroll(xo).unroll(p).unroll(m);
  // The operand with fewer vectors is held in registers for a whole step of k, the other one is
  // loaded as it is used.
  auto update = sum.update().split(x, xo, xi, lanes);
  if (columns / lanes * shape.panels < shape.rows)
    update.reorder(xi, xo, p, m, k);
  else
    update.reorder(xi, m, xo, p, k);
  update.vectorize(xi).unroll(m).unroll(xo).unroll(p);
}

/// What experts_up does with the finished sums (biases added).
Expr expertEpilogue(const KernelSpec &spec, Expr gate, Expr up) {
  if (spec.limit) {
    up = within(up, *spec.limit);
    if (gate.defined())
      gate = atMost(gate, *spec.limit);
  }
  if (!gate.defined())
    return activate(spec.activation, spec.alpha, up);
  Expr act = activate(spec.activation, spec.alpha, gate);
  return act * (spec.upOffset != 0.0f ? up + spec.upOffset : up);
}

} // namespace

Module tileKernel(const KernelSpec &spec, const Isa &isa, TileShape shape,
                  const std::string &name) {
  bool experts = spec.op == KernelOp::ExpertsUp, gated = experts && spec.gated;
  ImageParam a = input(Float(32), 2, "a"), b = input(weightType(spec.weight), 3, "b"),
             bias = input(Float(32), 2, "bias");
  Var x("x"), m("m"), p("p"), mo("mo"), po("po");

  Func out("c");
  std::vector<Func> sums;
  if (!gated) {
    sums = {product("sum", a, b, 0, x, m, p)};
    Expr value = sums[0](x, m, p) + bias(x, p);
    out(x, m, p) = experts ? expertEpilogue(spec, Expr(), value) : value;
  } else {
    Expr gate, up;
    if (shape.joint) {
      sums = {product("sum", a, b, 0, x, m, p)};
      gate = sums[0](x, m, p), up = sums[0](x + 16, m, p);
    } else {
      sums = {product("gate", a, b, 0, x, m, p), product("up", a, b, 16, x, m, p)};
      gate = sums[0](x, m, p), up = sums[1](x, m, p);
    }
    out(x, m, p) = expertEpilogue(spec, gate + bias(x, p), up + bias(x + 16, p));
  }

  // Panels outermost: a tile's part of B stays in L1 while the row blocks pass.
  Var xo("xo"), xi("xi");
  dense(out.output_buffer(), 3);
  out.bound(x, 0, 16)
      .split(m, mo, m, shape.rows, TailStrategy::RoundUp)
      .split(p, po, p, shape.panels, TailStrategy::RoundUp)
      .split(x, xo, xi, isa.lanes)
      .reorder(xi, xo, p, m, mo, po)
      .vectorize(xi)
      .unroll(xo)
      .unroll(p)
      .unroll(m);
  for (Func sum : sums)
    scheduleProduct(sum, out, mo, x, m, p, shape, gated && shape.joint ? 32 : 16, isa.lanes);
  return compile({out}, {a, b, bias}, isa, name);
}

Module combineKernel(const Isa &isa, const std::string &name) {
  ImageParam rows = input(Float(32), 2, "rows"), position = input(Int(32), 2, "position"),
             weight = input(Float(32), 2, "weight");
  Var h("h"), t("t"), ho("ho"), hi("hi");
  RDom k(0, position.dim(0).extent(), "k");
  Func sum("sum"), out("out");
  Expr at = position(k, t);
  sum(h, t) = 0.0f;
  // An empty slot has position -1; what is read instead does not count, be it NaN.
  sum(h, t) += select(at < 0, 0.0f, weight(k, t) * rows(h, unsafe_promise_clamped(max(at, 0), 0, rows.dim(1).extent() - 1)));
  out(h, t) = sum(h, t);
  dense(out.output_buffer(), 2);
  out.split(h, ho, hi, 16, TailStrategy::RoundUp).vectorize(hi, isa.lanes);
  sum.compute_at(out, ho).vectorize(h, isa.lanes);
  sum.update().reorder(h, k).vectorize(h, isa.lanes);
  return compile({out}, {rows, position, weight}, isa, name);
}

Module dotKernel(const Isa &isa, const std::string &name) {
  ImageParam a = input(Float(32), 3, "a"), b = input(Float(32), 3, "b");
  for (ImageParam side : {a, b})
    side.dim(0).set_extent(16).dim(1).set_stride(16);
  Var x("x"), n("n"), m("m"), no("no");
  RDom k(0, a.dim(1).extent(), "k"), lane(0, 16, "lane");
  Func sum("sum"), total("total"), out("c");
  sum(x, n, m) = 0.0f;
  sum(x, n, m) += a(x, k, m) * b(x, k, n);
  total(n, m) = 0.0f;
  total(n, m) += sum(lane, n, m);
  out(n, m) = total(n, m);
  dense(out.output_buffer(), 2);
  out.split(n, no, n, 4, TailStrategy::RoundUp).unroll(n);
  total.compute_at(out, no).unroll(n);
  total.update().reorder(lane, n).atomic().vectorize(lane).unroll(n);
  Var xo("xo"), xi("xi");
  sum.compute_at(out, no).split(x, xo, xi, isa.lanes).vectorize(xi).unroll(xo).unroll(n);
  sum.update().split(x, xo, xi, isa.lanes).reorder(xi, xo, n, k).vectorize(xi).unroll(xo).unroll(n);
  return compile({out}, {a, b}, isa, name);
}

Module scoresKernel(RouterScore score, const Isa &isa, const std::string &name) {
  ImageParam in = input(Float(32), 3, "in");
  in.dim(0).set_extent(16).dim(1).set_stride(16);
  Var x("x"), c("c"), row("row");
  RDom chunk(0, in.dim(1).extent(), "chunk"), lane(0, 16, "lane");
  Func lanes("lanes"), largest("largest"), out("out"), laneSums("lane_sums"), sums("sums");

  if (score == RouterScore::Softmax) {
    lanes(x, row) = Float(32).min();
    lanes(x, row) = max(lanes(x, row), in(x, chunk, row));
    largest(row) = -std::numeric_limits<float>::infinity();
    largest(row) = max(largest(row), lanes(lane, row));
    out(x, c, row) = expOf(in(x, c, row) - largest(row));
    largest.compute_at(out, row);
    lanes.compute_at(out, row).vectorize(x, isa.lanes);
    lanes.update().reorder(x, chunk).vectorize(x, isa.lanes);
  } else
    out(x, c, row) = score == RouterScore::Sigmoid ? sigmoidOf(in(x, c, row)) : in(x, c, row);

  laneSums(x, row) = 0.0f;
  laneSums(x, row) += out(x, chunk, row);
  sums(row) = 0.0f;
  sums(row) += laneSums(lane, row);

  dense(out.output_buffer(), 3);
  out.output_buffer().dim(0).set_extent(16);
  out.output_buffer().dim(1).set_stride(16);
  out.bound(x, 0, 16).vectorize(x, isa.lanes);
  dense(sums.output_buffer(), 1);
  laneSums.compute_at(sums, row).vectorize(x, isa.lanes);
  laneSums.update().reorder(x, chunk).vectorize(x, isa.lanes);
  sums.update().reorder(lane, row);
  return compile({out, sums}, {in}, isa, name);
}

} // namespace moec::cpu
