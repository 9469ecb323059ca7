#include "BankBuilder.h"
#include "MoEOps.h"

using namespace mlir;

namespace moec::raise {

namespace {

RankedTensorType typeOf(const WeightItem &item) { return ranked(item.value); }

// Rows and columns ([N, K] order) of a projection's matrix.
std::optional<std::pair<int64_t, int64_t>> sizes(const Projection &p) {
  const WeightSet &set = p.linear->weights;
  if (set.items.empty())
    return std::nullopt;
  auto type = typeOf(set.items.front());
  if (!type || type.getRank() < 2 || !type.hasStaticShape())
    return std::nullopt;
  int64_t r = type.getDimSize(type.getRank() - 2);
  int64_t c = type.getDimSize(type.getRank() - 1);
  if (!p.linear->nk)
    std::swap(r, c);
  if (p.size >= 0)
    r = p.size;
  return std::pair{r, c};
}

} // namespace

bool BankBuilder::checkSet(const WeightSet &set, int64_t experts,
                           std::string &why) {
  if (set.kind == WeightSet::Single || set.items.empty()) {
    why = "the experts share one matrix";
    return false;
  }
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
    if (!typeOf(item) || typeOf(item) != first) {
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
    if (index >= 0 && of == experts && index != static_cast<int64_t>(i)) {
      why = "expert " + std::to_string(i) + " is given the parameters of expert " +
            std::to_string(index);
      return false;
    }
  }
  return true;
}

std::optional<BankShape> BankBuilder::check(const Ffn &ffn, int64_t experts,
                                            std::string &why) {
  BankShape shape;
  shape.experts = experts;
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
  SmallVector<const Projection *> ps = {&ffn.up, &ffn.down};
  if (ffn.gated)
    ps.push_back(&ffn.gate);
  for (const Projection *p : ps) {
    if (!checkSet(p->linear->weights, experts, why))
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
    if (!checkSet(bias, experts, why))
      return std::nullopt;
  }
  return shape;
}

Value BankBuilder::matrix(const Projection &p, const BankShape &shape) {
  const WeightSet &set = p.linear->weights;
  auto canonical = [&](Value v) { // [.., K, N] or [.., N, K] -> part of rows
    int64_t rank = cast<ShapedType>(v.getType()).getRank();
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
  // Slices 0..E-1 of one tensor are that tensor.
  Value base;
  SmallVector<Value> each;
  bool inOrder = true;
  for (auto [i, item] : llvm::enumerate(set.items)) {
    Value v = steps.of(item.value);
    if (item.index >= 0) {
      inOrder &= item.index == static_cast<int64_t>(i) && (!base || base == v);
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
                 wholeType.getDimSize(0) == shape.experts &&
                 wholeType.getShape().drop_front() == type.getShape();
      base = whole;
    }
    each.push_back(v);
  }
  if (inOrder && base)
    return canonical(base);
  SmallVector<Value> rows;
  for (Value v : each) {
    v = canonical(v);
    SmallVector<int64_t> dims(cast<ShapedType>(v.getType()).getShape());
    dims.insert(dims.begin(), 1);
    rows.push_back(steps.reshape(v, dims));
  }
  return rows.size() == 1 ? rows.front() : steps.concat(rows, 0);
}

Value BankBuilder::biasOf(const Projection &p, int64_t experts, int64_t rows) {
  if (!p.bias)
    return {};
  const WeightSet &set = p.bias->weights;
  Value all;
  if (set.kind == WeightSet::PerExpert) {
    SmallVector<Value> each;
    for (const WeightItem &item : set.items) {
      Value v = steps.of(item.value);
      if (item.index >= 0)
        v = steps.part(v, 0, item.index, 1);
      int64_t n = cast<ShapedType>(v.getType()).getNumElements();
      each.push_back(steps.reshape(v, {1, n}));
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
  int64_t e = shape.experts;
  parts.up = matrix(ffn.up, shape);
  parts.down = matrix(ffn.down, shape);
  parts.upBias = biasOf(ffn.up, e, shape.inter);
  parts.downBias = biasOf(ffn.down, e, shape.hidden);
  if (ffn.gated) {
    parts.gate = matrix(ffn.gate, shape);
    parts.gateBias = biasOf(ffn.gate, e, shape.inter);
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
  return createBank(module, loc, name, ffn, shape, symbols);
}

} // namespace moec::raise
