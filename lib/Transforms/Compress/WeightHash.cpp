#include "moec/Transforms/Compress/WeightHash.h"

#include "RewriteBank.h"
#include "moec/Analysis/Statistics.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/xxhash.h"

using namespace moec;
using llvm::StringRef;

llvm::Expected<std::string> moec::weightHash(moe::BankOp bank, WeightEvaluator &weights) {
  constexpr int64_t kSample = 4096; // bytes
  std::vector<uint64_t> parts;
  llvm::SmallVector<char> bytes;
  for (StringRef name : compress::parameterNames(bank)) {
    auto type = weights.type(name);
    if (!type)
      return type.takeError();
    int64_t slabs = type->getRank() ? type->getDimSize(0) : 1;
    int64_t slab = slabs ? type->getNumElements() / slabs : 0;
    int64_t count = std::min(slab, kSample / elementBytes(type->getElementType()));
    for (int64_t i = 0; i < slabs; ++i) {
      if (llvm::Error error = weights.elements(name, i * slab, count, bytes))
        return error;
      parts.push_back(llvm::xxh3_64bits(StringRef(bytes.data(), bytes.size())));
    }
  }
  StringRef all(reinterpret_cast<const char *>(parts.data()), parts.size() * sizeof(uint64_t));
  return llvm::formatv("{0:x-16}", llvm::xxh3_64bits(all)).str();
}

static std::optional<StringRef> noteOf(moe::BankOp bank) {
  auto note = bank->getAttrOfType<mlir::StringAttr>(kWeightHash);
  return note ? std::optional(note.getValue()) : std::nullopt;
}

void moec::noteChange(moe::BankOp bank) {
  if (!noteOf(bank))
    bank->setAttr(kWeightHash, mlir::StringAttr::get(bank.getContext(), ""));
}

static llvm::Error inLayer(const moe::RoutedLayer &layer, const llvm::Twine &text) {
  return llvm::createStringError("layer '" + layer.name + "': " + text);
}

static llvm::Expected<std::string> hashOf(const moe::RoutedLayer &layer, WeightEvaluator &weights) {
  auto hash = weightHash(layer.bank, weights);
  if (!hash)
    return inLayer(layer, "its weights cannot be compared with a profile's: " +
                              llvm::toString(hash.takeError()) + "; give the weights' folder");
  return hash;
}

static llvm::Error leaveNote(const moe::RoutedLayer &layer, WeightEvaluator &weights) {
  moe::BankOp bank = layer.bank;
  if (noteOf(bank))
    return llvm::Error::success();
  auto hash = hashOf(layer, weights);
  if (!hash)
    return hash.takeError();
  bank->setAttr(kWeightHash, mlir::StringAttr::get(bank.getContext(), *hash));
  return llvm::Error::success();
}

llvm::Error moec::noteWeights(mlir::ModuleOp module, StringRef folder) {
  WeightEvaluator weights(module, folder);
  for (const moe::RoutedLayer &layer : moe::collectRoutedLayers(module))
    if (llvm::Error error = leaveNote(layer, weights))
      return error;
  return llvm::Error::success();
}

static llvm::Error compare(const moe::RoutedLayer &layer, StringRef profiled, StringRef hash) {
  if (profiled == hash)
    return llvm::Error::success();
  return inLayer(layer, "a profile of another model: weights of hash " + profiled +
                            ", the model's have " + hash + "; profile this model");
}

llvm::Error moec::checkWeights(mlir::ModuleOp module, const Profile &profile, StringRef folder) {
  WeightEvaluator weights(module, folder);
  for (moe::RoutedLayer &layer : moe::collectRoutedLayers(module)) {
    const LayerProfile *measured = profile.layer(layer.name);
    if (!measured || measured->weightHash.empty())
      continue;
    if (llvm::Error error = leaveNote(layer, weights))
      return error;
    StringRef hash = *noteOf(layer.bank);
    if (hash.empty() || hash == measured->weightHash)
      continue;
    auto now = hashOf(layer, weights);
    if (!now)
      return now.takeError();
    if (*now != measured->weightHash)
      return compare(layer, measured->weightHash, hash);
  }
  return llvm::Error::success();
}

llvm::Error moec::checkWeights(mlir::ModuleOp module, const Profile &original,
                               const Profile &current, StringRef folder) {
  WeightEvaluator weights(module, folder);
  for (moe::RoutedLayer &layer : moe::collectRoutedLayers(module)) {
    std::optional<StringRef> note = noteOf(layer.bank);
    const LayerProfile *measured = (note ? original : current).layer(layer.name);
    if (!measured || measured->weightHash.empty() || (note && note->empty()))
      continue;
    auto hash = note ? llvm::Expected<std::string>(note->str()) : hashOf(layer, weights);
    if (!hash)
      return hash.takeError();
    if (llvm::Error error = compare(layer, measured->weightHash, *hash))
      return error;
  }
  return llvm::Error::success();
}

llvm::Expected<Profile> moec::readProfileOf(mlir::ModuleOp module, StringRef path,
                                            StringRef folder) {
  auto profile = readProfile(path, "");
  if (!profile)
    return profile;
  if (llvm::Error error = checkWeights(module, *profile, folder))
    return std::move(error);
  for (const moe::RoutedLayer &layer : moe::collectRoutedLayers(module))
    selectKept(layer, *profile);
  return profile;
}

void moec::selectKept(const moe::RoutedLayer &layer, Profile &profile) {
  moe::BankOp bank = layer.bank;
  auto origin = bank->getAttrOfType<mlir::DenseI64ArrayAttr>(kOrigin);
  auto measured =
      llvm::find_if(profile.layers, [&](const LayerProfile &l) { return l.name == layer.name; });
  if (!origin || measured == profile.layers.end() ||
      origin.size() != static_cast<int64_t>(bank.getExperts()) ||
      measured->experts <= origin.size())
    return;
  llvm::SmallVector<int64_t> ids(origin.asArrayRef());
  llvm::sort(ids);
  bool distinct = std::adjacent_find(ids.begin(), ids.end()) == ids.end();
  if (distinct && ids.front() >= 0 && ids.back() < measured->experts)
    *measured = selectExperts(*measured, origin.asArrayRef());
}
