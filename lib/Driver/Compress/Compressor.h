// Builds and measures compressed forms of one model. Internal to Driver.
#pragma once

#include "Journal.h"
#include "Methods.h"
#include "../Executors.h"
#include "../Measure.h"

#include "moec/Analysis/Profile.h"
#include "moec/Driver/Model.h"
#include "moec/Driver/Progress.h"

namespace moec {

struct CompressSetup {
  std::string model, folder;   // the model; the folder of its weights ("" is beside it)
  std::string moeSemantics = "schema";
  std::string work;            // folder of what is kept between runs; must exist
  std::string profile;         // a profile that is there already; empty: made from `calibration`
  /// The profile, and the search's scores, are of parts of the calibration data.
  std::shared_ptr<const DataFiles> calibration, evaluation;
  DataOptions profileData, searchData, evaluationData;
  const Measure *measure = &perplexityMeasure();
  int64_t reservoir = 0;       // tokens of each label for repairs; 0: as many as 512 MiB hold
  int tier = 2;                // of the profile that is made
  int needsTier = 0;           // of a given profile, at least
  bool needsTokens = false;    // whether it has to keep tokens
  int threads = 0;
};

/// What a compressed model takes.
struct Sizes {
  uint64_t weights = 0; // bytes of all weights, in the types they are stored in
  uint64_t experts = 0; // those of banks with a router
};

/// What a layer has room for.
struct LayerRoom {
  std::string name;
  int64_t experts = 0, k = 0;
  int64_t fewest = 1;     // experts that it cannot do without
  uint64_t slabBytes = 0; // of one expert
  int64_t neurons = 0;    // of all experts together; 0: they are no FFNs
};

/// What is left of a layer.
struct LayerShape {
  int64_t experts = 0; // with weights of their own
  int64_t neurons = 0; // of them together; 0: they are no FFNs
  std::vector<int64_t> origin = {}; // ids that its experts had in the original; empty: they have them
};

/// Everything that is measured or profiled is remembered in the work folder, keyed by the recipe, the
/// data and the model, so that a run that was interrupted goes on where it stopped.
class Compressor {
public:
  static llvm::Expected<Compressor> create(CompressSetup setup, Progress &progress);

  const CompressSetup &setup() const { return given; }
  const Profile &profile() const { return stats; }
  const std::vector<LayerRoom> &layers() const { return rooms; }
  const Measure &measure() const { return *given.measure; }
  /// What the profile has: its tier, and whether it keeps tokens.
  int tier() const { return profileTier; }
  bool keepsTokens() const { return tokensKept; }
  /// Whether the profile has what the method reads.
  bool serves(const CompressMethod &method) const {
    return method.tier <= tier() && (!method.tokens || keepsTokens());
  }
  Sizes originalSizes() const { return sizes; }

  /// The model after a recipe's passes, before Model::finish. The last repaired one is kept: its
  /// repair is not made again.
  llvm::Expected<std::unique_ptr<Model>> build(const Recipe &recipe);
  /// The bytes of a built model.
  static Sizes sizesOf(const Model &model);

  enum class Data { search, evaluation };
  struct Result {
    Quality quality;
    Sizes sizes;
    std::vector<LayerShape> layers; // in the order of Compressor::layers
    /// Of the layers' outputs with the original's (LayerCosine.h); NaN: not known; empty: not asked
    /// for.
    std::vector<double> cosines;
    double preLogitRank = NAN; // numerical, on held-out data; NaN: not known
    double tokensPerSecond() const; // of the compiled model; sequences of arrays
    std::vector<std::string> remarks; // what the passes said, layer by layer
  };
  /// Builds, compiles and scores. `compare`: against the original also where the measure does not
  /// need it, and layer by layer where held-out data is scored. Remembered. An original whose outputs are not finite is an error.
  llvm::Expected<Result> measure(const Recipe &recipe, Data data, bool compare = false);
  /// The same, or nothing for a method that does not support the model; `why` says so then.
  llvm::Expected<std::optional<Result>> measureSupported(const Recipe &recipe, Data data,
                                                         std::string &why);
  /// Passes leave layers that they do not support: says which layer lost nothing that was to lose
  /// something, and what was said of it; empty when there is none.
  std::string leftWhole(const Recipe &recipe, const Result &result) const;

  const Dataset &data(Data which) const { return which == Data::search ? search : evaluation; }
  /// Tokens that go through the model in a run, about: as many as the profile counted in one of the
  /// same number of sequences.
  double tokensOf(const DataRun &run) const;

  /// What the routers of a recipe's model do on the calibration windows: a profile of tier 0.
  /// Remembered.
  llvm::Expected<Profile> routing(const Recipe &recipe);

  /// The original, compiled so that its routing can be changed while it runs.
  llvm::Expected<std::unique_ptr<CompiledModel>> openWithHooks();
  /// Something else that is worth remembering: null when it is not known yet.
  const nlohmann::json *recall(const std::string &what) const;
  llvm::Error remember(const std::string &what, const nlohmann::json &value);

private:
  explicit Compressor(CompressSetup setup) : given(std::move(setup)) {}
  llvm::Error prepareModel(Progress &progress);
  llvm::Error prepareData(const Model &model);
  llvm::Error checkProfile();
  llvm::Error prepareProfile(Progress &progress);
  llvm::Error openOriginal();
  std::string keyFor(const std::string &what) const;
  std::string keyOf(const Recipe &recipe) const;
  llvm::Error profileTo(Model &model, llvm::StringRef path, int tier, int64_t reservoir,
                        Progress &progress);
  llvm::Error repairLayers(Model &model, const Recipe &recipe);
  llvm::Expected<std::unique_ptr<Executor>> open(Model &model, bool tapped);
  std::string file(llvm::StringRef name) const;

  CompressSetup given;
  Profile stats;
  int profileTier = 0;
  bool tokensKept = false;
  std::string profilePath, profileKey, modelKey;
  std::string builtKey;         // of the recipe that `built` is of
  std::unique_ptr<Model> built; // the last repaired one, or null
  std::vector<LayerRoom> rooms;
  std::vector<LayerShape> shapes; // of the original
  Sizes sizes;
  Journal journal;
  Dataset profiled, search, evaluation;
  std::unique_ptr<Executor> original; // opened when it is first needed
  std::map<Data, Original> originals; // what it gives
};

/// Whether an error says that something is unsupported: it is consumed then, and `why` gets its first
/// line; others stay.
template <typename T> bool takeUnsupported(llvm::Expected<T> &result, std::string &why) {
  llvm::Error other = llvm::handleErrors(
      result.takeError(), [&](std::unique_ptr<CommandError> e) -> llvm::Error {
        if (e->code != Exit::unsupported)
          return llvm::Error(std::move(e));
        why = llvm::StringRef(e->text).split('\n').first.str();
        return llvm::Error::success();
      });
  if (!other)
    return true;
  result = std::move(other);
  return false;
}

/// How results are remembered; their measure is not.
nlohmann::json toJson(const Compressor::Result &result);
Compressor::Result resultOf(const nlohmann::json &value);

/// A short text that tells texts apart.
std::string digest(llvm::StringRef text);
/// One that tells versions of a file apart: its size and time; empty when it is not there.
std::string stampOf(const llvm::Twine &file);

} // namespace moec
