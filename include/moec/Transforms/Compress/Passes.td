// Passes that make MoE layers smaller. Each family has a file of its own.
#ifndef MOEC_TRANSFORMS_COMPRESS_PASSES_TD
#define MOEC_TRANSFORMS_COMPRESS_PASSES_TD

include "moec/Transforms/Compress/Keep.td"
include "moec/Transforms/Compress/Prune.td"
include "moec/Transforms/Compress/Merge.td"
include "moec/Transforms/Compress/Narrow.td"
include "moec/Transforms/Compress/Repair.td"

#endif
