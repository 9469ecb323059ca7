// keepExperts: fewer experts behind a router.
#include "RewriteBank.h"
#include "RewriteRouter.h"
#include "moec/Transforms/Compress/Rewrite.h"

using namespace mlir;
using namespace moec;
using namespace moec::compress;

namespace {

/// The change of one layer.
class Keeper {
public:
  Keeper(moe::RoutedLayer &layer, ArrayRef<int64_t> keep, bool mask)
      : layer(layer), keep(keep), columns(keep), experts(layer.bank.getExperts()), width(experts),
        mask(mask), router(layer.router) {
    if (router)
      return;
    router = layer.widerRouter(); // an expert's id is the number of its column
    if (!router)
      return;
    width = rankedType(router->getOperand(0)).getDimSize(1);
    for (int64_t column = experts; column < width; ++column)
      columns.push_back(column);
    this->mask = true;
  }

  LogicalResult check();
  void rewrite();

private:
  LogicalResult checkRouter();
  LogicalResult checkGroups(int64_t groups, int64_t groupK, bool shortMasked);
  LogicalResult checkIds(Value ids);
  LogicalResult checkRegions();
  void rewriteRoute(ExpertAxis &axis, moe::RouteOp op);
  void rewriteSelect(ExpertAxis &axis, moe::SelectOp op);
  void rewriteAll(ExpertAxis &axis, moe::SelectOp op);
  void rewriteIds(ExpertAxis &axis, Value ids);
  void rewriteBank();
  void noteOrigin();
  InFlightDiagnostic error() { return layerError(layer); }

  moe::RoutedLayer &layer;
  ArrayRef<int64_t> keep;
  SmallVector<int64_t> columns; ///< of the router, that stay
  int64_t experts, width;       ///< and how many it has
  bool mask;
  Operation *router;
};

} // namespace

LogicalResult Keeper::check() {
  for (auto [i, e] : llvm::enumerate(keep)) {
    if (e < 0 || e >= experts)
      return error() << "keeps expert " << e << " of " << experts;
    if (i && keep[i - 1] >= e)
      return error() << "keeps expert " << e << " after " << keep[i - 1]
                     << "; ids have to rise, each once";
  }
  if (keep.empty())
    return error() << "needs at least one expert";
  if (static_cast<int64_t>(keep.size()) == experts)
    return success();
  if (layer.experts.getIds() && (!router || width < experts))
    return error() << "unsupported: its ids come from no router here, so its experts cannot be "
                      "numbered again; replace experts instead of dropping them";
  if (layer.isDense()) { // one whose experts stay apart has a row for each of them in its result
    if (layer.experts.getCombine() != "sum" && !mask)
      return error() << "unsupported: the results of its experts stay apart; use masks instead";
    return checkRegions();
  }
  if (failed(checkRouter()) || failed(checkIds(router->getResult(0))))
    return failure();
  return checkRegions();
}

LogicalResult Keeper::checkRouter() {
  int64_t k = 0, groups = 1, groupK = 1;
  bool shortMasked = true; // a masked expert that is chosen after all gets the weight 0
  if (auto route = dyn_cast<moe::RouteOp>(router)) {
    moe::RouterAttr formula = route.getRouter();
    k = formula.getK();
    groups = formula.getGroups();
    groupK = formula.getGroupK();
    shortMasked = formula.getScore() != moe::RouterScore::Identity ||
                  formula.getRenorm() == moe::RouterRenorm::Softmax ||
                  formula.getRenorm() == moe::RouterRenorm::Sigmoid;
  } else {
    auto select = cast<moe::SelectOp>(router);
    if (select.getKind() == "external")
      return error() << "unsupported: its ids come from outside of a router, so its experts cannot "
                        "be numbered again; replace experts instead of dropping them";
    k = select.getK().value_or(0);
    groups = select.getGroups().value_or(1);
    groupK = select.getGroupK().value_or(1);
    shortMasked = false;
  }
  // A bound of slots that may stay empty: ids stay, and the slots of masked experts have weight 0.
  auto select = dyn_cast<moe::SelectOp>(router);
  bool bound = select && (select.getKind() == "top_p" || select.getKind() == "threshold") &&
               layer.fewestExperts() <= static_cast<int64_t>(columns.size());
  if (bound && static_cast<int64_t>(columns.size()) < k)
    mask = true;
  else if (static_cast<int64_t>(columns.size()) < k)
    return error() << "keeps " << columns.size() << " experts, but each token takes " << k
                   << "; keep at least that many";
  return groups > 1 ? checkGroups(groups, groupK, shortMasked) : success();
}

