#include "Compressor.h"

#include "Compile.h"
#include "Executors.h"
#include "Files.h"
#include "Profiling.h"
#include "WeightSizes.h"

#include "moec/Dialect/MoE/RoutedLayers.h"
#include "moec/Transforms/Compress/WeightHash.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SHA256.h"
#include "llvm/Support/raw_ostream.h"

#include <set>

using namespace moec;
using llvm::StringRef;
using nlohmann::json;

std::string moec::digest(StringRef text) {
  llvm::SHA256 hash;
  hash.update(text);
  return llvm::toHex(hash.final(), /*LowerCase=*/true).substr(0, 24);
}

namespace {

std::string windowsKey(const TextWindows &windows) {
  return llvm::formatv("{0}x{1}+{2}", windows.window, windows.windows, windows.first);
}

std::string textsKey(llvm::ArrayRef<LabelledText> texts) {
  llvm::SHA256 hash;
  for (const LabelledText &text : texts) {
    hash.update(text.label);
    hash.update(StringRef(reinterpret_cast<const char *>(text.ids.data()),
                          text.ids.size() * sizeof(int64_t)));
  }
  return llvm::toHex(hash.final(), true).substr(0, 16);
}

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

// Tells models apart: the IR, and the sizes and times of the files that its weights are in.
std::string keyOf(mlir::ModuleOp module, StringRef folder) {
  std::string text;
  llvm::raw_string_ostream os(text);
  module->print(os);
  std::set<std::string> files;
  module.walk([&](moe::WeightLoadOp load) { files.insert(load.getFile().str()); });
  for (const std::string &name : files) {
    llvm::sys::fs::file_status status;
    if (!llvm::sys::fs::status(folder + "/" + name, status))
      os << name << status.getSize() << status.getLastModificationTime().time_since_epoch().count();
  }
  return digest(text);
}

json lossToJson(const Loss &loss) {
  return {{"windows", loss.windows}, {"tokens", loss.tokens}, {"nll", loss.nll},
          {"kl", loss.kl},           {"kl_tokens", loss.klTokens}, {"seconds", loss.seconds}};
}

Compressor::Result resultOf(const json &value) {
  Compressor::Result result;
  for (const auto &[label, loss] : value.at("labels").items())
    result.quality.labels[label] = {loss.at("windows"), loss.at("tokens"), loss.at("nll"),
                                    loss.at("kl"),      loss.at("kl_tokens"), loss.at("seconds")};
  result.sizes = {value.at("weight_bytes"), value.at("expert_bytes")};
  result.remarks = value.at("remarks");
  return result;
}

json toJson(const Compressor::Result &result) {
  json labels;
  for (const auto &[label, loss] : result.quality.labels)
    labels[label] = lossToJson(loss);
  return {{"labels", labels},
          {"weight_bytes", result.sizes.weights},
          {"expert_bytes", result.sizes.experts},
          {"remarks", result.remarks}};
}

} // namespace

double Compressor::Result::tokensPerSecond() const {
  Loss all = quality.overall();
  return all.seconds > 0 ? double(all.tokens) / all.seconds : 0;
}

std::string Compressor::file(StringRef name) const { return given.work + "/" + name.str(); }

std::string Compressor::dataKey(Data data) const {
  const bool search = data == Data::search;
  return textsKey(search ? given.calibration : given.evaluation) + " " +
         windowsKey(search ? given.searchWindows : given.evaluationWindows);
}

