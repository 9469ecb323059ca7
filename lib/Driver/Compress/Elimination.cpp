#include "Elimination.h"

#include "../Executors.h"
#include "../Files.h"

#include "moert/moert.h"

#include "llvm/Support/FormatVariadic.h"

#include <cmath>

using namespace moec;

namespace {

constexpr int64_t mostReference = int64_t(256) << 20; // bytes of the original's outputs

// The first `most` runs of each text, or of the arrays, whose label counts.
llvm::Expected<std::vector<DataRun>> runsOf(const Compressor &compressor, int64_t most,
                                            llvm::StringRef labels) {
  const Dataset &data = compressor.data(Compressor::Data::search);
  std::vector<DataRun> runs;
  std::map<int64_t, int64_t> taken;
  for (int64_t i = 0; i < data.runs(); ++i) {
    if (++taken[data.part(i)] > most)
      continue;
    auto run = data.run(i);
    if (!run)
      return run.takeError();
    if (labelWeight(labels, run->label) > 0)
      runs.push_back(std::move(*run));
  }
  return runs;
}

// A model with routing hooks and what the original gives on some runs.
class MaskedModel {
public:
  /// The first `runs` runs of each text, or of the arrays, whose label counts.
  static llvm::Expected<MaskedModel> open(Compressor &compressor, int64_t runs,
                                          llvm::StringRef labels);
  /// The measure's distance from the original when layer i keeps the experts of keep[i].
  llvm::Expected<double> distance(llvm::ArrayRef<std::vector<uint8_t>> keep);

private:
  // A run, and every step-th row of its outputs.
  struct Part {
    DataRun run;
    std::vector<OutputRows> original;
  };
  bool hasHook(llvm::StringRef layer) const;
  llvm::Expected<std::vector<OutputRows>> rowsOf(const DataRun &run);
  llvm::Error remember();
  llvm::Error setMasks(llvm::ArrayRef<std::vector<uint8_t>> keep);

  Compressor *compressor = nullptr;
  std::unique_ptr<CompiledModel> model;
  std::vector<Part> parts;
  int64_t step = 0; // every step-th row counts; 0: not known yet
};

llvm::Expected<MaskedModel> MaskedModel::open(Compressor &compressor, int64_t runs,
                                              llvm::StringRef labels) {
  MaskedModel self;
  self.compressor = &compressor;
  auto opened = compressor.openWithHooks();
  if (!opened)
    return opened.takeError();
  self.model = std::move(*opened);
  for (const LayerRoom &room : compressor.layers())
    if (!self.hasHook(room.name))
      return fail(Exit::unsupported, "layer " + room.name + ": unsupported: its routing cannot be "
                                     "changed while it runs, so its experts cannot be masked");
  auto chosen = runsOf(compressor, runs, labels);
  if (!chosen)
    return chosen.takeError();
  for (DataRun &run : *chosen)
    self.parts.push_back({std::move(run), {}});
  if (self.parts.empty())
    return fail(Exit::input, "the calibration data has nothing left to measure experts on");
  if (llvm::Error error = self.remember())
    return error;
  return self;
}

bool MaskedModel::hasHook(llvm::StringRef layer) const {
  for (size_t i = 0; const moert_hook_info *hook = model->hook(i); ++i)
    if (layer == hook->layer)
      return true;
  return false;
}

llvm::Expected<std::vector<OutputRows>> MaskedModel::rowsOf(const DataRun &run) {
  auto outputs = outputsOf(*model, run);
  if (!outputs)
    return outputs.takeError();
  if (step == 0) {
    size_t bytes = 0;
    for (const OutputRows &output : *outputs)
      bytes += output.values.size() * sizeof(float) * parts.size();
    step = std::max<int64_t>(1, (int64_t(bytes) + mostReference - 1) / mostReference);
  }
  if (step > 1)
    for (OutputRows &output : *outputs)
      output.thin(std::min(step, std::max<int64_t>(output.rows(), 1)));
  return outputs;
}

llvm::Error MaskedModel::remember() {
  for (Part &part : parts) {
    auto rows = rowsOf(part.run);
    if (!rows)
      return rows.takeError();
    if (llvm::Error error = prepareOutputs(compressor->measure(), part.run, *rows))
      return error;
    part.original = std::move(*rows);
  }
  return llvm::Error::success();
}

llvm::Error MaskedModel::setMasks(llvm::ArrayRef<std::vector<uint8_t>> keep) {
  for (auto [room, mask] : llvm::zip(compressor->layers(), keep)) {
    moert_routing routing = {nullptr, nullptr, mask.data()};
    moert_error error;
    if (moert_session_set_routing(model->handle(), room.name.c_str(), &routing, mask.size(), &error))
      return fail(Exit(error.status), error.message);
  }
  return llvm::Error::success();
}

llvm::Expected<double> MaskedModel::distance(llvm::ArrayRef<std::vector<uint8_t>> keep) {
  if (llvm::Error error = setMasks(keep))
    return error;
  Loss sums;
  for (const Part &part : parts) {
    auto rows = rowsOf(part.run);
    if (!rows)
      return rows.takeError();
    if (llvm::Error error = compareOutputs(sums, compressor->measure(), *rows, part.original))
      return error;
    sums.tokens += part.run.sequences;
  }
  return compressor->measure().distance(sums).value();
}

struct Expert {
  size_t layer;
  int64_t id;
  double distance;
};

// Every expert that may go, with the distance when it goes too.
llvm::Expected<std::vector<Expert>> measureEach(MaskedModel &model,
                                                std::vector<std::vector<uint8_t>> &keep,
                                                llvm::ArrayRef<int64_t> room,
                                                llvm::function_ref<void()> next) {
  std::vector<Expert> experts;
  for (size_t layer = 0; layer < keep.size(); ++layer) {
    if (room[layer] <= 0)
      continue;
    for (size_t id = 0; id < keep[layer].size(); ++id) {
      if (!keep[layer][id])
        continue;
      keep[layer][id] = 0;
      next();
      auto value = model.distance(keep);
      keep[layer][id] = 1;
      if (!value)
        return value.takeError();
      experts.push_back({layer, int64_t(id), *value});
    }
  }
  llvm::stable_sort(experts, [](const Expert &a, const Expert &b) {
    return a.distance < b.distance;
  });
  return experts;
}

} // namespace