// Equal groups stay groups; others are masked.
LogicalResult Keeper::checkGroups(int64_t groups, int64_t groupK, bool shortMasked) {
  SmallVector<int64_t> count(groups, 0);
  for (int64_t e : columns)
    ++count[e / (width / groups)];
  int64_t k = layer.k();
  if (llvm::all_equal(count) && k <= groupK * count.front())
    return success();
  mask = true;
  llvm::sort(count);
  int64_t least = 0;
  for (int64_t i = 0; i < groupK; ++i)
    least += count[i];
  if (least < k && !shortMasked)
    return error() << "unsupported: " << groupK << " of its groups may be left with " << least
                   << " experts, but each token takes " << k << "; keep more in each group";
  return success();
}

LogicalResult Keeper::checkIds(Value ids) {
  for (Operation *user : ids.getUsers()) {
    if (isa<moe::ExpertsOp>(user) && user != layer.experts)
      return error() << "unsupported: another layer takes its experts' ids from the same router";
    bool passes = moe::isViewOfIds(user) || onnxName(user) == "Where";
    if (passes && failed(checkIds(user->getResult(0))))
      return failure();
  }
  return success();
}

// A masked expert becomes zero, which has to have the type of a token.
LogicalResult Keeper::checkRegions() {
  if (mask && !givesTokenType(layer.bank))
    return error() << "unsupported: its experts change the type of tokens, so that none of them "
                      "can be masked";
  return success();
}

void Keeper::rewriteRoute(ExpertAxis &axis, moe::RouteOp op) {
  Value logits = op.getLogits(), bias = op.getBias();
  if (!mask) {
    op->setOperand(0, axis.narrow(logits, 1));
    if (bias)
      op->setOperand(1, axis.narrow(bias, 0));
    return;
  }
  op->setOperand(0, axis.masked(axis.narrow(logits, 1))); // scores may be softmaxes already
  if (bias)
    op->setOperand(1, axis.masked(bias));
}

void Keeper::rewriteSelect(ExpertAxis &axis, moe::SelectOp op) {
  Value scores = op.getScores(), weights = op.getWeightScores();
  Value fewer = axis.narrow(scores, 1);
  Value fewerWeights = weights ? axis.narrow(weights, 1) : Value();
  if (mask) {
    // Where masked experts may have a slot, its weight is 0: of all experts, and of probabilities
    // that are summed up.
    bool all = op.getKind() == "all", summed = op.getKind() == "top_p";
    fewer = axis.masked(fewer, 1, summed || (all && vanishes(scores)));
    if (weights && (all || summed))
      fewerWeights = axis.masked(fewerWeights, 1, summed || vanishes(weights));
  }
  op->setOperand(0, fewer);
  if (weights)
    op->setOperand(1, fewerWeights);
}

// Every expert, in order: there are fewer slots.
void Keeper::rewriteAll(ExpertAxis &axis, moe::SelectOp op) {
  OpBuilder builder(op);
  rewriteSelect(axis, op);
  auto fewer = [&](Value v) {
    auto type = rankedType(v);
    return RankedTensorType::get({type.getDimSize(0), static_cast<int64_t>(keep.size())},
                                 type.getElementType());
  };
  OperationState state(op.getLoc(), moe::SelectOp::getOperationName());
  state.addOperands(op->getOperands());
  state.addTypes({fewer(op.getIds()), fewer(op.getWeights())});
  state.addAttributes(op->getAttrs());
  builder.setInsertionPointAfter(op);
  auto select = cast<moe::SelectOp>(builder.create(state));
  axis.given(op.getIds(), select.getIds());
  axis.given(op.getWeights(), select.getWeights());
  SmallVector<Value> operands(layer.experts->getOperands());
  for (Value &v : operands)
    if (v == layer.experts.getIds() || v == layer.experts.getWeights())
      v = axis.narrow(v, 1);
  layer.experts->setOperands(operands);
  layer.router = select;
}

