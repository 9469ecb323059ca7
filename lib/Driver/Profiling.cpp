#include "Profiling.h"

#include "Executors.h"

#include "moec/Dialect/MoE/RoutedLayers.h"
#include "moec/Driver/Error.h"
#include "moec/Transforms/Compress/WeightHash.h"
#include "moert/moert.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"

#include <cmath>

using namespace moec;

namespace {

llvm::Expected<std::vector<LayerProfile>> describeLayers(const Model &model) {
  std::vector<LayerProfile> layers;
  WeightEvaluator weights(model.module(), model.folder());
  for (moe::RoutedLayer &routed : moe::collectRoutedLayers(model.module())) {
    LayerProfile &layer = layers.emplace_back();
    auto type = llvm::cast<mlir::RankedTensorType>(routed.experts.getX().getType());
    layer.name = routed.name;
    layer.experts = int64_t(routed.bank.getExperts());
    layer.k = routed.k();
    layer.hidden = std::max<int64_t>(type.getShape().back(), 0);
    if (auto route = llvm::dyn_cast_or_null<moe::RouteOp>(routed.router))
      llvm::raw_string_ostream(layer.router) << route.getRouter();
    auto hash = weightHash(routed.bank, weights);
    if (!hash)
      return hash.takeError();
    layer.weightHash = *hash;
  }
  return layers;
}

// Gathers what the runtime hands out: layer by layer, in each label by label.
struct Collector {
  Profile &profile;
  int64_t capacity;
  LayerProfile *open = nullptr;          // whose tokens come
  std::map<int32_t, Reservoir> tokens{}; // of each label

  LayerProfile *layer(llvm::StringRef name) {
    for (LayerProfile &layer : profile.layers)
      if (layer.name == name)
        return &layer;
    return nullptr;
  }

  void add(const moert_profile_statistic &value) {
    LayerProfile *to = layer(value.layer);
    auto label = profile.label(value.label);
    if (!to || !label)
      return;
    Statistic &s = to->statistics[value.name];
    if (s.values.empty()) {
      s.rule = value.is_max ? MergeRule::max : MergeRule::sum;
      s.shape.assign(value.dims, value.dims + value.rank);
      s.values.assign(profile.labels.size() * size_t(s.count()), value.is_max ? -INFINITY : 0.0);
    }
    std::copy_n(value.data, s.count(), s.values.begin() + *label * s.count());
  }

  void add(const moert_profile_token &token) {
    auto label = profile.label(token.label);
    if (!label)
      return;
    if (!open || open->name != token.layer)
      finish();
    open = open ? open : layer(token.layer);
    if (!open)
      return;
    Reservoir &r = tokens[int32_t(*label)];
    r.key.push_back(token.key);
    r.label.push_back(int32_t(*label));
    r.x.insert(r.x.end(), token.x, token.x + token.hidden);
    r.logits.insert(r.logits.end(), token.logits, token.logits + token.experts);
    r.ids.insert(r.ids.end(), token.ids, token.ids + token.k);
    r.weights.insert(r.weights.end(), token.weights, token.weights + token.k);
    r.y.insert(r.y.end(), token.y, token.y + token.hidden);
  }

