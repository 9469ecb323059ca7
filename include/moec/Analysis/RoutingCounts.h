// Routing counts that other tools wrote, as profiles.
#pragma once
#include "moec/Analysis/Profile.h"

namespace moec {

/// Reads a JSON file, or all .json files of a folder, into a profile with statistics of tier 0
/// only; what a file does not tell is absent (k and hidden: 0). The label is the file's name
/// without
/// ".json". Three forms are understood (docs/profile.md has examples):
///  - `logical_count` [layers][E]: tokens of each expert (SGLang's expert distribution recorder and
///    files made from it), with `top_k`, `layers`, `model` where present; layers without any token
///    are dense ones and left out;
///  - `topk_ids` [T][K], with `topk_weights`, `req_id`, `layer`, `experts`: one layer, token by
///    token. Files of one folder named layer<N>.json are layers of one label, the folder's name;
///  - `layers` with `heat` [E] and `pairs` [i, j, count, ...]: counts and the co-activations that
///    the tool lists.
/// The files of a folder must be of one model: they are merged (mergeProfiles), or joined where
/// they hold different layers of the same label. Errors: one line that names the file and what is
/// wrong.
llvm::Expected<Profile> readRoutingCounts(llvm::StringRef path);

} // namespace moec