llvm::Expected<Compressor> Compressor::create(CompressSetup setup, Progress &progress) {
  Compressor self(std::move(setup));
  if (llvm::Error error = self.prepareModel(progress))
    return error;
  if (llvm::Error error = self.loadJournal())
    return error;
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
    rooms.push_back({layer.name, int64_t(bank.getExperts()), layer.k(),
                     bytes / uint64_t(std::max<int64_t>(bank.getNumSlabs(), 1))});
  }
  if (rooms.empty())
    return fail(Exit::input, given.model + ": has no routed MoE layer to compress (`moec inspect` "
                                           "says what was found)");
  if (given.reservoir == 0)
    given.reservoir = reservoirFor((*model)->module(), int64_t(given.calibration.size()));
  sizes = sizesOf(**model);
  modelKey = keyOf((*model)->module(), given.folder) + " " MOEC_VERSION;
  std::string text;
  llvm::raw_string_ostream os(text);
  (*model)->module()->print(os, mlir::OpPrintingFlags().enableDebugInfo());
  if (llvm::Error error = writeFile(file("model.mlir"), text))
    return error;
  progress.end(llvm::formatv("{0} routed layers", rooms.size()));
  return llvm::Error::success();
}

Sizes Compressor::sizesOf(const Model &model) {
  return {storedBytes(model.module(), false), storedBytes(model.module(), true)};
}

// --- the journal: one JSON object a line ---------------------------------------------------------

llvm::Error Compressor::loadJournal() {
  auto buffer = llvm::MemoryBuffer::getFile(file("journal.jsonl"));
  if (!buffer)
    return llvm::Error::success(); // the first run
  llvm::SmallVector<StringRef> lines;
  (*buffer)->getBuffer().split(lines, '\n', -1, false);
  for (StringRef line : lines) {
    json entry = json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
    if (entry.is_object() && entry.contains("key") && entry.contains("value"))
      journal[entry["key"]] = entry["value"]; // the last line may have been cut
  }
  return llvm::Error::success();
}

llvm::Error Compressor::write(const std::string &key, const json &value) {
  journal[key] = value;
  std::error_code code;
  llvm::raw_fd_ostream os(file("journal.jsonl"), code, llvm::sys::fs::OF_Append);
  if (code)
    return fail(Exit::resource, file("journal.jsonl") + ": cannot write: " + code.message());
  os << json{{"key", key}, {"value", value}}.dump() << "\n";
  return llvm::Error::success();
}

std::string Compressor::keyFor(const std::string &what) const {
  return digest(what + "|" + dataKey(Data::search) + "|" + modelKey);
}

const json *Compressor::recall(const std::string &what) const {
  auto it = journal.find(keyFor(what));
  return it == journal.end() ? nullptr : &it->second;
}

llvm::Error Compressor::remember(const std::string &what, const json &value) {
  return write(keyFor(what), value);
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
  auto executor = open(**model);
  if (!executor)
    return executor.takeError();
  original = std::move(*executor);
  return llvm::Error::success();
}

// --- profiles ------------------------------------------------------------------------------------

llvm::Error Compressor::profileTo(Model &model, StringRef path, int tier, int64_t reservoir,
                                  Progress &progress) {
  DataOptions data;
  data.window = given.calibrationWindows.window;
  data.windows = given.calibrationWindows.windows;
  auto dataset = Dataset::open(given.calibrationPaths, data);
  if (!dataset)
    return dataset.takeError();
  ProfileOptions options;
  options.tier = tier;
  options.reservoir = reservoir;
  options.threads = given.threads;
  auto made = profileModel(model, *dataset, options, progress);
  if (!made)
    return made.takeError();
  return writeProfile(*made, path);
}

llvm::Error Compressor::prepareProfile(Progress &progress) {
  profilePath = given.profile;
  if (profilePath.empty()) {
    profilePath = file("profile.moep");
    std::string key = digest("profile|" + textsKey(given.calibration) + "|" +
                             windowsKey(given.calibrationWindows) + "|" + modelKey + "|" +
                             std::to_string(given.tier) + "|" + std::to_string(given.reservoir));
    if (!journal.count(key) || !llvm::sys::fs::exists(profilePath)) {
      auto model = build(Recipe());
      if (!model)
        return model.takeError();
      if (llvm::Error error =
              profileTo(**model, profilePath, given.tier, given.reservoir, progress))
        return error;
      if (llvm::Error error = write(key, "made"))
        return error;
    }
  }
  auto read = readProfile(profilePath, "");
  if (!read)
    return fail(Exit::input, llvm::toString(read.takeError()));
  stats = std::move(*read);
  for (const LayerRoom &room : rooms) {
    const LayerProfile *layer = stats.layer(room.name);
    if (!layer || layer->experts != room.experts)
      return fail(Exit::input, profilePath + ": a profile of another model: " +
                                   (layer ? "layer " + room.name + " has other experts"
                                          : "no layer " + room.name));
  }
  if (given.profile.empty())
    return llvm::Error::success();
  auto model = build(Recipe());
  if (!model)
    return model.takeError();
  if (llvm::Error error = checkWeights((*model)->module(), stats, given.folder))
    return fail(Exit::input, profilePath + ": " + llvm::toString(std::move(error)));
  return llvm::Error::success();
}

