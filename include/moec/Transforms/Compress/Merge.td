#ifndef MOEC_TRANSFORMS_COMPRESS_MERGE_TD
#define MOEC_TRANSFORMS_COMPRESS_MERGE_TD

include "mlir/Pass/PassBase.td"

#endif
