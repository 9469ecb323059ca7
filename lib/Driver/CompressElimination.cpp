#include "CompressElimination.h"

#include "Executors.h"
#include "Files.h"

#include "moert/moert.h"

#include "llvm/Support/FormatVariadic.h"

#include <cmath>

using namespace moec;

namespace {

constexpr int64_t mostReference = int64_t(256) << 20; // bytes of the original's predictions

// A model with routing hooks and what the original said on some windows.
class MaskedModel {
public:
  static llvm::Expected<MaskedModel> open(Compressor &compressor, int64_t windows,
                                          llvm::StringRef labels);
  /// Mean KL from the original when layer i keeps the experts of keep[i].
  llvm::Expected<double> divergence(llvm::ArrayRef<std::vector<uint8_t>> keep);

private:
  struct Row {
    const float *data; // logits, not owned
    double logSum;
  };
  llvm::Error remember();
  llvm::Error setMasks(llvm::ArrayRef<std::vector<uint8_t>> keep);
  static double logSumOf(const float *row, int64_t n);

  const Compressor *compressor = nullptr;
  std::unique_ptr<CompiledModel> model;
  std::vector<std::vector<int64_t>> texts; // windows
  int64_t step = 1;                        // every step-th position of a window counts
  int64_t vocabulary = 0;
  std::vector<float> logProbabilities;     // [window, position / step, vocabulary]
};

double MaskedModel::logSumOf(const float *row, int64_t n) {
  float most = *std::max_element(row, row + n);
  double sum = 0;
  for (int64_t v = 0; v < n; ++v)
    sum += std::exp(row[v] - most);
  return most + std::log(sum);
}

llvm::Expected<MaskedModel> MaskedModel::open(Compressor &compressor, int64_t windows,
                                              llvm::StringRef labels) {
  MaskedModel self;
  self.compressor = &compressor;
  auto opened = compressor.openWithHooks();
  if (!opened)
    return opened.takeError();
  self.model = std::move(*opened);
  const TextWindows &range = compressor.setup().searchWindows;
  for (const LabelledText &text : compressor.setup().calibration) {
    if (labelWeight(labels, text.label) <= 0)
      continue;
    int64_t all = (int64_t(text.ids.size()) - 1) / range.window;
    for (int64_t j = range.first; j < std::min(range.first + windows, all); ++j)
      self.texts.emplace_back(text.ids.begin() + j * range.window,
                              text.ids.begin() + (j + 1) * range.window);
  }
  if (self.texts.empty())
    return fail(Exit::input, "the calibration texts have no windows left to measure experts on");
  if (llvm::Error error = self.remember())
    return error;
  return self;
}

llvm::Error MaskedModel::remember() {
  auto text = TextModel::create(*model);
  if (!text)
    return text.takeError();
  for (const std::vector<int64_t> &window : texts) {
    auto logits = text->score(window);
    if (!logits)
      return logits.takeError();
    if (logits->type != DType::f32)
      return fail(Exit::unsupported, "unsupported: logits of another type than f32");
    vocabulary = logits->shape.back();
    if (logProbabilities.empty()) {
      int64_t rows = int64_t(texts.size() * window.size());
      step = std::max<int64_t>(1, (rows * vocabulary * 4 + mostReference - 1) / mostReference);
    }
    for (int64_t i = step - 1; i < int64_t(window.size()); i += step) {
      const float *row = logits->as<float>() + i * vocabulary;
      double sum = logSumOf(row, vocabulary);
      for (int64_t v = 0; v < vocabulary; ++v)
        logProbabilities.push_back(float(row[v] - sum));
    }
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

llvm::Expected<double> MaskedModel::divergence(llvm::ArrayRef<std::vector<uint8_t>> keep) {
  if (llvm::Error error = setMasks(keep))
    return error;
  auto text = TextModel::create(*model);
  if (!text)
    return text.takeError();
  double sum = 0;
  int64_t rows = 0;
  const float *reference = logProbabilities.data();
  for (const std::vector<int64_t> &window : texts) {
    auto logits = text->score(window);
    if (!logits)
      return logits.takeError();
    for (int64_t i = step - 1; i < int64_t(window.size()); i += step, ++rows) {
      const float *row = logits->as<float>() + i * vocabulary;
      double all = logSumOf(row, vocabulary);
      for (int64_t v = 0; v < vocabulary; ++v, ++reference)
        if (*reference > -30) // less than 1e-13
          sum += std::exp(*reference) * (*reference - (row[v] - all));
    }
  }
  return sum / double(std::max<int64_t>(rows, 1));
}

struct Expert {
  size_t layer;
  int64_t id;
  double divergence;
};

// Every expert that may go, with the divergence when it goes too.
llvm::Expected<std::vector<Expert>> measureEach(MaskedModel &model,
                                                std::vector<std::vector<uint8_t>> &keep,
                                                llvm::ArrayRef<int64_t> room) {
  std::vector<Expert> experts;
  for (size_t layer = 0; layer < keep.size(); ++layer) {
    if (room[layer] <= 0)
      continue;
    for (size_t id = 0; id < keep[layer].size(); ++id) {
      if (!keep[layer][id])
        continue;
      keep[layer][id] = 0;
      auto value = model.divergence(keep);
      keep[layer][id] = 1;
      if (!value)
        return value.takeError();
      experts.push_back({layer, int64_t(id), *value});
    }
  }
  llvm::stable_sort(experts, [](const Expert &a, const Expert &b) {
    return a.divergence < b.divergence;
  });
  return experts;
}

} // namespace

llvm::Expected<std::optional<std::vector<std::vector<int64_t>>>>
moec::eliminateExperts(Compressor &compressor, const EliminationOptions &options,
                       Progress &progress) {
  using Keep = std::vector<std::vector<int64_t>>;
  const auto &layers = compressor.layers();
  int64_t total = 0;
  std::vector<std::vector<uint8_t>> keep;
  std::vector<int64_t> room; // experts that may still go
  for (auto [layer, least] : llvm::zip(layers, options.least)) {
    keep.emplace_back(size_t(layer.experts), 1);
    total += layer.experts;
    room.push_back(layer.experts - std::max(least, layer.k));
  }
  int64_t each = std::max<int64_t>(1, int64_t(double(total) * options.round));
  int64_t rounds = (options.drop + each - 1) / each;
  const TextWindows &range = compressor.setup().searchWindows;
  int64_t windowTokens = range.window * int64_t(compressor.setup().calibration.size());
  int64_t windows = std::min(range.windows, options.tokens / std::max<int64_t>(
                                                rounds * total * windowTokens, 1));
  if (windows < 1)
    return std::optional<Keep>();
  auto model = MaskedModel::open(compressor, windows, options.labels);
  if (!model)
    return model.takeError();
  int64_t gone = 0;
  for (int64_t round = 0; gone < options.drop; ++round) {
    progress.begin(llvm::formatv("eliminate {0} of {1} experts", gone, options.drop).str());
    auto experts = measureEach(*model, keep, room);
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
    progress.end(llvm::formatv("{0} windows a text", windows).str());
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
                                          Progress &progress) {
  const CompressMethod *method = findMethod(recipe.method);
  if (!method || method->family != CompressMethod::Family::given || !recipe.more.empty())
    return true;
  EliminationOptions options;
  options.labels = recipe.labels;
  for (auto [layer, keep] : llvm::zip(compressor.layers(), recipe.keep)) {
    options.least.push_back(uniform ? keep : layer.k);
    options.drop += layer.experts - keep;
  }
  std::string what = recipe.key() + (uniform ? " uniform" : " global");
  std::vector<std::vector<int64_t>> kept;
  if (const nlohmann::json *known = compressor.recall(what)) {
    kept = known->get<std::vector<std::vector<int64_t>>>();
  } else {
    auto found = eliminateExperts(compressor, options, progress);
    if (!found)
      return found.takeError();
    if (!*found)
      return false;
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
