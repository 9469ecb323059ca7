// Export: a module of the onnx and moe dialects -> a .onnx file.
//
// Two steps, usable apart: lowerToOnnx writes every moe op as operators of ONNX, or as the
// contributed operator com.microsoft.MoE where that says the same; exportOnnx does this and writes
// the file, its weights streamed to a file beside it. docs/export.md says what becomes what.
#pragma once
#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/LogicalResult.h"
#include <functional>
#include <string>

namespace moec {

struct ExportOptions {
  /// When a layer becomes a com.microsoft.MoE node.
  enum class Fused {
    automatic,  ///< when reading the node back gives the same router and experts
    equivalent, ///< also when the router's formula is another one with the same values
    never
  };
  Fused fused = Fused::automatic;
  /// Weights go to the file beside even when they are few.
  bool externalData = false;
  std::string producerVersion{};
};

struct ExportReport {
  uint64_t modelBytes = 0, dataBytes = 0;
  std::string dataPath; ///< empty when the .onnx file holds all weights
  int64_t opset = 0;    ///< of the default domain
  unsigned fusedLayers = 0, plainLayers = 0;
};

/// Replaces all moe ops of the functions by onnx ops. What has no such form is diagnosed, all ops
/// at once, in words that hold "unsupported"; the module is then of no more use. The module keeps
/// its moe.weights, with binds of its own for what the new ops read. Counts layers in `report`.
llvm::LogicalResult lowerToOnnx(mlir::ModuleOp module, const ExportOptions &options,
                                ExportReport &report);

/// Writes `path` and, when weights are large or the options ask for it, `path`.data. Both are
/// written to temporary files beside them and renamed at the end: a failure or an interruption
/// leaves old files intact. The module is not changed. `folder` is what the weight files are
/// relative to. Memory: the graph without its weights, and some rows of one weight at a time.
///
/// Errors: one with std::errc::not_supported when the module holds what ONNX cannot say; the
/// reasons were diagnosed. A file that cannot be written has the system's error code; errors of
/// weight files are WeightEvaluator's.
llvm::Expected<ExportReport> exportOnnx(mlir::ModuleOp module, llvm::StringRef folder,
                                        llvm::StringRef path, const ExportOptions &options = {},
                                        const std::function<void(uint64_t)> &progress = {});

} // namespace moec
