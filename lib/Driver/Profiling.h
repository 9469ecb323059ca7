// Runs a model with probes over data and collects its profile. Internal to Driver.
#pragma once

#include "Datasets.h"

#include "moec/Analysis/Profile.h"
#include "moec/Driver/Model.h"
#include "moec/Driver/Progress.h"

namespace moec {

struct ProfileOptions {
  int tier = 1;            // of the pass insert-probes
  int64_t sampleEvery = 8; // tier 2: all experts run on every such token
  int64_t reservoir = 0;   // tokens kept of each layer and label; needs tier 1
  int optimisation = 2;
  int threads = 0; // 0: all cores
};

/// Stages that profileModel reports: lowering, kernels, linking, and one for each label.
inline int profileStages(const Dataset &data) { return 3 + int(data.labels().size()); }

/// `model` has been raised (Model::raise) and not finished; it is changed. Errors: one line; a
/// model without routed layers, and numbers that are not finite in what was collected, are errors.
llvm::Expected<Profile> profileModel(Model &model, Dataset &data, const ProfileOptions &options,
                                     Progress &progress);

} // namespace moec
