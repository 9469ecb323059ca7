// The `onnx` dialect: one op for each ONNX operator of opset 28, see OnnxDialect.td.
#pragma once
#include "moec/Dialect/Onnx/OnnxDialect.h"

#define GET_OP_CLASSES
#include "moec/Dialect/Onnx/OnnxOps.h.inc"
