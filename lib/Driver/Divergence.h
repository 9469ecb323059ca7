// Which layer of a model goes wrong first. Internal to Driver.
#pragma once

#include "moec/Driver/Session.h"

namespace moec {

/// Runs the model once more with its intermediate tensors as outputs, compiled and interpreted, and
/// names the first that differs: `node "x" (MatMul): max |diff| ...`. `model` is a .onnx file.
llvm::Expected<std::string> findDivergence(llvm::StringRef model, const OpenOptions &options,
                                           llvm::ArrayRef<Tensor> inputs, Tolerance tolerance);

} // namespace moec
