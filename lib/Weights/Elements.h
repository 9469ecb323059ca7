// Elements of weights, inside this room.
#pragma once
#include "moec/Weights/Weights.h"

namespace moec {

/// `count` numbers of any type as f64.
void toDoubles(mlir::Type from, const char *in, double *out, int64_t count);

/// Elements [first, first + count) of file data into a buffer: takes types below 8 bits apart and
/// makes every i1 a 0 or 1. `packed` is the start of the whole data.
void unpack(mlir::Type type, const char *packed, int64_t first, int64_t count, char *out);

} // namespace moec
