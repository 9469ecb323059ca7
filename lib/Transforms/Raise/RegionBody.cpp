#include "RegionBody.h"
#include "llvm/ADT/SetVector.h"

using namespace mlir;

namespace moec::raise {

namespace {

constexpr size_t kMaxContexts = 8;

// Numbers that are part of the formula, not parameters.
bool isInline(Value v) {
  Operation *op = v.getDefiningOp();
  if (isAbsent(v) || isOnnx(op, "None"))
    return true;
  if (!isOnnx(op, "Constant"))
    return false;
  auto type = ranked(v);
  return type && (type.getNumElements() == 1 ||
                  (type.getElementType().isInteger() && type.getNumElements() <= 16));
}

bool isHitAtom(const Atom &atom) {
  return atom.kind == Atom::Hit || atom.kind == Atom::Group;
}

bool hasHits(const Layout &layout) {
  return llvm::any_of(layout,
                      [](const Dim &dim) { return llvm::any_of(dim, isHitAtom); });
}

// Finds the operations of all experts at once, from their results backwards.
class Collector {
public:
  Collector(Analysis &analysis, ArrayRef<Value> bodies, int64_t rowAxes,
            RegionBody &out)
      : analysis(analysis), bodies(bodies), out(out) {
    out.rowAxes = rowAxes;
  }

  bool run(Operation *&at, std::string &why) {
    block = Value(bodies.front()).getParentBlock();
    for (Value v : bodies)
      if (v.getParentBlock() != block || !ranked(v)) {
        why = "an expert's result is computed inside of a loop or branch";
        at = v.getDefiningOp();
        return false;
      }
    out.given = hits = hasHits(analysis.get(bodies.front()).layout);
    walk();
    if (sequential && hits) {
      at = sequential;
      why = "an expert reads another expert's result";
      return false;
    }
    return recipes(at, why) && copies(at, why) && proof(at, why);
  }

private:
  // Depends on nothing but weights.
  bool isConstant(Value v) {
    if (isAbsent(v) || isWeight(v) || analysis.get(v).expr->kind == Expr::Splat)
      return true;
    auto [it, isNew] = constant.insert({v, false});
    if (!isNew)
      return it->second;
    Operation *op = v.getDefiningOp();
    bool all = op && op->getNumRegions() == 0 && op->getNumOperands() > 0 &&
               !onnxName(op).empty() &&
               llvm::all_of(op->getOperands(),
                            [&](Value operand) { return isConstant(operand); });
    return constant[v] = all;
  }

  // Computed from the rows that an expert was given.
  bool ofHits(Value v) {
    if (hasHits(analysis.get(v).layout))
      return true;
    auto [it, isNew] = fromHits.insert({v, false});
    Operation *op = v.getDefiningOp();
    if (!isNew || !op || isOnnx(op, "Shape"))
      return it->second;
    bool any = llvm::any_of(op->getOperands(), [&](Value operand) {
      return ranked(operand) && !isWeight(operand) && ofHits(operand);
    });
    return fromHits[v] = any;
  }

  // The rows that one expert was given: a gather of tokens.
  bool isGiven(Value v) {
    const Fact fact = analysis.get(v);
    return hasHits(fact.layout) && !hasHits(fact.expr->originLayout);
  }

  // Owners of values: an expert, or several. Operations are visited from the
  // last to the first, so that all readers of a value come before it.
  static constexpr int several = -1;
  void walk() {
    llvm::DenseMap<Value, int> distinct; // the same result is the same expert
    for (Value v : bodies) {
      int id = distinct.insert({v, static_cast<int>(distinct.size())}).first->second;
      owner[v] = id;
    }
    Operation *last = nullptr;
    for (Value v : bodies)
      if (Operation *op = v.getDefiningOp(); op && (!last || last->isBeforeInBlock(op)))
        last = op;
    bool alone = distinct.size() == 1;
    for (Operation *op = last; op; op = op->getPrevNode())
      visit(op, alone);
  }

  void visit(Operation *op, bool alone) {
    int own = -2;
    for (Value v : op->getResults())
      if (auto it = owner.find(v); it != owner.end())
        own = own == -2 || own == it->second ? it->second : several;
    if (own == -2)
      return;
    bool constantOp = llvm::all_of(op->getResults(), [&](Value v) { return isConstant(v); });
    bool result = llvm::any_of(op->getResults(), [&](Value v) {
      return llvm::is_contained(bodies, v);
    });
    bool shared = own == several && !result && !hits;
    bool given = hits && llvm::any_of(op->getResults(), [&](Value v) { return isGiven(v); });
    bool outside = hits && !result && !isGivenSlice(op, bodies.size()) &&
                   llvm::none_of(op->getResults(), [&](Value v) { return ofHits(v); });
    if (result && own == several) {
      sequential = op;
      if (!hits)
        return; // the tokens themselves, perhaps
    }
    if (!constantOp && (shared || given || outside || op->getNumRegions() != 0 ||
                        (alone && !hits) || (!hits && !result && isTower(op))))
      return; // a source
    inside.insert(op);
    for (OpOperand &operand : op->getOpOperands()) {
      Value v = operand.get();
      if (isAbsent(v) || isWeight(v) || isSizeOperand(operand) ||
          analysis.get(v).expr->kind == Expr::Splat)
        continue;
      auto [it, isNew] = owner.insert({v, own});
      if (!isNew && it->second != own)
        it->second = several;
    }
  }

