// The profile that recipes are made from, and those of compressed models.
#include "Compressor.h"

#include "../Profiling.h"

#include "moec/Transforms/Compress/WeightHash.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"

using namespace moec;
using llvm::StringRef;

// The tier that all layers of a profile have.
static int tierOf(const Profile &profile) {
  int tier = 2;
  for (const LayerProfile &layer : profile.layers)
    tier = std::min(tier, layer.find(stat::sampled) ? 2 : layer.find(stat::normSum) ? 1 : 0);
  return tier;
}

llvm::Error Compressor::profileTo(Model &model, StringRef path, int tier, int64_t reservoir,
                                  Progress &progress) {
  ProfileOptions options;
  options.tier = tier;
  options.reservoir = reservoir;
  options.threads = given.threads;
  auto made = profileModel(model, profiled, options, progress);
  if (!made)
    return made.takeError();
  return writeProfile(*made, path);
}

llvm::Error Compressor::prepareProfile(Progress &progress) {
  progress.begin("profile");
  profilePath = given.profile;
  if (profilePath.empty()) {
    profileKey = digest("profile|" + profiled.key() + "|" + modelKey + "|" +
                        std::to_string(given.tier) + "|" + std::to_string(given.reservoir));
    profilePath = file("profile-" + profileKey.substr(0, 12) + ".moep");
    if (!journal.find(profileKey) || !llvm::sys::fs::exists(profilePath)) {
      auto model = build(Recipe());
      if (!model)
        return model.takeError();
      Progress inner(progress, profileStages(profiled));
      if (llvm::Error error =
              profileTo(**model, profilePath, given.tier, given.reservoir, inner))
        return error;
      if (llvm::Error error = journal.add(profileKey, "made"))
        return error;
    }
  } else {
    profileKey = profilePath + stampOf(profilePath);
  }
  auto read = readProfile(profilePath, rooms.front().name); // whether it keeps tokens: of one layer
  if (!read)
    return fail(Exit::input, llvm::toString(read.takeError()));
  stats = std::move(*read);
  for (LayerProfile &layer : stats.layers) {
    tokensKept |= layer.reservoir.tokens() > 0;
    layer.reservoir = {};
  }
  if (llvm::Error error = checkProfile())
    return error;
  progress.end(llvm::formatv("tier {0}, {1} labels", profileTier, stats.labels.size()));
  return llvm::Error::success();
}

llvm::Error Compressor::checkProfile() {
  for (const LayerRoom &room : rooms) {
    const LayerProfile *layer = stats.layer(room.name);
    if (!layer || layer->experts != room.experts)
      return fail(Exit::input, profilePath + ": a profile of another model: " +
                                   (layer ? "layer " + room.name + " has other experts"
                                          : "no layer " + room.name));
  }
  profileTier = tierOf(stats);
  bool lower = profileTier < given.needsTier, bare = given.needsTokens && !tokensKept;
  if (given.profile.empty() && (lower || bare))
    return fail(Exit::unsupported,
                given.model + ": unsupported: the method and its repair need " +
                    (lower ? "statistics of the experts' outputs" : "tokens that the profile keeps") +
                    ", which a layer does not give: its tokens are no vectors of floats");
  if (given.profile.empty())
    return llvm::Error::success();
  if (lower || bare)
    return fail(Exit::input,
                llvm::formatv("{0}: {1}, but the method and its repair need {2}: make one with "
                              "`moec profile {3} --data ... --tier={4}{5} --out {0}`",
                              profilePath,
                              lower ? llvm::formatv("a profile of tier {0}", profileTier).str()
                                    : std::string("a profile that keeps no tokens"),
                              lower ? llvm::formatv("tier {0}", given.needsTier).str()
                                    : std::string("some"),
                              given.model, std::max(given.needsTier, given.needsTokens ? 1 : 0),
                              given.needsTokens ? " --reservoir=4096" : "")
                    .str());
  auto model = build(Recipe());
  if (!model)
    return model.takeError();
  if (llvm::Error error = checkWeights((*model)->module(), stats, given.folder))
    return fail(Exit::input, profilePath + ": " + llvm::toString(std::move(error)));
  return llvm::Error::success();
}

llvm::Expected<Profile> Compressor::routing(const Recipe &recipe) {
  std::string key = digest(keyOf(recipe) + "|" + profiled.key() + "|" + modelKey);
  std::string path = file("routing-" + key + ".moep");
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
        return llvm::handleErrors(std::move(error), [](std::unique_ptr<CommandError> e) {
          if (e->code == Exit::input) // the data did for the original
            e->code = Exit::unsupported;
          e->text = "unsupported: the smaller model cannot be profiled: " + e->text;
          return llvm::Error(std::move(e));
        });
    }
    std::string pipeline =
        repairPipeline(recipe, int64_t(i), profilePath, i > 0 ? current : "", given.folder);
    if (llvm::Error error = model.runPipeline(pipeline))
      return error;
  }
  return llvm::Error::success();
}
