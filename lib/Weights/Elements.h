// Elements of weights, inside this room.
#pragma once
#include "moec/Weights/Weights.h"

namespace moec {

/// `count` numbers of any type as f64.
void toDoubles(mlir::Type from, const char *in, double *out, int64_t count);

} // namespace moec
