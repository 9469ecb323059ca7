// keep-experts: see Keep.td.
#include "Problem.h"
#include "moec/Dialect/Onnx/Onnx.h"
#include "moec/Transforms/Compress/Passes.h"
#include "moec/Transforms/Compress/Rewrite.h"

#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_KEEPEXPERTS
#include "moec/Transforms/Compress/Passes.h.inc"

namespace {

using compress::problem;

// The ids of one layer: {"keep": [ids]}, rising and unique.
llvm::Expected<SmallVector<int64_t>> idsOf(const llvm::json::Value &entry, int64_t experts) {
  const llvm::json::Object *object = entry.getAsObject();
  const llvm::json::Array *list = object ? object->getArray("keep") : nullptr;
  if (!list || object->size() != 1)
    return problem("wants {\"keep\": [ids]} and nothing else");
  SmallVector<int64_t> ids;
  for (const llvm::json::Value &value : *list) {
    std::optional<int64_t> id = value.getAsInteger();
    if (!id || *id < 0 || *id >= experts)
      return problem("keep: not one of its " + llvm::Twine(experts) + " experts");
    ids.push_back(*id);
  }
  llvm::sort(ids);
  if (std::adjacent_find(ids.begin(), ids.end()) != ids.end())
    return problem("keep: an expert is listed twice");
  return ids;
}

struct KeepExperts : impl::KeepExpertsBase<KeepExperts> {
  using KeepExpertsBase::KeepExpertsBase;

  void runOnOperation() override {
    if (llvm::Error error = run()) {
      if (std::string text = llvm::toString(std::move(error)); !text.empty())
        getOperation().emitError("keep-experts: " + text);
      signalPassFailure();
    }
  }

private:
  llvm::Error run() {
    if (masks.empty())
      return problem("needs masks: a file of the experts to keep");
    auto buffer = llvm::MemoryBuffer::getFile(masks);
    if (!buffer)
      return problem(masks + ": " + buffer.getError().message());
    auto file = llvm::json::parse((*buffer)->getBuffer());
    if (!file)
      return problem(masks + ": " + llvm::toString(file.takeError()));
    const llvm::json::Object *root = file->getAsObject();
    const llvm::json::Object *layers = root ? root->getObject("layers") : nullptr;
    if (!layers)
      return problem(masks + ": not an object {\"layers\": {NAME: {\"keep\": [ids]}}}");
    size_t used = 0;
    for (moe::RoutedLayer &layer : moe::collectRoutedLayers(getOperation()))
      if (const llvm::json::Value *entry = layers->get(layer.name)) {
        ++used;
        if (llvm::Error error = keep(layer, *entry))
          return error;
      }
    if (used != layers->size())
      return problem(masks + ": names a layer that the model does not have");
    return llvm::Error::success();
  }

  llvm::Error keep(moe::RoutedLayer &layer, const llvm::json::Value &entry) {
    layer.bank = moe::findBank(layer.experts, layer.experts.getBank()); // another one may share it
    const int64_t experts = layer.bank.getExperts();
    auto ids = idsOf(entry, experts);
    if (!ids)
      return problem(masks + ": layer " + layer.name + ": " + llvm::toString(ids.takeError()));
    const int64_t dropped = experts - int64_t(ids->size());
    if (dropped == 0)
      return llvm::Error::success();
    if (remarks)
      layer.experts.emitRemark() << "keep-experts: layer '" << layer.name << "': " << dropped
                                 << " of " << experts << " experts go";
    if (failed(keepExperts(layer, *ids)))
      return problem(""); // diagnosed
    ++numLayers;
    numDropped += unsigned(dropped);
    return llvm::Error::success();
  }
};

} // namespace
} // namespace moec
