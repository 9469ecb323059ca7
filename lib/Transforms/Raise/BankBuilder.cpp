#include "BankBuilder.h"
#include "MoEOps.h"

using namespace mlir;

namespace moec::raise {

namespace {

RankedTensorType typeOf(const WeightItem &item) { return ranked(item.value); }

// Rows and columns ([N, K] order) of a projection's matrix, of one expert.
std::optional<std::pair<int64_t, int64_t>> sizes(const Projection &p, size_t expert = 0) {
  const WeightSet &set = p.linear->weights;
  if (set.items.size() <= expert)
    return std::nullopt;
  auto type = typeOf(set.items[expert]);
  if (!type || type.getRank() < 2 || !type.hasStaticShape())
    return std::nullopt;
  if (set.kind == WeightSet::Stacked && type.getRank() == 2) { // a vector for each expert
    int64_t n = type.getDimSize(1);
    return p.linear->nk ? std::pair<int64_t, int64_t>{1, n} : std::pair<int64_t, int64_t>{n, 1};
  }
  int64_t r = type.getDimSize(type.getRank() - 2);
  int64_t c = type.getDimSize(type.getRank() - 1);
  if (!p.linear->nk)
    std::swap(r, c);
  if (set.kind == WeightSet::Rows)
    r = 1;
  if (set.kind == WeightSet::Columns)
    c = 1;
  if (p.size >= 0)
    r = p.size;
  return std::pair{r, c};
}

} // namespace

bool BankBuilder::checkSet(const WeightSet &set, const BankShape &shape, std::string &why) {
  const int64_t experts = shape.experts;
  const bool anyWidth = !shape.widths.empty();
  if (!shape.fixed.empty() && set.kind != WeightSet::PerExpert) {
    why = "constant experts stand beside experts whose matrices are one tensor";
    return false;
  }
  if (set.kind == WeightSet::Single || set.items.empty()) {
    why = "the experts share one matrix";
    return false;
  }
  if (set.kind == WeightSet::Rows || set.kind == WeightSet::Columns)
    return true; // the product says that there is one for each expert
  if (set.kind == WeightSet::Stacked) {
    auto type = typeOf(set.items.front());
    int64_t n = type && type.getRank() > 0 ? type.getDimSize(0) : -1;
    if (n == experts)
      return true;
    why = "the number of experts in the bank (" + std::to_string(n) +
          ") is not the number of columns of the router (" +
          std::to_string(experts) + ")";
    return false;
  }
  if (static_cast<int64_t>(set.items.size()) != experts) {
    why = "not every expert has a matrix";
    return false;
  }
  auto first = typeOf(set.items.front());
  for (auto [i, item] : llvm::enumerate(set.items)) {
    if (!typeOf(item) || (!anyWidth && typeOf(item) != first)) {
      why = "the experts' matrices have different shapes";
      return false;
    }
    // A slice of a stacked tensor must be the slice of that id.
    int64_t index = item.index;
    int64_t of = item.index >= 0 ? typeOf(item).getDimSize(0) : -1;
    if (Value v = steps.of(item.value); v && index < 0) {
      WeightSteps::Origin origin = WeightSteps::origin(v);
      auto base = dyn_cast<ShapedType>(origin.base.getType());
      if (origin.index >= 0 && base && base.getRank() >= 2) {
        index = origin.index;
        of = base.getDimSize(0);
      }
    }
    if (index >= 0 && of == experts && index != static_cast<int64_t>(i) && !shape.isFixed(i)) {
      why = "expert " + std::to_string(i) + " is given the parameters of expert " +
            std::to_string(index);
      return false;
    }
  }
  return true;
}

// Experts of different inner sizes: each fits together, in full matrices of its
// own. False: they are not of this kind.
bool BankBuilder::checkWidths(const Ffn &ffn, BankShape &shape) {
  SmallVector<const Projection *> ps = {&ffn.up, &ffn.down};
  if (ffn.gated)
    ps.push_back(&ffn.gate);
  for (const Projection *p : ps) {
    const WeightSet &set = p->linear->weights;
    if (set.kind != WeightSet::PerExpert || p->size >= 0 || p->offset != 0 ||
        static_cast<int64_t>(set.items.size()) != shape.experts ||
        (p->bias && (p->bias->weights.kind != WeightSet::PerExpert ||
                     static_cast<int64_t>(p->bias->weights.items.size()) != shape.experts)))
      return false;
  }
  for (int64_t e = 0; e < shape.experts; ++e) {
    auto up = sizes(ffn.up, e), down = sizes(ffn.down, e);
    auto gate = ffn.gated ? sizes(ffn.gate, e) : up;
    if (!up || !down || !gate || *gate != *up || up->second != shape.hidden ||
        down->first != shape.hidden || down->second != up->first)
      return false;
    for (const Projection *p : ps)
      if (p->bias && p != &ffn.down) {
        auto bias = typeOf(p->bias->weights.items[e]);
        if (!bias || bias.getNumElements() != up->first)
          return false;
      }
    shape.widths.push_back(up->first);
    shape.inter = std::max(shape.inter, up->first);
  }
  if (llvm::all_equal(shape.widths))
    shape.widths.clear();
  return true;
}

std::optional<BankShape> BankBuilder::check(const Ffn &ffn, int64_t experts,
                                            std::string &why) {
  BankShape shape;
  shape.experts = experts;
  shape.fixed = ffn.fixed;
  auto up = sizes(ffn.up), down = sizes(ffn.down);
  auto gate = ffn.gated ? sizes(ffn.gate) : up;
  if (!up || !down || !gate) {
    why = "an expert's parameters are not static matrices";
    return std::nullopt;
  }
  shape.inter = up->first;
  shape.hidden = up->second;
  if (*gate != *up || down->second != shape.inter ||
      down->first != shape.hidden) {
    why = "the sizes of the expert's layers do not fit together";
    return std::nullopt;
  }
  for (const FixedExpert &each : ffn.fixed)
    if (each.constant && ranked(each.constant).getNumElements() != shape.hidden) {
      why = "a constant expert's row is not as long as a token";
      return std::nullopt;
    }
  if (!checkWidths(ffn, shape)) {
    shape.widths.clear();
    shape.inter = up->first;
  }
  SmallVector<const Projection *> ps = {&ffn.up, &ffn.down};
  if (ffn.gated)
    ps.push_back(&ffn.gate);
  for (const Projection *p : ps) {
    if (!checkSet(p->linear->weights, shape, why))
      return std::nullopt;
    if (!p->bias)
      continue;
    WeightSet bias = p->bias->weights;
    if (p->bias->kind == Expr::Weight && bias.kind == WeightSet::Single) {
      // A constant against all experts at once: [E, .., N].
      auto type = typeOf(bias.items.front());
      bias.kind = WeightSet::Stacked;
      if (!type || type.getRank() < 2) {
        why = "the experts share one bias";
        return std::nullopt;
      }
    }
    if (!checkSet(bias, shape, why))
      return std::nullopt;
  }
  return shape;
}

Value BankBuilder::widened(Value v, int64_t axis, const BankShape &shape) {
  SmallVector<int64_t> dims(cast<ShapedType>(v.getType()).getShape());
  if (shape.widths.empty() || dims[axis] == shape.inter)
    return v;
  dims[axis] = shape.inter - dims[axis];
  Type element = cast<ShapedType>(v.getType()).getElementType();
  auto zeros = DenseElementsAttr::get(RankedTensorType::get(dims, element),
                                      FloatAttr::get(element, 0.0).getValue());
  return steps.concat({v, steps.literal(zeros)}, axis);
}

Value BankBuilder::matrix(const Projection &p, const BankShape &shape, int64_t innerAxis) {
  const WeightSet &set = p.linear->weights;
  auto canonical = [&](Value v) { // [.., K, N] or [.., N, K] -> part of rows
    int64_t rank = cast<ShapedType>(v.getType()).getRank();
    if (set.kind == WeightSet::Stacked && rank == 2) {
      auto dims = cast<ShapedType>(v.getType()).getShape();
      v = steps.reshape(v, {dims[0], 1, dims[1]});
      rank = 3;
    }
    if (!p.linear->nk) {
      SmallVector<int64_t> perm;
      for (int64_t i = 0; i < rank; ++i)
        perm.push_back(i);
      std::swap(perm[rank - 1], perm[rank - 2]);
      v = steps.transpose(v, perm);
    }
    if (p.size >= 0)
      v = steps.part(v, rank - 2, p.offset, p.size, p.stride);
    return v;
  };
  if (set.kind == WeightSet::Stacked)
    return canonical(steps.of(set.items.front().value));
  if (set.kind == WeightSet::Rows || set.kind == WeightSet::Columns) {
    Value v = canonical(steps.of(set.items.front().value));
    bool rows = set.kind == WeightSet::Rows;
    if (!rows)
      v = steps.transpose(v, {1, 0});
    int64_t n = cast<ShapedType>(v.getType()).getDimSize(1);
    return steps.reshape(v, {shape.experts, rows ? 1 : n, rows ? n : 1});
  }
  // Slices 0..E-1 of one tensor are that tensor.
  Value base;
  SmallVector<Value> each;
  bool inOrder = true;
  for (auto [e, item] : llvm::enumerate(set.items)) {
    if (shape.isFixed(e))
      continue;
    size_t i = each.size(); // the slab's number
    Value v = steps.of(item.value);
    if (item.index >= 0) {
      inOrder &= item.index == static_cast<int64_t>(i) && (!base || base == v) &&
                 (shape.fixed.empty() ||
                  cast<ShapedType>(v.getType()).getDimSize(0) == shape.slabs());
      base = v;
      auto dims = cast<ShapedType>(v.getType()).getShape();
      v = steps.reshape(steps.part(v, 0, item.index, 1), dims.drop_front());
    } else {
      WeightSteps::Origin origin = WeightSteps::origin(v);
      // Only an untransposed slice gives the stacked tensor back directly.
      Value whole = origin.base;
      auto wholeType = dyn_cast<ShapedType>(whole.getType());
      auto type = cast<ShapedType>(v.getType());
      inOrder &= origin.index == static_cast<int64_t>(i) && origin.plain &&
                 (!base || base == whole) && wholeType.getRank() == 3 &&
                 wholeType.getDimSize(0) == shape.slabs() &&
                 wholeType.getShape().drop_front() == type.getShape();
      base = whole;
    }
    each.push_back(v);
  }
  if (inOrder && base)
    return canonical(base);
  SmallVector<Value> rows;
  for (Value v : each) {
    v = widened(canonical(v), innerAxis, shape);
    SmallVector<int64_t> dims(cast<ShapedType>(v.getType()).getShape());
    dims.insert(dims.begin(), 1);
    rows.push_back(steps.reshape(v, dims));
  }
  return rows.size() == 1 ? rows.front() : steps.concat(rows, 0);
}

Value BankBuilder::biasOf(const Projection &p, const BankShape &shape, int64_t rows) {
  int64_t experts = shape.experts;
  if (!p.bias)
    return {};
  const WeightSet &set = p.bias->weights;
  Value all;
  if (set.kind == WeightSet::PerExpert) {
    SmallVector<Value> each;
    for (auto [e, item] : llvm::enumerate(set.items)) {
      if (shape.isFixed(e))
        continue;
      Value v = steps.of(item.value);
      if (item.index >= 0)
        v = steps.part(v, 0, item.index, 1);
      int64_t n = cast<ShapedType>(v.getType()).getNumElements();
      v = steps.reshape(v, {1, n});
      each.push_back(rows == shape.inter && n < rows ? widened(v, 1, shape) : v);
    }
    all = each.size() == 1 ? each.front() : steps.concat(each, 0);
  } else {
    all = steps.of(set.items.front().value);
    int64_t n = cast<ShapedType>(all.getType()).getNumElements() / experts;
    all = steps.reshape(all, {experts, n});
  }
  int64_t n = cast<ShapedType>(all.getType()).getDimSize(1);
  if (n != rows || p.biasOffset != 0 || p.biasStride != 1)
    all = steps.part(all, 1, p.biasOffset, rows, p.biasStride);
  return all;
}

FlatSymbolRefAttr BankBuilder::build(const Ffn &ffn, const BankShape &shape,
                                     Location loc) {
  Parts parts;
  parts.up = matrix(ffn.up, shape, 0);
  parts.down = matrix(ffn.down, shape, 1);
  parts.upBias = biasOf(ffn.up, shape, shape.inter);
  parts.downBias = biasOf(ffn.down, shape, shape.hidden);
  if (ffn.gated) {
    parts.gate = matrix(ffn.gate, shape, 0);
    parts.gateBias = biasOf(ffn.gate, shape, shape.inter);
    // Kernels know a bias of both or of none.
    Value other = parts.gateBias ? parts.gateBias : parts.upBias;
    for (Value *bias : {&parts.gateBias, &parts.upBias})
      if (other && !*bias) {
        auto type = cast<ShapedType>(other.getType());
        *bias = steps.literal(DenseElementsAttr::get(
            type, FloatAttr::get(type.getElementType(), 0.0).getValue()));
      }
  }
  return build(parts, ffn, shape, loc);
}

std::string BankBuilder::freshName() {
  std::string name;
  do
    name = "layer" + std::to_string(counter++);
  while (SymbolTable::lookupSymbolIn(module, name));
  return name;
}

FlatSymbolRefAttr BankBuilder::build(const RegionBody &body, Location loc,
                                     RankedTensorType &result) {
  return buildRegionBank(module, steps, body, freshName(), loc, result);
}

FlatSymbolRefAttr BankBuilder::build(const Parts &parts, const Ffn &ffn,
                                     const BankShape &shape, Location loc) {
  std::string name = freshName();
  auto bind = [&](Value v, StringRef part) {
    return v ? steps.bind(v, name + "." + part.str()) : FlatSymbolRefAttr();
  };
  BankSymbols symbols;
  symbols.gate = bind(parts.gate, "gate");
  symbols.up = bind(parts.up, "up");
  symbols.down = bind(parts.down, "down");
  symbols.gateBias = bind(parts.gateBias, "gate_bias");
  symbols.upBias = bind(parts.upBias, "up_bias");
  symbols.downBias = bind(parts.downBias, "down_bias");
  SmallVector<Value> constants;
  for (const FixedExpert &fixed : shape.fixed)
    if (fixed.constant)
      constants.push_back(steps.reshape(steps.of(fixed.constant), {1, shape.hidden}));
  if (!constants.empty())
    symbols.constants = bind(constants.size() == 1 ? constants.front() : steps.concat(constants, 0),
                             "constants");
  return createBank(module, loc, name, ffn, shape, symbols);
}

} // namespace moec::raise
