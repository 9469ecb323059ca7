// A model in memory: its IR, what the passes said about it, and the pipeline up to code generation.
#pragma once

#include "moec/Driver/Error.h"
#include "moec/Driver/Executor.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/OwningOpRef.h"

#include <memory>
#include <string>
#include <vector>

namespace moec {

/// A diagnostic, kept apart from its MLIR context.
struct Message {
  std::string node; // name of the ONNX node or file position; may be empty
  std::string op;   // operator without its dialect; may be empty
  std::string text;
  std::string kind = {}; // of a remark that a layer was not raised: the check of moec lint

  /// `model.onnx: node "layers.3/TopK" (TopK): text`
  std::string line(llvm::StringRef file) const;
};

class Model {
public:
  /// Reads a .onnx file or .mlir text. Weights stay in their files, which are looked for in
  /// `folder`, or beside the model when it is empty. Errors are CommandErrors.
  static llvm::Expected<std::unique_ptr<Model>> load(llvm::StringRef path,
                                                     llvm::StringRef folder = "");
  ~Model();
  /// A copy, with the remarks so far if wanted. It shares the context: while it lives, diagnostics go
  /// to it.
  std::unique_ptr<Model> clone(bool remarks = false) const;

  mlir::ModuleOp module() const { return ir.get(); }
  const std::string &path() const { return file; }
  /// Folder that weight files are relative to.
  const std::string &folder() const { return base; }

  /// Decomposes, folds weights and, unless `level` is 0, raises MoE layers and fuses their gating;
  /// from level 2 on also fuses attention. Level 0 raises com.microsoft.MoE and QMoE nodes only, which have no
  /// other lowering. `semantics`: of these nodes (moec/Transforms/Raise/Semantics.h). Without
  /// `decomposeQuantised` products of integers stay operators of ONNX.
  llvm::Error optimise(int level, llvm::StringRef semantics = "schema",
                       bool decomposeQuantised = true);
  /// The two halves of it. Between them stand the passes that change MoE layers.
  llvm::Error raise(int level, llvm::StringRef semantics = "schema");
  llvm::Error finish(int level, bool decomposeQuantised = true);

  /// Runs a textual pass pipeline, such as "canonicalize,cse".
  llvm::Error runPipeline(llvm::StringRef pipeline);

  /// Inputs and outputs of @main; an error for a type no tensor here can have.
  llvm::Expected<Signature> signature() const;

  /// Remarks of the passes so far.
  const std::vector<Message> &remarks() const { return said; }

  /// Turns the errors that were diagnosed since the last call into one CommandError, a line each;
  /// "unsupported" in any of them makes it an unsupported error. `otherwise` stands when there are
  /// none.
  llvm::Error takeErrors(llvm::StringRef otherwise);

private:
  Model(llvm::StringRef path, llvm::StringRef folder,
        std::shared_ptr<mlir::MLIRContext> context = nullptr);
  std::string file, base;
  std::shared_ptr<mlir::MLIRContext> context;
  std::unique_ptr<mlir::ScopedDiagnosticHandler> handler;
  mlir::OwningOpRef<mlir::ModuleOp> ir;
  std::vector<Message> said, errors;
};

/// The moe layers' expert ids and the like: adds `values` to the results of @main under `names`.
void addOutputs(mlir::ModuleOp module, llvm::ArrayRef<mlir::Value> values,
                llvm::ArrayRef<std::string> names);

/// Operator and node name of an operation, for messages: ("TopK", "layers.3/TopK").
std::pair<std::string, std::string> nodeOf(mlir::Operation *op);
std::string nodeName(mlir::Location location);

} // namespace moec