llvm::Expected<Profile> Compressor::routing(const Recipe &recipe) {
  std::string path = file("routing-" + digest(recipe.key() + "|" + textsKey(given.calibration) +
                                              windowsKey(given.calibrationWindows) + "|" +
                                              modelKey) + ".moep");
  if (!llvm::sys::fs::exists(path)) {
    auto model = build(recipe);
    if (!model)
      return model.takeError();
    Progress silent(ProgressMode::none, 100);
    if (llvm::Error error = profileTo(**model, path, 0, 0, silent))
      return error;
  }
  auto read = readProfile(path, "");
  if (!read)
    return fail(Exit::input, llvm::toString(read.takeError()));
  return read;
}

// Layer by layer: what a layer gets to read depends on the repairs of those before it.
llvm::Error Compressor::repairLayers(Model &model, const Recipe &recipe) {
  Progress silent(ProgressMode::none, 100);
  std::string current = file("current.moep");
  for (size_t i = 0; i < rooms.size(); ++i) {
    if (i > 0) {
      auto copy = model.clone();
      if (llvm::Error error = profileTo(*copy, current, 1, given.reservoir, silent))
        return error;
    }
    std::string pipeline =
        repairPipeline(recipe, int64_t(i), profilePath, i > 0 ? current : "", given.folder);
    if (llvm::Error error = model.runPipeline(pipeline))
      return error;
  }
  return llvm::Error::success();
}

// --- recipes -------------------------------------------------------------------------------------

llvm::Expected<std::unique_ptr<Model>> Compressor::build(const Recipe &recipe) {
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
  return model;
}

llvm::Expected<std::unique_ptr<Executor>> Compressor::open(Model &model) {
  if (llvm::Error error = model.finish(2))
    return error;
  OpenOptions options;
  options.threads = given.threads;
  Progress silent(ProgressMode::none, compileStages);
  return compileAndOpen(model, options, silent);
}

llvm::Expected<Compressor::Result> Compressor::measure(const Recipe &recipe, Data data, bool kl) {
  std::string key = digest(recipe.key() + "|" + dataKey(data) + "|" + modelKey + "|" +
                           (kl ? "kl" : ""));
  if (auto it = journal.find(key); it != journal.end())
    return resultOf(it->second);
  auto model = build(recipe);
  if (!model)
    return model.takeError();
  Result result;
  result.sizes = sizesOf(**model);
  for (const Message &message : (*model)->remarks())
    result.remarks.push_back(message.line(""));
  auto executor = open(**model);
  if (!executor)
    return executor.takeError();
  auto text = TextModel::create(**executor);
  if (!text)
    return text.takeError();
  std::optional<TextModel> reference;
  if (kl) {
    if (llvm::Error error = openOriginal())
      return error;
    auto created = TextModel::create(*original);
    if (!created)
      return created.takeError();
    reference.emplace(std::move(*created));
  }
  const bool search = data == Data::search;
  for (const LabelledText &given : search ? this->given.calibration : this->given.evaluation) {
    auto loss = scoreText(*text, given.ids,
                          search ? this->given.searchWindows : this->given.evaluationWindows,
                          given.label, reference ? &*reference : nullptr);
    if (!loss)
      return loss.takeError();
    result.quality.labels[given.label] = *loss;
  }
  if (llvm::Error error = write(key, toJson(result)))
    return error;
  return result;
}
