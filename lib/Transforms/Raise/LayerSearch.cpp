// A top-k chooses experts, as a rule. Other things may: an argmax, integers from
// anywhere, one id for a whole sequence. And weights of a top-k that become a
// tensor [tokens, experts] are easier to understand when one forgets the top-k.
// Each reading is tried where there is reason to; the one that proves the most
// layers counts. None is wrong: what a reading proves holds.
#include "LayerSearch.h"

using namespace mlir;

namespace moec::raise {

namespace {

// Drops layers whose intermediate results are used outside of all layers;
// several sums over the same experts' results go together.
void dropShared(Found &found) {
  std::vector<Layer> &layers = found.layers;
  std::vector<llvm::SetVector<Operation *>> inside;
  for (const Layer &layer : layers)
    inside.push_back(insideOf(*found.analysis, layer));
  for (bool dropped = true; dropped;) {
    dropped = false;
    llvm::DenseSet<Operation *> all;
    for (const auto &ops : inside)
      all.insert(ops.begin(), ops.end());
    for (size_t i = layers.size(); i-- > 0;) {
      Operation *user = outsideUser(*found.analysis, layers[i], inside[i], all);
      if (!user)
        continue;
      found.refused.insert({layers[i].routing->ids,
                            {user, "it also uses an intermediate result of an expert"}});
      layers.erase(layers.begin() + i);
      inside.erase(inside.begin() + i);
      dropped = true;
    }
  }
}

// What a tensor of weights is a part of, behind ops that keep the elements; null
// where it is no part of another.
Value wholeOf(Value v) {
  for (int depth = 0; depth < 12; ++depth) {
    Operation *op = v.getDefiningOp();
    StringRef n = onnxName(op);
    if (n == "Slice" || n == "Split")
      return op->getOperand(0);
    if (n != "Reshape" && n != "Cast" && n != "Unsqueeze" && n != "Squeeze" &&
        n != "Transpose" && n != "Identity" && n != "Gather")
      return {};
    v = op->getOperand(0);
  }
  return {};
}

// Experts that run for every token under weights of a router which also weighs
// chosen experts are its shared experts: a part of the block around the layer.
void dropSharedExperts(std::vector<Layer> &layers) {
  llvm::DenseSet<Value> routed;
  for (const Layer &layer : layers)
    if (!layer.routing->dense)
      for (Value w : layer.weights)
        if (Value whole = wholeOf(w))
          routed.insert(whole);
  llvm::erase_if(layers, [&](const Layer &layer) {
    return layer.routing->dense && routed.contains(wholeOf(layer.routing->ids));
  });
}

Found read(Block &block, BankBuilder &banks, const Reading &reading) {
  Found found;
  found.analysis = std::make_unique<Analysis>(reading);
  found.analysis->run(block);
  for (Expr *candidate : found.analysis->candidates()) {
    Refusal no;
    if (auto layer = prove(*found.analysis, banks, candidate, no))
      found.layers.push_back(*layer);
    else
      found.refused.insert({candidate->ids, no});
  }
  dropSharedExperts(found.layers);
  dropShared(found);
  return found;
}

} // namespace

Found findLayers(Block &block, BankBuilder &banks) {
  Reading reading;
  Channels channels = channelsOf(block, banks.weightSteps());
  Found best = read(block, banks, reading);
  auto attempt = [&](const Reading &other, bool evenSo = false) {
    Found found = read(block, banks, other);
    // Ids say more than dense weights.
    auto byIds = [](const Found &f) {
      return llvm::count_if(f.layers, [](const Layer &l) { return !l.routing->dense; });
    };
    if (found.layers.size() < best.layers.size() ||
        (found.layers.size() == best.layers.size() && byIds(found) <= byIds(best) && !evenSo))
      return false;
    best = std::move(found);
    reading = other;
    return true;
  };
  // Pixels as tokens; a choice among channels has its remark there.
  if (!channels.matrices.empty()) {
    Reading other = reading;
    other.channels = channels;
    attempt(other, channels.chooses && best.layers.empty());
  }
  bool argmax = llvm::any_of(block, [](Operation &op) { return isOnnx(&op, "ArgMax"); });
  if (argmax) {
    Reading other = reading;
    other.argmax = true;
    attempt(other);
  }
  // Ids show by and by: those of one reading lead to more in the next.
  for (int round = 0; round < 3; ++round) {
    Reading other = reading;
    other.argmax = argmax;
    for (auto &[value, ids] : best.analysis->externalIds())
      other.ids.insert({value, ids});
    if (argmax && !reading.argmax)
      for (auto &[value, ids] : read(block, banks, other).analysis->externalIds())
        other.ids.insert({value, ids});
    if (other.ids.size() == reading.ids.size() || !attempt(other))
      break;
  }
  Reading sequences = reading;
  sequences.argmax = argmax;
  for (auto &[value, ids] : best.analysis->sequenceIds(block))
    sequences.ids.insert_or_assign(value, ids);
  if (sequences.ids.size() > reading.ids.size())
    attempt(sequences);
  // Without the choices that led to no layer.
  Reading without = reading;
  llvm::DenseSet<Value> proven;
  for (const Layer &layer : best.layers)
    proven.insert(layer.routing->ids);
  for (auto &[ids, routing] : best.analysis->routings())
    if (!routing.dense && !routing.external && !proven.contains(ids))
      without.ignored.insert(ids);
  if (!without.ignored.empty())
    attempt(without);
  return best;
}

} // namespace moec::raise
