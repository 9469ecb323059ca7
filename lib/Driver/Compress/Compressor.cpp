#include "Compressor.h"

#include "../Compile.h"
#include "../Executors.h"
#include "../Files.h"
#include "../PreLogits.h"
#include "../WeightSizes.h"

#include "moec/Dialect/MoE/RoutedLayers.h"
#include "moec/Transforms/Compress/LayerCosine.h"
#include "moec/Transforms/Compress/Rewrite.h"
#include "moec/Transforms/Compress/WeightHash.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SHA256.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>
#include <set>

using namespace moec;
using llvm::StringRef;
using nlohmann::json;

std::string moec::digest(StringRef text) {
  llvm::SHA256 hash;
  hash.update(text);
  return llvm::toHex(hash.final(), /*LowerCase=*/true).substr(0, 24);
}

std::string moec::stampOf(const llvm::Twine &file) {
  llvm::sys::fs::file_status status;
  if (llvm::sys::fs::status(file, status))
    return "";
  return std::to_string(status.getSize()) +
         std::to_string(status.getLastModificationTime().time_since_epoch().count());
}

namespace {

// Tokens of each label that a profile can keep within 512 MiB.
int64_t reservoirFor(mlir::ModuleOp module, int64_t labels) {
  int64_t bytes = 0;
  for (const moe::RoutedLayer &layer : moe::collectRoutedLayers(module)) {
    moe::BankOp bank = layer.bank;
    bytes += 4 * int64_t(2 * bank.getHidden() + bank.getExperts() + 2 * layer.k() + 4);
  }
  int64_t most = (int64_t(512) << 20) / std::max<int64_t>(bytes * labels, 1);
  return std::clamp<int64_t>(most, 256, 16384);
}

// Tells models apart: the IR, and the files that its weights are in.
std::string keyOf(mlir::ModuleOp module, StringRef folder) {
  std::string text;
  llvm::raw_string_ostream os(text);
  module->print(os);
  std::set<std::string> files;
  module.walk([&](moe::WeightLoadOp load) { files.insert(load.getFile().str()); });
  for (const std::string &name : files)
    os << name << stampOf(folder + "/" + name);
  return digest(text);
}

// Experts that share a slab are one; those without weights are none.
LayerShape shapeOf(moe::BankOp bank) {
  LayerShape shape;
  std::set<std::tuple<int64_t, int64_t, int64_t>> seen;
  for (int64_t e = 0; e < int64_t(bank.getExperts()); ++e) {
    bool region = !bank.getBody();
    auto own = std::tuple(region ? bank.getKind(e) : 0, bank.getSlab(e), bank.getWidth(e));
    if (bank.getExpertStorage(e) != "dense" || !seen.insert(own).second)
      continue;
    ++shape.experts;
    shape.neurons += bank.getWidth(e);
  }
  if (auto origin = bank->getAttrOfType<mlir::DenseI64ArrayAttr>(kOrigin))
    shape.origin = origin.asArrayRef();
  return shape;
}

std::vector<LayerShape> shapesOf(const Model &model) {
  std::vector<LayerShape> shapes;
  for (const moe::RoutedLayer &layer : moe::collectRoutedLayers(model.module()))
    shapes.push_back(shapeOf(layer.bank));
  return shapes;
}

} // namespace

double Compressor::Result::tokensPerSecond() const {
  Loss all = quality.overall();
  return all.seconds > 0 ? double(all.tokens) / all.seconds : 0;
}

std::string Compressor::file(StringRef name) const { return given.work + "/" + name.str(); }

double Compressor::tokensOf(const DataRun &run) const {
  if (run.tokens)
    return double(run.tokens);
  const LayerProfile &layer = stats.layers.front();
  auto tokens = layer.total(stat::tokens), sequences = layer.total(stat::sequences);
  double each = !tokens.empty() && !sequences.empty() && sequences[0] > 0
                    ? tokens[0] / sequences[0] : 1;
  return std::max(each, 1.0) * double(run.sequences);
}

llvm::Expected<Compressor> Compressor::create(CompressSetup setup, Progress &progress) {
  Compressor self(std::move(setup));
  if (llvm::Error error = self.prepareModel(progress))
    return error;
  self.journal.load(self.file("journal.jsonl"));
  if (llvm::Error error = self.prepareProfile(progress))
    return error;
  return self;
}

