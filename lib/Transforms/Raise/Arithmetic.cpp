// Elementwise operations: on experts' values they grow the expression, on
// routing indices they are computed for every expert id at once.
#include "Elementwise.h"
#include <cmath>

using namespace mlir;

namespace moec::raise {

bool isFloat(Value v) {
  auto type = dyn_cast<ShapedType>(v.getType());
  return type && isa<FloatType>(type.getElementType());
}

bool isIndexKind(const Expr *e) {
  return e->kind == Expr::Perm || e->kind == Expr::PermTok ||
         e->kind == Expr::InvPerm || e->kind == Expr::HitTok ||
         e->kind == Expr::HitSlot || e->kind == Expr::HitFlat ||
         e->kind == Expr::HitTokK || e->kind == Expr::PermSign;
}

// One element of a binary op, in the arithmetic of the result type.
double fold(StringRef n, double x, double y, bool floats) {
  double r = n == "Add"   ? x + y
             : n == "Sub" ? x - y
             : n == "Mul" ? x * y
             : n == "Div" ? (floats ? static_cast<double>(static_cast<float>(x) /
                                                          static_cast<float>(y))
                                    : std::trunc(x / y))
             : n == "Mod" ? x - y * std::floor(x / y)
             : n == "Min" ? std::min(x, y)
             : n == "Max" ? std::max(x, y)
             : n == "Pow" ? std::pow(x, y)
             : n == "Equal"          ? x == y
             : n == "Less"           ? x < y
             : n == "Greater"        ? x > y
             : n == "GreaterOrEqual" ? x >= y
             : n == "LessOrEqual"    ? x <= y
             : n == "And"            ? (x != 0 && y != 0)
             : n == "Or"             ? (x != 0 || y != 0)
             : n == "Xor"            ? ((x != 0) != (y != 0))
                                     : std::nan("");
  return floats ? static_cast<double>(static_cast<float>(r)) : r;
}

// The layout describes a value of this type without further broadcasting.
bool fits(const Layout &layout, Value v) {
  auto type = ranked(v);
  if (!type) // inside of a branch or a loop
    return !layout.empty();
  if (type.getRank() != static_cast<int64_t>(layout.size()))
    return false;
  for (auto [dim, size] : llvm::zip(layout, type.getShape()))
    if (dim.empty() && size != 1)
      return false;
  return true;
}

namespace {

// A product of a choice with other masks.
bool isChoiceMask(const Expr *e) {
  if (e->kind == Expr::Binary && (e->name == "Mul" || e->name == "And"))
    return isChoiceMask(e->a) || isChoiceMask(e->b);
  return e->kind == Expr::OneHot;
}

} // namespace

Analysis::Result Analysis::cast(Operation *op) {
  Fact in = get(op->getOperand(0));
  auto type = ranked(op->getResult(0));
  Expr *e = in.expr;
  if (onnxName(op) == "Identity" || !type)
    return in;
  Type to = type.getElementType();
  if (e->kind == Expr::IdTable || e->kind == Expr::Splat) {
    Expr *out = make(e->kind);
    *out = *e;
    out->origin = Value();
    for (double &v : out->nums)
      v = to.isInteger(1)      ? (v != 0)
          : isa<FloatType>(to) ? static_cast<double>(static_cast<float>(v))
                               : std::trunc(v);
    return Fact{out, in.layout};
  }
  // Positions and counts stay what they are in every integer type, and in
  // float as long as they are counted exactly (below 2^24).
  if (to.isInteger(1)) {
    if (e->kind == Expr::HitCount || e->kind == Expr::Masked)
      return compareCount("Greater", in, {splat(0), Layout(in.layout.size())});
    bool boolean = e->kind == Expr::OneHot || e->kind == Expr::Picked ||
                   e->kind == Expr::Chosen || e->kind == Expr::Below ||
                   e->kind == Expr::Dispatched;
    if (e->kind == Expr::Dispatch) {
      Fact zero{splat(0), Layout(in.layout.size())};
      Result none = capacity("Equal", in, zero, in.layout);
      none->expr->nums = {1};
      return none;
    }
    return boolean ? Result(in) : std::nullopt;
  }
  bool floats = isFloat(op->getOperand(0)), toFloat = isa<FloatType>(to);
  if (e->kind == Expr::Column && toFloat)
    return in; // of a mask: 0 and 1
  bool places = (e->kind >= Expr::Rank && e->kind <= Expr::Dispatched) ||
                (e->kind == Expr::Binary && e->name == "And");
  if (e->kind == Expr::PermFrac && !toFloat) { // toward zero
    Expr *out = make(Expr::PermTok);
    out->ids = e->ids;
    out->order = e->order;
    out->perSlot = true;
    return Fact{out, in.layout};
  }
  if (e->kind == Expr::Binary && toFloat && isChoiceMask(e))
    return in;
  bool ones = e->kind == Expr::DenseW && e->b->kind == Expr::Splat;
  if (places || ones || isIndexKind(e) || floats == toFloat || e->kind == Expr::Counts || e->kind == Expr::OneHot ||
      e->kind == Expr::HitCount || e->kind == Expr::Chosen ||
      e->kind == Expr::Ends || e->kind == Expr::Starts)
    return in;
  return std::nullopt;
}

Analysis::Result Analysis::unary(Operation *op) {
  StringRef n = onnxName(op);
  Fact in = get(op->getOperand(0));
  Expr *e = in.expr;
  if (e->kind == Expr::FilledW)
    return ofFilled(op, in);
  if (n == "Not" && (e->kind == Expr::Chosen || e->kind == Expr::Dispatched)) {
    Expr *out = make(e->kind);
    *out = *e;
    out->origin = Value();
    out->nums = {e->nums[0] == 0 ? 1.0 : 0.0};
    return Fact{out, in.layout};
  }
  if (n == "Not" && (e->kind == Expr::Splat || e->kind == Expr::IdTable)) {
    Expr *out = make(e->kind);
    *out = *e;
    out->origin = Value();
    for (double &v : out->nums)
      v = v == 0;
    return Fact{out, in.layout};
  }
  if ((n == "Floor" || n == "Abs") && (isIndexKind(e) || isIdentity(e)))
    return in;
  if (e->kind == Expr::PermFrac && n == "Abs")
    return in;
  if (e->kind == Expr::PermFrac && (n == "Floor" || n == "Sign")) {
    Expr *out = make(n == "Floor" ? Expr::PermTok : Expr::PermSign);
    out->ids = e->ids;
    out->order = e->order;
    out->perSlot = true;
    return Fact{out, in.layout};
  }
  if (!e->expertLinear || n == "Not")
    return std::nullopt;
  Expr *out = withChildren(Expr::Unary, e);
  out->name = n.str();
  if (n == "Swish")
    out->nums = {floatAttr(op, "alpha", 1.0)};
  if (n == "Gelu" && strAttr(op, "approximate") == "tanh")
    out->name = "GeluTanh";
  return Fact{out, in.layout};
}

Analysis::Result Analysis::clip(Operation *op) {
  Fact in = get(op->getOperand(0));
  double bounds[2] = {-INFINITY, INFINITY};
  for (unsigned i : {1u, 2u}) {
    if (op->getNumOperands() <= i || isAbsent(op->getOperand(i)))
      continue;
    Fact bound = get(op->getOperand(i));
    if (bound.expr->kind != Expr::Splat)
      return std::nullopt;
    bounds[i - 1] = bound.expr->nums[0];
  }
  Expr *e = in.expr;
  if (e->kind == Expr::IdTable) {
    Expr *out = make(Expr::IdTable);
    *out = *e;
    out->origin = Value();
    for (double &v : out->nums)
      v = std::min(std::max(v, bounds[0]), bounds[1]);
    return Fact{out, in.layout};
  }
  if (e->kind == Expr::Place && bounds[0] <= 1 + e->offset && std::isfinite(bounds[1])) {
    Expr *out = make(Expr::Place);
    *out = *e;
    out->origin = Value();
    out->size = std::min(e->size, static_cast<int64_t>(std::floor(bounds[1])));
    return Fact{out, in.layout};
  }
  if (!e->expertLinear)
    return std::nullopt;
  Expr *out = withChildren(Expr::Unary, e);
  out->name = "Clip";
  out->nums = {bounds[0], bounds[1]};
  return Fact{out, in.layout};
}

Analysis::Result Analysis::where(Operation *op) {
  Fact cond = get(op->getOperand(0)), a = get(op->getOperand(1)),
       b = get(op->getOperand(2));
  if (cond.expr->kind == Expr::Splat) {
    const Fact &chosen = cond.expr->nums[0] != 0 ? a : b;
    return fits(chosen.layout, op->getResult(0)) ? Result(chosen)
                                                 : std::nullopt;
  }
  if (Result picked = pickedBy(op, cond, a, b))
    return picked;
  // where(id == e, w, 0) is (id == e) * w for finite w.
  bool zero = b.expr->kind == Expr::Splat && b.expr->nums[0] == 0;
  if (zero && (cond.expr->kind == Expr::IdTable || cond.expr->kind == Expr::OneHot))
    return binaryFacts("Mul", cond, a, op);
  return std::nullopt;
}

} // namespace moec::raise
