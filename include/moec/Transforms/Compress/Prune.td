#ifndef MOEC_TRANSFORMS_COMPRESS_PRUNE_TD
#define MOEC_TRANSFORMS_COMPRESS_PRUNE_TD

include "mlir/Pass/PassBase.td"

#endif