llvm::Expected<std::optional<std::vector<std::vector<int64_t>>>>
moec::eliminateExperts(Compressor &compressor, const EliminationOptions &options,
                       Progress &progress) {
  using Keep = std::vector<std::vector<int64_t>>;
  const auto &layers = compressor.layers();
  int64_t total = 0, mayGo = 0;
  std::vector<std::vector<uint8_t>> keep;
  std::vector<int64_t> room; // experts that may still go
  for (auto [layer, least] : llvm::zip(layers, options.least)) {
    keep.emplace_back(size_t(layer.experts), 1);
    total += layer.experts;
    room.push_back(layer.experts - std::max(least, layer.k)); // masks leave as many as are chosen
    mayGo += std::max<int64_t>(room.back(), 0);
  }
  if (mayGo < options.drop)
    return fail(Exit::unsupported,
                llvm::formatv("unsupported: {0} experts are to go, but masks can take away {1}, as they "
                              "leave as many as a router may choose",
                              options.drop, mayGo)
                    .str());
  int64_t each = std::max<int64_t>(1, int64_t(double(total) * options.round));
  int64_t rounds = (options.drop + each - 1) / each;
  double once = 0; // tokens of a run of each text
  auto first = runsOf(compressor, 1, options.labels);
  if (!first)
    return first.takeError();
  for (const DataRun &run : *first)
    once += compressor.tokensOf(run);
  int64_t windows = std::min(compressor.data(Compressor::Data::search).longest(),
                             int64_t(double(options.tokens) /
                                     std::max(double(rounds * total) * once, 1.0)));
  if (windows < 1)
    return std::optional<Keep>();
  auto model = MaskedModel::open(compressor, windows, options.labels);
  if (!model)
    return model.takeError();
  int64_t gone = 0;
  while (gone < options.drop) {
    int64_t measured = 0, left = total - gone;
    auto experts = measureEach(*model, keep, room, [&] {
      progress.step(++measured, left, llvm::formatv("experts measured, {0} of {1} gone", gone,
                                                    options.drop).str());
    });
    if (!experts)
      return experts.takeError();
    int64_t before = gone;
    for (const Expert &expert : *experts) {
      if (gone - before == each || gone == options.drop)
        break;
      if (room[expert.layer] <= 0)
        continue;
      keep[expert.layer][size_t(expert.id)] = 0;
      --room[expert.layer];
      ++gone;
    }
    if (gone == before)
      break; // nothing more may go
  }
  Keep kept;
  for (const auto &mask : keep) {
    kept.emplace_back();
    for (size_t id = 0; id < mask.size(); ++id)
      if (mask[id])
        kept.back().push_back(int64_t(id));
  }
  return std::optional<Keep>(std::move(kept));
}

llvm::Expected<std::string> moec::writeKeepFile(const Compressor &compressor,
                                                llvm::ArrayRef<std::vector<int64_t>> keep) {
  nlohmann::json layers = nlohmann::json::object();
  for (auto [room, ids] : llvm::zip(compressor.layers(), keep))
    layers[room.name] = {{"keep", ids}};
  std::string text = nlohmann::json{{"layers", layers}}.dump();
  std::string path = compressor.setup().work + "/keep-" + digest(text).substr(0, 12) + ".json";
  if (llvm::Error error = writeFile(path, text + "\n"))
    return error;
  return path;
}

llvm::Expected<bool> moec::completeRecipe(Compressor &compressor, Recipe &recipe, bool uniform,
                                          Progress &progress, std::string &why) {
  const CompressMethod *method = findMethod(recipe.method);
  if (!method || method->family != CompressMethod::Family::given || !recipe.more.empty())
    return true;
  EliminationOptions options;
  options.labels = recipe.labels;
  for (auto [layer, keep] : llvm::zip(compressor.layers(), recipe.keep)) {
    options.least.push_back(uniform ? keep : layer.fewest);
    options.drop += layer.experts - keep;
  }
  std::string what = recipe.key() + (uniform ? " uniform" : " global");
  std::vector<std::vector<int64_t>> kept;
  if (const nlohmann::json *known = compressor.recall(what)) {
    kept = known->get<std::vector<std::vector<int64_t>>>();
  } else {
    auto found = eliminateExperts(compressor, options, progress);
    if (!found && takeUnsupported(found, why))
      return false;
    if (!found)
      return found.takeError();
    if (!*found) {
      why = "too many experts to measure each; fewer --search-windows may do";
      return false;
    }
    kept = std::move(**found);
    if (llvm::Error error = compressor.remember(what, kept))
      return error;
  }
  auto path = writeKeepFile(compressor, kept);
  if (!path)
    return path.takeError();
  for (auto [keep, ids] : llvm::zip(recipe.keep, kept))
    keep = int64_t(ids.size());
  recipe.more = "masks=" + *path;
  return true;
}
