// Copies between strided boxes.
#pragma once
#include "llvm/ADT/ArrayRef.h"
#include <cstdint>

namespace moec {

/// Copies a box of `sizes` elements of `bytes` bytes; strides are in elements.
void copyStrided(llvm::ArrayRef<int64_t> sizes, const char *in, llvm::ArrayRef<int64_t> inStrides,
                 char *out, llvm::ArrayRef<int64_t> outStrides, int64_t bytes);

} // namespace moec