// The raised model is kept as IR: every recipe starts from it.
llvm::Error Compressor::prepareModel(Progress &progress) {
  progress.begin("import and raise");
  auto model = Model::load(given.model, given.folder);
  if (!model)
    return model.takeError();
  given.folder = (*model)->folder();
  if (llvm::Error error = (*model)->raise(1, given.moeSemantics))
    return error;
  if (llvm::Error error = noteWeights((*model)->module(), given.folder)) // once, not by each recipe
    return fail(Exit::input, given.model + ": " + llvm::toString(std::move(error)));
  for (const moe::RoutedLayer &layer : moe::collectRoutedLayers((*model)->module())) {
    moe::BankOp bank = layer.bank;
    uint64_t bytes = storedBytes(bank);
    rooms.push_back({layer.name, int64_t(bank.getExperts()), layer.k(), layer.fewestExperts(),
                     bytes / uint64_t(std::max<int64_t>(bank.getNumSlabs(), 1)),
                     shapeOf(bank).neurons});
  }
  if (rooms.empty())
    return fail(Exit::input, given.model + ": has no routed MoE layer to compress (`moec inspect` "
                                           "says what was found)");
  if (llvm::Error error = prepareData(**model))
    return error;
  if (given.reservoir == 0)
    given.reservoir = reservoirFor((*model)->module(), int64_t(profiled.labels().size()));
  sizes = sizesOf(**model);
  shapes = shapesOf(**model);
  modelKey = ::keyOf((*model)->module(), given.folder) + " " MOEC_VERSION " 3"; // and of the journal
  std::string text;
  llvm::raw_string_ostream os(text);
  (*model)->module()->print(os, mlir::OpPrintingFlags().enableDebugInfo());
  if (llvm::Error error = writeFile(file("model.mlir"), text))
    return error;
  progress.end(llvm::formatv("{0} routed layers", rooms.size()));
  return llvm::Error::success();
}

// Whether the model takes the data is known before anything has been compiled.
llvm::Error Compressor::prepareData(const Model &model) {
  auto signature = model.signature();
  if (!signature)
    return signature.takeError();
  auto prepare = [&](Dataset &to, const auto &files, const DataOptions &options,
                     llvm::StringRef flag) -> llvm::Error {
    auto made = Dataset::over(files, options);
    if (!made)
      return made.takeError();
    to = std::move(*made);
    return llvm::handleErrors(to.bind(*signature), [&](std::unique_ptr<CommandError> e) {
      if (e->code != Exit::usage) // else of another flag
        e->text = (flag + ": " + e->text).str();
      return llvm::Error(std::move(e));
    });
  };
  if (llvm::Error error = prepare(profiled, given.calibration, given.profileData, "--data"))
    return error;
  if (llvm::Error error = prepare(search, given.calibration, given.searchData, "--data"))
    return error;
  return prepare(evaluation, given.evaluation, given.evaluationData, "--eval");
}

Sizes Compressor::sizesOf(const Model &model) {
  return {storedBytes(model.module(), false), storedBytes(model.module(), true)};
}

std::string Compressor::keyFor(const std::string &what) const {
  return digest(what + "|" + search.key() + "|" + modelKey + "|" + given.measure->name().str());
}

// What a recipe's model depends on, all but the model itself.
std::string Compressor::keyOf(const Recipe &recipe) const {
  return recipe.key() + "|" + (recipe.method.empty() ? "" : profileKey);
}

const json *Compressor::recall(const std::string &what) const {
  return journal.find(keyFor(what));
}

llvm::Error Compressor::remember(const std::string &what, const json &value) {
  return journal.add(keyFor(what), value);
}

llvm::Expected<std::unique_ptr<CompiledModel>> Compressor::openWithHooks() {
  auto model = build(Recipe());
  if (!model)
    return model.takeError();
  if (llvm::Error error = (*model)->finish(2))
    return error;
  if (llvm::Error error = addRoutingHooks(**model))
    return error;
  OpenOptions options;
  options.threads = given.threads;
  Progress silent(ProgressMode::none, compileStages);
  return compileAndOpen(**model, options, silent);
}

llvm::Error Compressor::openOriginal() {
  if (original)
    return llvm::Error::success();
  auto model = build(Recipe());
  if (!model)
    return model.takeError();
  auto executor = open(**model, given.measure->readsLogits());
  if (!executor)
    return executor.takeError();
  original = std::move(*executor);
  return llvm::Error::success();
}

