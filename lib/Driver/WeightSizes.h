// What weights take where they are stored. Internal to Driver.
#pragma once

#include "moec/Dialect/MoE/MoE.h"

namespace moec {

/// Bits that an element of a weight value takes in files: of the narrowest type that its steps pass,
/// scales of quantised weights spread over the elements.
double storedBits(mlir::Value weight);

/// Bytes of the binds that functions and banks of the module read, each once; `experts`: of banks of routed
/// layers only.
uint64_t storedBytes(mlir::ModuleOp module, bool experts);
/// Bytes of a bank's parameters.
uint64_t storedBytes(moe::BankOp bank);

} // namespace moec
