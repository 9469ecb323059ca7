#ifndef MOEC_TRANSFORMS_COMPRESS_REPAIR_TD
#define MOEC_TRANSFORMS_COMPRESS_REPAIR_TD

include "mlir/Pass/PassBase.td"

#endif