// The ids are numbers of the kept experts now: who reads them reads what belongs to those, or their
// old numbers.
void Keeper::rewriteIds(ExpertAxis &axis, Value ids) {
  Value old; // the same ids as numbers of all experts
  for (OpOperand &use : llvm::make_early_inc_range(ids.getUses())) {
    Operation *user = use.getOwner();
    if (user == layer.experts)
      continue;
    if (moe::isViewOfIds(user) && use.getOperandNumber() == 0) {
      rewriteIds(axis, user->getResult(0));
      continue;
    }
    StringRef name = onnxName(user);
    if ((name == "GatherElements" || name == "Gather") && use.getOperandNumber() == 1) {
      auto type = rankedType(user->getOperand(0));
      int64_t at = intAttr(user, "axis", 0);
      at += at < 0 ? type.getRank() : 0;
      if (type.getDimSize(at) == width) {
        user->setOperand(0, axis.narrow(user->getOperand(0), at));
        continue;
      }
    }
    if (mask)
      continue;
    if (!old) {
      OpBuilder builder(ids.getContext());
      builder.setInsertionPointAfterValue(ids);
      OnnxBuilder b(builder, ids.getLoc());
      SmallVector<int64_t> table(keep);
      table.push_back(-1); // an empty slot counts from the end
      Value names = b.cast(b.ints(table), rankedType(ids).getElementType());
      old = b.gather(names, ids, 0);
    }
    if (user != old.getDefiningOp())
      use.set(old);
  }
}

// Also where ids stay: the note says that the router no longer chooses as it did.
void Keeper::noteOrigin() {
  auto before = layer.bank->getAttrOfType<DenseI64ArrayAttr>(kOrigin);
  if (before && before.size() != experts)
    return; // not known
  SmallVector<int64_t> origin;
  for (int64_t e = 0; e < experts; ++e)
    if (mask || llvm::is_contained(keep, e))
      origin.push_back(before ? before[e] : e);
  layer.bank->setAttr(kOrigin, DenseI64ArrayAttr::get(layer.bank.getContext(), origin));
}

void Keeper::rewriteBank() {
  noteOrigin();
  SmallVector<ExpertEntry> all = expertEntries(layer.bank), entries;
  auto guarded = layer.bank->getAttrOfType<DenseI64ArrayAttr>(kProtected);
  Builder builder(layer.bank.getContext());
  if (mask) {
    for (auto [e, entry] : llvm::enumerate(all))
      if (!llvm::is_contained(keep, static_cast<int64_t>(e)) && entry.storage == "dense")
        entry = {-1, "zero", entry.width, entry.kind, {}, 0};
    entries = all;
  } else {
    SmallVector<int64_t> still;
    for (auto [i, e] : llvm::enumerate(keep)) {
      entries.push_back(all[e]);
      if (guarded && llvm::is_contained(guarded.asArrayRef(), e))
        still.push_back(static_cast<int64_t>(i));
    }
    if (guarded)
      layer.bank->setAttr(kProtected, builder.getDenseI64ArrayAttr(still));
  }
  setExperts(layer.bank, entries);
  layer.bank = moe::findBank(layer.experts, layer.experts.getBank());
}

void Keeper::rewrite() {
  ownBank(layer);
  ExpertAxis axis(layer.experts->getParentOfType<ModuleOp>(), width, columns, mask);
  auto select = dyn_cast_or_null<moe::SelectOp>(router);
  if (!layer.experts.getIds()) {
    Value weights = layer.experts.getWeights(), fewer = axis.narrow(weights, 1);
    if (mask)
      fewer = axis.masked(fewer, 1, true);
    layer.experts->setOperand(1, fewer);
  } else if (select && select.getKind() == "all" && !mask) {
    rewriteAll(axis, select);
  } else {
    if (select)
      rewriteSelect(axis, select);
    else
      rewriteRoute(axis, cast<moe::RouteOp>(router));
    rewriteIds(axis, router->getResult(0));
  }
  rewriteBank();
}

LogicalResult moec::keepExperts(moe::RoutedLayer &layer, ArrayRef<int64_t> keep, bool mask) {
  layer.bank = moe::findBank(layer.experts, layer.experts.getBank());
  Keeper keeper(layer, keep, mask);
  if (failed(keeper.check()))
    return failure();
  if (keep.size() < layer.bank.getExperts())
    keeper.rewrite();
  return success();
}
