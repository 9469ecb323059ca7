// Builds and measures compressed forms of one model. Internal to Driver.
#pragma once

#include "CompressMethods.h"
#include "Evaluation.h"
#include "Executors.h"

#include "moec/Analysis/Profile.h"
#include "moec/Driver/Model.h"
#include "moec/Driver/Progress.h"

#include <nlohmann/json.hpp>

#include <functional>

namespace moec {

struct CompressSetup {
  std::string model, folder;   // the model; the folder of its weights ("" is beside it)
  std::string moeSemantics = "schema";
  std::string work;            // folder of what is kept between runs; must exist
  std::string profile;         // a profile that is there already; empty: made from `calibration`
  std::vector<std::string> calibrationPaths; // as `moec profile --data` takes them
  /// Texts: the search scores recipes on windows of the calibration data that were not profiled.
  std::vector<LabelledText> calibration, evaluation;
  TextWindows calibrationWindows, evaluationWindows, searchWindows;
  int64_t reservoir = 0;       // tokens of each label for repairs; 0: as many as 512 MiB hold
  int tier = 2;                // of the profile
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
  uint64_t slabBytes = 0; // of one expert
};

/// Everything that is measured or profiled is remembered in the work folder, keyed by the recipe, the
/// data and the model, so that a run that was interrupted goes on where it stopped.
class Compressor {
public:
  static llvm::Expected<Compressor> create(CompressSetup setup, Progress &progress);

  const CompressSetup &setup() const { return given; }
  const Profile &profile() const { return stats; }
  const std::vector<LayerRoom> &layers() const { return rooms; }
  Sizes originalSizes() const { return sizes; }

  /// The model after a recipe's passes, before Model::finish.
  llvm::Expected<std::unique_ptr<Model>> build(const Recipe &recipe);
  /// The bytes of a built model.
  static Sizes sizesOf(const Model &model);

  enum class Data { search, evaluation };
  struct Result {
    Quality quality;
    Sizes sizes;
    double tokensPerSecond() const; // of the compiled model
    std::vector<std::string> remarks; // what the passes said, layer by layer
  };
  /// Builds, compiles and scores. `kl`: also against the original. Remembered.
  llvm::Expected<Result> measure(const Recipe &recipe, Data data, bool kl = false);

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
  llvm::Error prepareProfile(Progress &progress);
  llvm::Error openOriginal();
  llvm::Error loadJournal();
  llvm::Error write(const std::string &key, const nlohmann::json &value);
  std::string keyFor(const std::string &what) const;
  llvm::Error profileTo(Model &model, llvm::StringRef path, int tier, int64_t reservoir,
                        Progress &progress);
  llvm::Error repairLayers(Model &model, const Recipe &recipe);
  llvm::Expected<std::unique_ptr<Executor>> open(Model &model);
  std::string file(llvm::StringRef name) const;
  std::string dataKey(Data data) const;

  CompressSetup given;
  Profile stats;
  std::string profilePath, modelKey;
  std::vector<LayerRoom> rooms;
  Sizes sizes;
  std::map<std::string, nlohmann::json> journal;
  std::unique_ptr<Executor> original; // for KL; opened when it is first needed
};

/// A short text that tells texts apart.
std::string digest(llvm::StringRef text);

} // namespace moec
