// One scalar function for each elementwise op. The ONNX standard's formulas; NaN and infinities as
// IEEE arithmetic has them.
#include "Nest.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace moec::host;
namespace arith = mlir::arith;
namespace math = mlir::math;
using V = mlir::Value;

namespace {

/// The op being written. `t` is the type of the first argument, which the others mostly share.
struct Call {
  ScalarWriter &w;
  const BodyNode &node;
  llvm::ArrayRef<V> x;
  DType t;
  mlir::OpBuilder &b;
  mlir::Location loc;

  double n(size_t i) const { return i < node.numbers.size() ? node.numbers[i] : 0; }
  bool floating() const { return isFloat(t); }
  V c(double value) { return w.constant(t, value, static_cast<int64_t>(value)); }
  template <class Op>
  V un(V a) {
    return Op::create(b, loc, a);
  }
  template <class Op>
  V bin(V a, V c) {
    return Op::create(b, loc, a, c);
  }
  V add(V a, V c) { return arith::AddFOp::create(b, loc, a, c, arith::FastMathFlags::contract); }
  V sub(V a, V c) { return arith::SubFOp::create(b, loc, a, c, arith::FastMathFlags::contract); }
  V mul(V a, V c) { return arith::MulFOp::create(b, loc, a, c, arith::FastMathFlags::contract); }
  V div(V a, V c) { return bin<arith::DivFOp>(a, c); }
  V neg(V a) { return un<arith::NegFOp>(a); }
  V exp(V a) { return un<math::ExpOp>(a); }
  V cmp(arith::CmpFPredicate p, V a, V c) { return arith::CmpFOp::create(b, loc, p, a, c); }
  V cmp(arith::CmpIPredicate p, V a, V c) { return arith::CmpIOp::create(b, loc, p, a, c); }
  V pick(V k, V a, V c) { return arith::SelectOp::create(b, loc, k, a, c); }
  V max(V a, V c) { return w.combine("max", t, a, c); }
  V min(V a, V c) { return w.combine("min", t, a, c); }
  V sigmoid(V a) { return div(c(1), add(c(1), exp(neg(a)))); }
  V softplus(V a) { // without overflow
    return add(max(a, c(0)), un<math::Log1pOp>(exp(neg(un<math::AbsFOp>(a)))));
  }
  V below(V a, V c) { // a < c
    if (floating())
      return cmp(arith::CmpFPredicate::OLT, a, c);
    return cmp(isUnsigned(t) ? arith::CmpIPredicate::ult : arith::CmpIPredicate::slt, a, c);
  }
  V atMost(V a, V c) {
    if (floating())
      return cmp(arith::CmpFPredicate::OLE, a, c);
    return cmp(isUnsigned(t) ? arith::CmpIPredicate::ule : arith::CmpIPredicate::sle, a, c);
  }
  V equal(V a, V c) {
    return floating() ? cmp(arith::CmpFPredicate::OEQ, a, c) : cmp(arith::CmpIPredicate::eq, a, c);
  }
};

using Function = V (*)(Call &);

/// x / y where no y is a trap: by zero gives 0, the smallest by -1 gives itself.
V integerDivision(Call &k, bool remainder) {
  V x = k.x[0], y = k.x[1], zero = k.c(0), one = k.c(1);
  V bad = k.equal(y, zero);
  if (isUnsigned(k.t)) {
    V safe = k.pick(bad, one, y);
    V r = remainder ? k.bin<arith::RemUIOp>(x, safe) : k.bin<arith::DivUIOp>(x, safe);
    return k.pick(bad, zero, r);
  }
  V minus = k.equal(y, k.w.constant(k.t, 0, -1));
  V safe = k.pick(k.bin<arith::OrIOp>(bad, minus), one, y);
  V r = remainder ? k.bin<arith::RemSIOp>(x, safe) : k.bin<arith::DivSIOp>(x, safe);
  V special = k.pick(bad, zero, remainder ? zero : k.bin<arith::SubIOp>(zero, x));
  return k.pick(k.bin<arith::OrIOp>(bad, minus), special, r);
}

V mod(Call &k) {
  bool likeC = k.n(0) != 0;
  V y = k.x[1];
  V r = k.floating() ? k.bin<arith::RemFOp>(k.x[0], y) : integerDivision(k, true);
  if (likeC || isUnsigned(k.t))
    return r;
  V zero = k.c(0); // the sign of the divisor
  if (k.floating()) {
    V wrong = k.bin<arith::AndIOp>(k.cmp(arith::CmpFPredicate::UNE, r, zero),
                                   k.bin<arith::XOrIOp>(k.below(r, zero), k.below(y, zero)));
    return k.pick(wrong, k.add(r, y), r);
  }
  V wrong = k.bin<arith::AndIOp>(k.cmp(arith::CmpIPredicate::ne, r, zero),
                                 k.bin<arith::XOrIOp>(k.below(r, zero), k.below(y, zero)));
  return k.pick(wrong, k.bin<arith::AddIOp>(r, y), r);
}

/// numbers: 1 left, 0 right. By a negative number or by all bits or more: what the fill alone gives.
V shift(Call &k) {
  V width = k.w.constant(k.t, 0, byteSize(k.t) * 8), zero = k.c(0);
  V in = k.cmp(arith::CmpIPredicate::ult, k.x[1], width);
  V by = k.pick(in, k.x[1], zero);
  if (k.n(0))
    return k.pick(in, k.bin<arith::ShLIOp>(k.x[0], by), zero);
  if (isUnsigned(k.t))
    return k.pick(in, k.bin<arith::ShRUIOp>(k.x[0], by), zero);
  V fill = k.pick(k.below(k.x[0], zero), k.w.constant(k.t, 0, -1), zero);
  return k.pick(in, k.bin<arith::ShRSIOp>(k.x[0], by), fill);
}

V sign(Call &k) {
  V x = k.x[0], zero = k.c(0), one = k.c(1);
  V positive = k.below(zero, x);
  if (isUnsigned(k.t))
    return k.pick(positive, one, zero);
  V r = k.pick(positive, one, k.pick(k.below(x, zero), k.w.constant(k.t, -1, -1), zero));
  return k.floating() ? k.pick(k.cmp(arith::CmpFPredicate::UNO, x, x), x, r) : r;
}

/// The second argument has been converted to the first one's type.
V power(Call &k) {
  if (k.floating())
    return k.bin<math::PowFOp>(k.x[0], k.x[1]);
  return k.bin<math::IPowIOp>(k.x[0], k.x[1]);
}

V elu(Call &k, double alpha, double gamma) {
  V x = k.x[0];
  V low = k.mul(k.c(alpha), k.un<math::ExpM1Op>(x));
  V r = k.pick(k.below(x, k.c(0)), low, x);
  return gamma == 1 ? r : k.mul(k.c(gamma), r);
}

V gelu(Call &k) { // numbers: 1 for the tanh form
  V x = k.x[0], half = k.mul(k.c(0.5), x);
  if (k.n(0)) {
    V cube = k.mul(k.mul(x, x), x);
    V inner = k.mul(k.c(0.7978845608028654), k.add(x, k.mul(k.c(0.044715), cube)));
    return k.mul(half, k.add(k.c(1), k.un<math::TanhOp>(inner)));
  }
  return k.mul(half, k.add(k.c(1), k.un<math::ErfOp>(k.mul(x, k.c(0.7071067811865476)))));
}

V celu(Call &k) {
  V x = k.x[0], zero = k.c(0);
  V low = k.mul(k.c(k.n(0)), k.un<math::ExpM1Op>(k.div(x, k.c(k.n(0)))));
  return k.add(k.max(x, zero), k.min(low, zero));
}

V hardSigmoid(Call &k, double alpha, double beta) {
  return k.max(k.c(0), k.min(k.c(1), k.add(k.mul(k.c(alpha), k.x[0]), k.c(beta))));
}

V shrink(Call &k) { // numbers: lambd, bias
  V x = k.x[0], zero = k.c(0);
  V low = k.below(x, k.c(-k.n(0))), high = k.below(k.c(k.n(0)), x);
  V bias = k.c(k.n(1));
  V down = k.floating() ? k.sub(x, bias) : k.bin<arith::SubIOp>(x, bias);
  V up = k.floating() ? k.add(x, bias) : k.bin<arith::AddIOp>(x, bias);
  return k.pick(low, up, k.pick(high, down, zero));
}

V infinite(Call &k) { // numbers: detect negative, detect positive
  double infinity = std::numeric_limits<double>::infinity();
  V no = k.w.constant(DType::Bool, 0, 0);
  V negative = k.n(0) ? k.equal(k.x[0], k.c(-infinity)) : no;
  V positive = k.n(1) ? k.equal(k.x[0], k.c(infinity)) : no;
  return k.bin<arith::OrIOp>(negative, positive);
}

template <class F, class I>
V either(Call &k) {
  if (!k.floating())
    return I::create(k.b, k.loc, k.x[0], k.x[1]);
  if constexpr (std::is_same_v<F, arith::DivFOp>)
    return F::create(k.b, k.loc, k.x[0], k.x[1]);
  else
    return F::create(k.b, k.loc, k.x[0], k.x[1], arith::FastMathFlags::contract);
}

template <class Op>
V unary(Call &k) {
  return Op::create(k.b, k.loc, k.x[0]);
}
template <class Op>
V binary(Call &k) {
  return Op::create(k.b, k.loc, k.x[0], k.x[1]);
}

/// An op that leaves integers as they are.
template <class Op>
V rounding(Call &k) {
  return k.floating() ? V(Op::create(k.b, k.loc, k.x[0])) : k.x[0];
}

const llvm::StringMap<Function> &table() {
  static const llvm::StringMap<Function> functions = {
      {"Add", either<arith::AddFOp, arith::AddIOp>},
      {"Sub", either<arith::SubFOp, arith::SubIOp>},
      {"Mul", either<arith::MulFOp, arith::MulIOp>},
      {"Div",
       [](Call &k) { return k.floating() ? k.div(k.x[0], k.x[1]) : integerDivision(k, false); }},
      {"Mod", mod},
      {"Pow", power},
      {"Square",
       [](Call &k) {
         return k.floating() ? k.mul(k.x[0], k.x[0]) : k.bin<arith::MulIOp>(k.x[0], k.x[0]);
       }},
      {"Max", [](Call &k) { return k.max(k.x[0], k.x[1]); }},
      {"Min", [](Call &k) { return k.min(k.x[0], k.x[1]); }},
      {"And", binary<arith::AndIOp>},
      {"Or", binary<arith::OrIOp>},
      {"Xor", binary<arith::XOrIOp>},
      {"BitwiseAnd", binary<arith::AndIOp>},
      {"BitwiseOr", binary<arith::OrIOp>},
      {"BitwiseXor", binary<arith::XOrIOp>},
      {"Not", [](Call &k) { return k.bin<arith::XOrIOp>(k.x[0], k.w.constant(k.t, 0, 1)); }},
      {"BitwiseNot",
       [](Call &k) { return k.bin<arith::XOrIOp>(k.x[0], k.w.constant(k.t, 0, -1)); }},
      {"BitShift", shift},
      {"Equal", [](Call &k) { return k.equal(k.x[0], k.x[1]); }},
      {"Less", [](Call &k) { return k.below(k.x[0], k.x[1]); }},
      {"LessOrEqual", [](Call &k) { return k.atMost(k.x[0], k.x[1]); }},
      {"Greater", [](Call &k) { return k.below(k.x[1], k.x[0]); }},
      {"GreaterOrEqual", [](Call &k) { return k.atMost(k.x[1], k.x[0]); }},
      {"Where", [](Call &k) { return k.pick(k.x[0], k.x[1], k.x[2]); }},
      {"Cast",
       [](Call &k) { // numbers: 1 not to saturate, the rounding
         Narrowing how{k.n(0) == 0, static_cast<Narrowing::Round>(k.n(1))};
         return k.w.convert(k.x[0], k.t, k.node.type, how);
       }},
      {"Abs",
       [](Call &k) {
         if (k.floating())
           return k.un<math::AbsFOp>(k.x[0]);
         return isUnsigned(k.t) ? k.x[0] : k.un<math::AbsIOp>(k.x[0]);
       }},
      {"Neg",
       [](Call &k) { return k.floating() ? k.neg(k.x[0]) : k.bin<arith::SubIOp>(k.c(0), k.x[0]); }},
      {"Sign", sign},
      {"Ceil", rounding<math::CeilOp>},
      {"Floor", rounding<math::FloorOp>},
      {"Round", rounding<math::RoundEvenOp>},
      {"Sqrt", unary<math::SqrtOp>},
      {"Reciprocal", [](Call &k) { return k.div(k.c(1), k.x[0]); }},
      {"Exp", unary<math::ExpOp>},
      {"Log", unary<math::LogOp>},
      {"Sin", unary<math::SinOp>},
      {"Cos", unary<math::CosOp>},
      {"Tan", unary<math::TanOp>},
      {"Asin", unary<math::AsinOp>},
      {"Acos", unary<math::AcosOp>},
      {"Atan", unary<math::AtanOp>},
      {"Sinh", unary<math::SinhOp>},
      {"Cosh", unary<math::CoshOp>},
      {"Tanh", unary<math::TanhOp>},
      {"Asinh", unary<math::AsinhOp>},
      {"Acosh", unary<math::AcoshOp>},
      {"Atanh", unary<math::AtanhOp>},
      {"Erf", unary<math::ErfOp>},
      {"Sigmoid", [](Call &k) { return k.sigmoid(k.x[0]); }},
      {"Relu", [](Call &k) { return k.max(k.x[0], k.c(0)); }},
      {"LeakyRelu",
       [](Call &k) { return k.pick(k.below(k.x[0], k.c(0)), k.mul(k.c(k.n(0)), k.x[0]), k.x[0]); }},
      {"PRelu",
       [](Call &k) {
         V low = k.floating() ? k.mul(k.x[1], k.x[0]) : k.bin<arith::MulIOp>(k.x[1], k.x[0]);
         return k.pick(k.below(k.x[0], k.c(0)), low, k.x[0]);
       }},
      {"Elu", [](Call &k) { return elu(k, k.n(0), 1); }},
      {"Selu", [](Call &k) { return elu(k, k.n(0), k.n(1)); }},
      {"Celu", celu},
      {"Gelu", gelu},
      {"HardSigmoid", [](Call &k) { return hardSigmoid(k, k.n(0), k.n(1)); }},
      {"HardSwish", [](Call &k) { return k.mul(k.x[0], hardSigmoid(k, 1.0 / 6, 0.5)); }},
      {"Mish", [](Call &k) { return k.mul(k.x[0], k.un<math::TanhOp>(k.softplus(k.x[0]))); }},
      {"Softplus", [](Call &k) { return k.softplus(k.x[0]); }},
      {"Softsign",
       [](Call &k) { return k.div(k.x[0], k.add(k.c(1), k.un<math::AbsFOp>(k.x[0]))); }},
      {"ThresholdedRelu",
       [](Call &k) { return k.pick(k.below(k.c(k.n(0)), k.x[0]), k.x[0], k.c(0)); }},
      {"Swish", [](Call &k) { return k.mul(k.x[0], k.sigmoid(k.mul(k.c(k.n(0)), k.x[0]))); }},
      {"Shrink", shrink},
      {"IsNaN", [](Call &k) { return k.cmp(arith::CmpFPredicate::UNO, k.x[0], k.x[0]); }},
      {"IsInf", infinite},
  };
  return functions;
}

} // namespace

bool moec::host::isScalarOp(llvm::StringRef op) { return table().contains(op); }

V ScalarWriter::apply(const BodyNode &node, llvm::ArrayRef<V> args, llvm::ArrayRef<DType> types) {
  Call call{*this, node, args, types[0], b, loc};
  V result = table().lookup(node.op)(call);
  // Selections, comparisons and conversions are exact or rounded already.
  bool exact = !isFloat(node.type) ||
               llvm::is_contained({"Cast", "Where", "Max", "Min", "Neg", "Abs", "Relu"}, node.op);
  return exact ? result : round(result, node.type);
}