  // The tokens of all labels as the layer's. Of one layer there are two copies, of others none.
  void finish() {
    if (!open)
      return;
    Reservoir &all = open->reservoir;
    all.capacity = capacity;
    auto join = [&](auto member) {
      size_t n = 0;
      for (auto &[label, part] : tokens)
        n += (part.*member).size();
      (all.*member).reserve(n);
      for (auto &[label, part] : tokens) {
        (all.*member).insert((all.*member).end(), (part.*member).begin(), (part.*member).end());
        part.*member = {};
      }
    };
    join(&Reservoir::key), join(&Reservoir::label), join(&Reservoir::x);
    join(&Reservoir::logits), join(&Reservoir::ids), join(&Reservoir::weights);
    join(&Reservoir::y);
    tokens.clear();
    open = nullptr;
  }
};

llvm::Error checkFinite(const Model &model, const Profile &profile) {
  for (const LayerProfile &layer : profile.layers) {
    auto wrong = [&](llvm::StringRef what) {
      return fail(Exit::input, model.path() + ": layer \"" + layer.name + "\": " + what +
                                   " of the profile holds numbers that are not finite: look at the "
                                   "data, and at the layers before it");
    };
    for (const auto &[name, s] : layer.statistics)
      for (double v : s.values)
        if (std::isnan(v) || (s.rule == MergeRule::sum && std::isinf(v)) || v == INFINITY)
          return wrong("\"" + name + "\"");
    for (const std::vector<float> *values : {&layer.reservoir.x, &layer.reservoir.y})
      for (float v : *values)
        if (!std::isfinite(v))
          return wrong("a token");
  }
  return llvm::Error::success();
}

llvm::Error toError(const moert_error &error) { return fail(Exit(error.status), error.message); }

// The runs of a label are one stage.
llvm::Error runAll(CompiledModel &executor, const Dataset &data, Progress &progress) {
  moert_error error{};
  std::string label;
  int64_t sequences = 0;
  for (int64_t i = 0; i < data.runs(); ++i) {
    auto run = data.run(i);
    if (!run)
      return run.takeError();
    if (i == 0 || run->label != label) {
      if (i)
        progress.end(llvm::formatv("{0} sequences", sequences));
      progress.begin("profile " + run->label);
      sequences = 0;
    }
    label = run->label;
    sequences += run->sequences;
    if (moert_session_profile_data(executor.handle(), run->label.c_str(), run->sequences,
                                   run->first, &error))
      return toError(error);
    if (auto outputs = executor.run(run->inputs); !outputs)
      return llvm::handleErrors(outputs.takeError(), [&](std::unique_ptr<CommandError> e) {
        e->text = run->name + ": " + e->text;
        return llvm::Error(std::move(e));
      });
  }
  progress.end(llvm::formatv("{0} sequences", sequences));
  return llvm::Error::success();
}

} // namespace

llvm::Expected<Profile> moec::profileModel(Model &model, Dataset &data,
                                           const ProfileOptions &options, Progress &progress) {
  Profile profile;
  profile.model = llvm::sys::path::filename(model.path()).str();
  auto layers = describeLayers(model);
  if (!layers)
    return layers.takeError();
  if (layers->empty())
    return fail(Exit::input, model.path() + ": has no routed MoE layer to profile (`moec inspect` "
                                            "says what was found)");
  profile.layers = std::move(*layers);
  if (llvm::Error error =
          model.runPipeline(llvm::formatv("insert-probes{{tier={0} sample-every={1}}", options.tier,
                                          options.sampleEvery)
                                .str()))
    return error;
  if (llvm::Error error = model.finish(options.optimisation))
    return error;
  OpenOptions open;
  open.optimisation = options.optimisation;
  open.threads = options.threads;
  auto executor = compileAndOpen(model, open, progress);
  if (!executor)
    return executor.takeError();
  if (llvm::Error error = data.bind((*executor)->signature()))
    return error;
  moert_profile_options collect{};
  collect.reservoir = options.reservoir;
  moert_error error{};
  if (moert_session_profile_start((*executor)->handle(), &collect, &error))
    return toError(error);
  if (llvm::Error failed = runAll(**executor, data, progress))
    return failed;
  profile.labels = data.labels();
  Collector collector{profile, options.reservoir};
  moert_profile_visitor visitor{};
  visitor.arg = &collector;
  visitor.statistic = [](void *arg, const moert_profile_statistic *value) {
    static_cast<Collector *>(arg)->add(*value);
  };
  visitor.token = [](void *arg, const moert_profile_token *token) {
    static_cast<Collector *>(arg)->add(*token);
  };
  if (moert_session_profile_take((*executor)->handle(), &visitor, &error))
    return toError(error);
  collector.finish();
  if (llvm::Error failed = checkFinite(model, profile))
    return failed;
  return profile;
}