  // The tokens of a level above, which more than this expert reads, or whose experts others do.
  bool isTower(Operation *op) {
    if (sharesExperts(analysis, op))
      return true;
    bool read = llvm::any_of(op->getUsers(), [&](Operation *user) {
      return !inside.contains(user) && !isOnnx(user, "Shape");
    });
    return read && llvm::any_of(op->getResults(), [&](Value v) { return ofLayer(analysis, v); });
  }

  // The source behind a value that no inside operation computes.
  std::optional<unsigned> sourceOf(Value v, std::string &why) {
    Source source;
    auto type = ranked(v);
    if (!type) {
      why = "an expert reads a tensor of unknown rank";
      return std::nullopt;
    }
    if (hits && isGiven(v)) {
      Fact fact = analysis.get(v);
      source.value = fact.expr->origin;
      auto whole = ranked(source.value);
      int64_t behind = type.getRank() - 1;
      if (!whole || whole.getRank() <= behind || type.getRank() < 1 ||
          fact.layout[0].size() != 1 || !isHitAtom(fact.layout[0][0]) ||
          whole.getShape().take_back(behind) != type.getShape().take_back(behind)) {
        why = "an expert's rows are not rows of one tensor of tokens";
        return std::nullopt;
      }
      source.rowAxes = whole.getRank() - behind;
      source.type = whole;
    } else {
      source.value = v;
      source.type = type;
      bool rows = !hits && type.getRank() >= out.rowAxes &&
                  type.getElementType() != IntegerType::get(type.getContext(), 64);
      auto like = ranked(bodies.front());
      for (int64_t i = 0; rows && i < out.rowAxes; ++i)
        rows = type.getDimSize(i) == like.getDimSize(i) ||
               (type.getDimSize(i) != 1 && (type.isDynamicDim(i) || like.isDynamicDim(i)));
      source.rowAxes = rows ? out.rowAxes : 0;
    }
    if (source.rowAxes > 0) {
      SmallVector<int64_t> dims(source.type.getShape().drop_front(source.rowAxes));
      dims.insert(dims.begin(), ShapedType::kDynamic);
      source.type = RankedTensorType::get(dims, source.type.getElementType());
    }
    for (auto [i, known] : llvm::enumerate(out.sources))
      if (known.value == source.value && known.type == source.type)
        return i;
    out.sources.push_back(source);
    return out.sources.size() - 1;
  }

  // What each expert's result needs, in order.
  bool recipes(Operation *&at, std::string &why) {
    for (Value body : bodies) {
      Recipe recipe;
      recipe.result = body;
      llvm::SetVector<Operation *> ops;
      if (inside.contains(body.getDefiningOp()))
        ops.insert(body.getDefiningOp());
      for (size_t i = 0; i < ops.size(); ++i)
        for (OpOperand &operand : ops[i]->getOpOperands()) {
          Operation *def = operand.get().getDefiningOp();
          if (def && inside.contains(def) && !isSizeOperand(operand))
            ops.insert(def);
        }
      recipe.ops.assign(ops.begin(), ops.end());
      llvm::sort(recipe.ops, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });
      for (Operation *op : recipe.ops)
        if (!inputs(op, recipe, why)) {
          at = op;
          return false;
        }
      if (recipe.ops.empty() && !read(body, recipe, why)) {
        at = body.getDefiningOp();
        return false;
      }
      out.experts.push_back(std::move(recipe));
    }
    return order(at, why);
  }

  // An expert without operations gives back the tokens, which all read then.
  bool copies(Operation *&at, std::string &why) {
    if (hits || !givesTokens(out, sequential) || readTokensOnly(out))
      return true;
    at = sequential ? sequential : at;
    why = sequential ? "an expert reads another expert's result"
                     : "the experts read more than one source of tokens";
    return false;
  }

  bool inputs(Operation *op, Recipe &recipe, std::string &why) {
    for (OpOperand &operand : op->getOpOperands()) {
      Value v = operand.get();
      bool own = isOwnNumber(operand, bodies.size());
      if (isAbsent(v) || (isInline(v) && !own) || isSizeOperand(operand))
        continue;
      if (Expr *e = analysis.get(v).expr; !own && e->kind == Expr::Splat) {
        if (!standsForNumber(analysis, operand)) {
          why = "an expert's body reads a constant of a size known at run time only";
          return false;
        }
        recipe.numbers[v] = e->nums[0];
        continue;
      }
      if (isWeight(v)) {
        if (!llvm::is_contained(recipe.parameters, v))
          recipe.parameters.push_back(v);
      } else if (!inside.contains(v.getDefiningOp()) && !read(v, recipe, why)) {
        return false;
      }
    }
    return true;
  }

