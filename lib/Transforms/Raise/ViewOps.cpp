// Operations that only move elements: the expression stays, the layout changes.
#include "Analysis.h"

using namespace mlir;

namespace moec::raise {

// Facts that carry no routing and no expert gain nothing from deep views, but
// a view of a leaf must stay that leaf: tokens are recognised through it.
Analysis::Result Analysis::reshape(Operation *op) {
  auto type = ranked(op->getResult(0));
  if (!type)
    return std::nullopt;
  Fact in = get(op->getOperand(0));
  if (in.expr->kind == Expr::Splat) {
    in.layout = Layout(type.getRank());
    return in;
  }
  // The target may be known better than the result type.
  SmallVector<int64_t> dims(type.getShape());
  if (auto target = evalInts(op->getOperand(1));
      target && target->size() == dims.size())
    for (auto [d, t] : llvm::zip(dims, *target))
      if (d < 0 && t && *t > 0)
        d = *t;
  SmallVector<Atom, 8> atoms = flatten(in.layout);
  auto layout = regroup(atoms, dims);
  // [tokens, n, -1]: the number of tokens is known by name.
  if (!layout && !atoms.empty() && !dims.empty() && dims[0] < 0 &&
      isAtom({atoms[0]}, Atom::Tok) && countsTokens(op->getOperand(1))) {
    layout = regroup(ArrayRef(atoms).drop_front(), ArrayRef(dims).drop_front());
    if (layout)
      layout->insert(layout->begin(), {atoms[0]});
  }
  if (!layout)
    return std::nullopt;
  return Fact{in.expr, *layout};
}

// The first number of a shape is that of all tokens: a size of another tensor.
bool Analysis::countsTokens(Value shape) {
  Operation *op = shape.getDefiningOp();
  if (!isOnnx(op, "Concat"))
    return false;
  Value v = op->getOperand(0);
  for (int depth = 0; depth < 8; ++depth) {
    op = v.getDefiningOp();
    StringRef n = onnxName(op);
    if (n == "Shape")
      break;
    bool first = n == "Gather" && evalInt(op->getOperand(1)) == 0;
    if (!first && n != "Unsqueeze" && n != "Squeeze" && n != "Cast" && n != "Reshape")
      return false;
    v = op->getOperand(0);
  }
  if (!isOnnx(op, "Shape") || intAttr(op, "start", 0) != 0)
    return false;
  Fact of = get(op->getOperand(0));
  return !of.layout.empty() && isAtom(of.layout[0], Atom::Tok);
}

Analysis::Result Analysis::flattenOp(Operation *op) {
  Fact in = get(op->getOperand(0));
  int64_t axis = intAttr(op, "axis", 1), rank = in.layout.size();
  if (axis < 0)
    axis += rank;
  if (axis < 0 || axis > rank)
    return std::nullopt;
  Layout out(2);
  for (int half : {0, 1}) {
    Layout part(in.layout.begin() + (half ? axis : 0),
                half ? in.layout.end() : in.layout.begin() + axis);
    for (const Atom &atom : flatten(part)) {
      if (atom.parts > 1)
        return std::nullopt;
      out[half].push_back(atom);
    }
  }
  return Fact{in.expr, out};
}

Analysis::Result Analysis::squeeze(Operation *op) {
  auto type = ranked(op->getResult(0));
  Fact in = get(op->getOperand(0));
  SmallVector<int64_t> axes;
  bool adds = onnxName(op) == "Unsqueeze";
  // Inside of branches and loops the layout may say more than the type.
  auto from = ranked(op->getOperand(0));
  if (!from && (in.expr->kind == Expr::Leaf || in.layout.empty()))
    return std::nullopt;
  if (op->getNumOperands() > 1 && !isAbsent(op->getOperand(1))) {
    auto ints = evalAllInts(op->getOperand(1));
    if (!ints)
      return std::nullopt;
    axes = *ints;
  } else if (!adds) {
    for (auto [i, dim] : llvm::enumerate(from ? from.getShape() : ArrayRef<int64_t>()))
      if (dim == 1)
        axes.push_back(i);
  }
  int64_t rank = from ? from.getRank() : static_cast<int64_t>(in.layout.size());
  rank += adds ? static_cast<int64_t>(axes.size()) : 0;
  for (int64_t &axis : axes) {
    if (axis < 0)
      axis += rank;
    if (axis < 0 || axis >= rank)
      return std::nullopt;
  }
  Layout layout;
  if (adds) {
    size_t next = 0;
    for (int64_t i = 0; i < rank; ++i) {
      if (llvm::is_contained(axes, i))
        layout.push_back({});
      else if (next < in.layout.size())
        layout.push_back(in.layout[next++]);
    }
  } else {
    for (auto [i, dim] : llvm::enumerate(in.layout)) {
      if (!llvm::is_contained(axes, static_cast<int64_t>(i)))
        layout.push_back(dim);
      else if (isAtom(dim, Atom::Expert) && dim[0].size == 1 && axes.size() == 1)
        return pickOf(in, axes.front(), 0, true); // the only expert
      else if (!dim.empty())
        return std::nullopt;
    }
  }
  if (type && static_cast<int64_t>(layout.size()) != type.getRank())
    return std::nullopt;
  return Fact{in.expr, layout};
}

Analysis::Result Analysis::transposeOp(Operation *op) {
  Fact in = get(op->getOperand(0));
  SmallVector<int64_t> perm = intsAttr(op, "perm");
  if (perm.empty())
    for (int64_t i = in.layout.size() - 1; i >= 0; --i)
      perm.push_back(i);
  auto layout = transpose(in.layout, perm);
  if (!layout)
    return std::nullopt;
  // Weights scattered to [experts, tokens] are a value for each token and expert once turned.
  bool turned = in.expr->kind == Expr::Leaf && perm.size() == 2 && perm.front() == 1 &&
                isOnnx(op->getOperand(0).getDefiningOp(), "ScatterElements");
  return turned ? std::nullopt : Result(Fact{in.expr, *layout});
}

// Expand and ConstantOfShape. A unit dimension that grows becomes an axis the
// expression does not depend on.
Analysis::Result Analysis::expand(Operation *op) {
  auto type = ranked(op->getResult(0));
  if (auto to = type ? std::nullopt : evalAllInts(op->getOperand(0 + (op->getNumOperands() > 1))))
    type = RankedTensorType::get(
        llvm::map_to_vector(*to, [](int64_t d) { return d < 0 ? ShapedType::kDynamic : d; }),
        cast<ShapedType>(op->getResult(0).getType()).getElementType());
  if (!type)
    return std::nullopt;
  if (onnxName(op) == "ConstantOfShape") {
    double number = 0;
    if (auto dense = dyn_cast_or_null<DenseElementsAttr>(op->getAttr("value"))) {
      if (isa<FloatType>(dense.getElementType())) {
        APFloat value = *dense.getValues<APFloat>().begin();
        bool lost;
        value.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven,
                      &lost);
        number = value.convertToDouble();
      } else if (dense.getElementType().isInteger()) {
        number = static_cast<double>(
            (*dense.getValues<APInt>().begin()).getSExtValue());
      }
    }
    return Fact{splat(number), Layout(type.getRank())};
  }
  Fact in = get(op->getOperand(0));
  if (in.expr->kind == Expr::Splat)
    return Fact{in.expr, Layout(type.getRank())};
  Layout layout(type.getRank());
  if (layout.size() < in.layout.size())
    return std::nullopt;
  size_t shift = layout.size() - in.layout.size();
  // The target shape may be known better than the result type.
  auto target = evalInts(op->getOperand(1));
  for (size_t i = 0; i < layout.size(); ++i) {
    Dim dim = i < shift ? Dim() : in.layout[i - shift];
    int64_t size = type.getDimSize(i);
    if (size < 0 && target && target->size() == layout.size() && (*target)[i] &&
        dim.empty())
      size = (*target)[i].value();
    if (dim.empty() && size > 1) {
      Atom atom{Atom::Any, size};
      atom.copies = true;
      dim.push_back(atom);
    } else if (dim.empty() && size != 1) {
      // By an unknown amount: as much as what an index is for.
      bool index = in.expr->kind == Expr::Perm || in.expr->kind == Expr::PermTok ||
                   in.expr->kind == Expr::HitTok ||
                   llvm::any_of(op->getUsers(), [&](Operation *user) {
                     return isOnnx(user, "GatherElements") &&
                            user->getOperand(1) == op->getResult(0);
                   });
      if (!index)
        return std::nullopt;
      Atom atom{Atom::Any, -1};
      atom.copies = true;
      dim.push_back(atom);
    }
    layout[i] = dim;
  }
  return Fact{in.expr, layout};
}

Analysis::Result Analysis::tile(Operation *op) {
  Fact in = get(op->getOperand(0));
  auto repeats = evalAllInts(op->getOperand(1));
  if (!repeats || repeats->size() != in.layout.size())
    return std::nullopt;
  Layout layout = in.layout;
  for (auto [dim, n] : llvm::zip(layout, *repeats)) {
    if (n < 1)
      return std::nullopt;
    if (n > 1) {
      Atom atom{Atom::Any, n};
      atom.copies = true;
      dim.insert(dim.begin(), atom);
    }
    if (n > 1 && dim.size() > 1 && dim[1].parts > 1)
      return std::nullopt;
  }
  return Fact{in.expr, layout};
}

} // namespace moec::raise