llvm::Expected<std::unique_ptr<Model>> Compressor::build(const Recipe &recipe) {
  if (built && builtKey == keyOf(recipe))
    return built->clone(/*remarks=*/true);
  auto model = Model::load(file("model.mlir"), given.folder);
  if (!model || recipe.method.empty())
    return model;
  llvm::SmallVector<int64_t> experts;
  for (const LayerRoom &room : rooms)
    experts.push_back(room.experts);
  std::string pipeline = pipelineOf(recipe, experts, profilePath, given.folder);
  if (llvm::Error error = (*model)->runPipeline(pipeline))
    return error;
  if (recipe.repair == Repair::sequential)
    if (llvm::Error error = repairLayers(**model, recipe))
      return error;
  if (recipe.repair != Repair::none) {
    built = (*model)->clone(/*remarks=*/true);
    builtKey = keyOf(recipe);
  }
  return model;
}

// `tapped`: its pre-logits are an output, too.
llvm::Expected<std::unique_ptr<Executor>> Compressor::open(Model &model, bool tapped) {
  if (tapped)
    tapPreLogits(model.module(), evaluation.firstOutput());
  if (llvm::Error error = model.finish(2))
    return error;
  OpenOptions options;
  options.threads = given.threads;
  Progress silent(ProgressMode::none, compileStages);
  return compileAndOpen(model, options, silent);
}

llvm::Expected<Compressor::Result> Compressor::measure(const Recipe &recipe, Data which,
                                                       bool compare) {
  compare |= given.measure->needsOriginal();
  std::string key = digest(keyOf(recipe) + "|" + data(which).key() + "|" + modelKey + "|" +
                           (compare ? given.measure->name().str() : ""));
  if (const json *value = journal.find(key)) {
    Result known = resultOf(*value);
    known.quality.measure = given.measure;
    return known;
  }
  if (compare || recipe.method.empty())
    if (llvm::Error error = openOriginal())
      return error;
  Original *reference = nullptr;
  if (compare)
    reference = &originals.try_emplace(which, *original, *given.measure).first->second;
  auto model = build(recipe);
  if (!model)
    return model.takeError();
  Result result;
  result.sizes = sizesOf(**model);
  result.layers = shapesOf(**model);
  for (const Message &message : (*model)->remarks())
    result.remarks.push_back(message.line(""));
  if (compare && which == Data::evaluation) {
    auto cosines = layerCosines((*model)->module(), profilePath, given.folder);
    if (!cosines)
      return fail(Exit::input, profilePath + ": " + llvm::toString(cosines.takeError()));
    result.cosines = std::move(*cosines);
  }
  const bool ranked = given.measure->readsLogits() && which == Data::evaluation &&
                      (compare || recipe.method.empty());
  std::unique_ptr<Executor> executor;
  if (!recipe.method.empty()) {
    auto opened = open(**model, ranked);
    if (!opened)
      return opened.takeError();
    executor = std::move(*opened);
  }
  auto quality = scoreModel(executor ? *executor : *original, data(which), *given.measure, reference,
                            ranked ? &result.preLogitRank : nullptr);
  if (!quality)
    return quality.takeError();
  result.quality = std::move(*quality);
  if (recipe.method.empty())
    for (const auto &[label, loss] : result.quality.labels)
      if (!std::isfinite(given.measure->loss(loss).value()))
        return fail(Exit::input, given.model + ": the outputs of \"" + label +
                                     "\" are not finite: nothing can be compared with them");
  if (llvm::Error error = journal.add(key, toJson(result)))
    return error;
  return result;
}

std::string Compressor::leftWhole(const Recipe &recipe, const Result &result) const {
  for (auto [room, before, after, keep] : llvm::zip(rooms, shapes, result.layers, recipe.keep)) {
    bool fewer = after.experts < before.experts || after.neurons < before.neurons;
    if (fewer || keep >= room.experts || !after.origin.empty())
      continue;
    std::string text = "unsupported: it leaves layer " + room.name + " as it is";
    for (const std::string &remark : result.remarks)
      if (auto at = remark.find(room.name + ": left: "); at != std::string::npos)
        return text + ":" + remark.substr(at + room.name.size() + 7);
    return text;
  }
  return "";
}

llvm::Expected<std::optional<Compressor::Result>>
Compressor::measureSupported(const Recipe &recipe, Data which, std::string &why) {
  auto result = measure(recipe, which);
  if (result)
    return std::move(*result);
  if (takeUnsupported(result, why))
    return std::nullopt;
  return result.takeError();
}
