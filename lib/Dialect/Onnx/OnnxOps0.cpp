// Definitions of the generated op classes, shard 0 of 4 (a shard a file keeps compiling parallel).
#include "moec/Dialect/Onnx/Onnx.h"

using namespace mlir;

#define GET_OP_DEFS_0
#include "moec/Dialect/Onnx/OnnxOps.cpp.inc"