  bool read(Value v, Recipe &recipe, std::string &why) {
    if (recipe.sources.contains(v))
      return true;
    auto source = sourceOf(v, why);
    if (!source)
      return false;
    recipe.sources[v] = *source;
    return true;
  }

  // Tokens first: what has rows and most experts read.
  bool order(Operation *&at, std::string &why) {
    SmallVector<int64_t> readers(out.sources.size(), 0);
    for (const Recipe &recipe : out.experts)
      for (auto &[value, source] : recipe.sources)
        readers[source] += out.sources[source].rowAxes > 0;
    auto most = std::max_element(readers.begin(), readers.end());
    for (Value v : bodies)
      at = v.getDefiningOp() ? v.getDefiningOp() : at;
    if (most == readers.end() || *most == 0) {
      why = "the experts read no tokens";
      return false;
    }
    if (out.sources.size() > kMaxContexts + 1) {
      why = "the experts read " + std::to_string(out.sources.size()) + " tensors";
      return false;
    }
    // Parts of a tensor under weights are no experts.
    int64_t own = llvm::count_if(out.experts, [](const Recipe &recipe) {
      return !recipe.parameters.empty() || llvm::any_of(recipe.ops, [](Operation *op) {
        return isOnnx(op, "custom");
      });
    });
    if (own < 2) {
      why = "the experts have no parameters";
      return false;
    }
    unsigned tokens = most - readers.begin();
    std::swap(out.sources[0], out.sources[tokens]);
    RankedTensorType type = out.sources[0].type;
    if (type.getRank() == 2 && type.isDynamicDim(1)) {
      why = "the size of the experts' tokens is not static";
      return false;
    }
    for (Recipe &recipe : out.experts)
      for (auto &entry : recipe.sources)
        entry.second = entry.second == tokens ? 0 : entry.second == 0 ? tokens : entry.second;
    return true;
  }

  bool proof(Operation *&at, std::string &why) {
    llvm::SetVector<Operation *> all;
    for (Recipe &recipe : out.experts) {
      for (auto &[value, source] : recipe.sources)
        out.rows[value] = out.sources[source].rowAxes > 0 ? Rows{0, out.rowAxes} : Rows();
      for (Operation *op : recipe.ops) {
        if (all.insert(op) && !proveRows(op)) {
          at = op;
          why = "an expert's body mixes tokens, or is not known to treat them one by one,";
          return false;
        }
      }
      Rows rows = out.rows.lookup(recipe.result);
      if (!(rows == Rows{0, out.rowAxes})) {
        at = recipe.result.getDefiningOp();
        why = "an expert's result is not one row for each token";
        return false;
      }
      recipe.key = recipeKey(analysis, recipe);
    }
    out.inside.assign(all.begin(), all.end());
    llvm::copy_if(all, std::back_inserter(out.foreign),
                  [](Operation *op) { return isOnnx(op, "custom"); });
    if (const Recipe *other = sameFormula(analysis, out))
      out.other = other - out.experts.data();
    return true;
  }

  bool proveRows(Operation *op) {
    SmallVector<Rows> operands;
    bool any = false;
    for (OpOperand &operand : op->getOpOperands()) {
      operands.push_back(isSizeOperand(operand) ? Rows() : out.rows.lookup(operand.get()));
      any |= operands.back().any();
    }
    if (!any) { // of parameters and of what all tokens share
      for (Value v : op->getResults())
        out.rows[v] = Rows();
      return op->getNumRegions() == 0;
    }
    auto known = rowWise(op, operands);
    if (!known || known->results.size() != op->getNumResults())
      return false;
    out.coupled |= known->coupled;
    for (auto [v, rows] : llvm::zip(op->getResults(), known->results)) {
      if (out.rowAxes > 1 && rows.any() && rows.at != 0)
        return false;
      out.rows[v] = rows;
    }
    return true;
  }

  Analysis &analysis;
  ArrayRef<Value> bodies;
  RegionBody &out;
  Block *block = nullptr;
  bool hits = false; // experts are given rows of their own
  Operation *sequential = nullptr;
  llvm::DenseMap<Value, int> owner;
  llvm::DenseMap<Value, bool> constant, fromHits;
  llvm::DenseSet<Operation *> inside;
};

} // namespace

std::optional<RegionBody> matchRegion(Analysis &analysis, ArrayRef<Value> bodies,
                                      int64_t rowAxes, Operation *&at,
                                      std::string &why) {
  RegionBody out;
  if (bodies.empty() || llvm::is_contained(bodies, Value()))
    return std::nullopt;
  Collector collector(analysis, bodies, rowAxes, out);
  if (!collector.run(at, why))
    return std::nullopt;
  return out;
}

} // namespace moec::raise
