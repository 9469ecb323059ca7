// What the steps of an import share: where errors go and where tensors are.
#pragma once
#include "Skim.h"
#include "moec/Weights/Weights.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include "onnx/onnx_pb.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/ADT/Twine.h"

#include <string>

namespace moec::onnx_import {

/// The domain of the nodes that stand for tensors that were left out; no model may use it.
inline constexpr llvm::StringLiteral kWeightDomain = "moec.internal";
inline constexpr llvm::StringLiteral kWeightOp = "Weight";
/// On a node of an unknown operator: the element type of its outputs is that of its first input.
inline constexpr llvm::StringLiteral kGuessAttribute = "moec.guess";

/// Files, tensors and diagnostics of one import.
struct Context {
  Context(mlir::MLIRContext &mlir, llvm::StringRef folder, llvm::StringRef file)
      : mlir(mlir), reader(folder), file(file) {}

  mlir::MLIRContext &mlir;
  WeightReader reader;
  std::string file; // the .onnx file's name in its folder
  std::vector<TensorSource> sources;
  llvm::ArrayRef<uint8_t> bytes; // of the .onnx file
  unsigned errors = 0;
  llvm::StringSet<> faultyFiles; // of external data, reported once each
  llvm::StringMap<int> ranks; // that the file declares for values of the main graph
  std::vector<::onnx::ValueInfoProto> outputs; // of the main graph, as declared

  /// An error about the file as a whole, or about something with a name in the text.
  void error(const llvm::Twine &text);
  /// An error about a node: at its name, with its operator.
  void error(const ::onnx::NodeProto &node, const llvm::Twine &text);
  void nodeError(llvm::StringRef op, llvm::StringRef name, const llvm::Twine &text);

  /// The source of a tensor that was left out; null when it has its data.
  const TensorSource *sourceOf(const ::onnx::TensorProto &tensor) const;
};

/// The text on one line of bounded length, without the library's tags and control characters.
std::string oneLine(llvm::StringRef text);
/// A name fit for one line and for any reader: control characters, and bytes that are not UTF-8,
/// become '?'.
std::string printable(llvm::StringRef name);
/// The same for a message: the start of a name that is longer than anyone wants to read.
std::string brief(llvm::StringRef name);

/// What a file that is no ONNX file seems to be, with what to do; empty when that is not known.
llvm::StringRef foreignFormat(llvm::StringRef bytes);

/// Number of elements; nothing when a dimension is negative or the product beyond 2^48.
std::optional<uint64_t> elementCount(const ::onnx::TensorProto &tensor, std::string &why);

/// Checks that a source holds the elements of `tensor`; `why` is the reason if not.
bool checkSource(Context &context, const ::onnx::TensorProto &tensor, const TensorSource &source,
                 std::string &why);
/// The elements in the layout of raw_data, wherever they are; nothing with a reason.
std::optional<std::string> readElements(Context &context, const ::onnx::TensorProto &tensor,
                                        std::string &why);

/// True for the default domain under either of its names.
inline bool isDefaultDomain(llvm::StringRef domain) {
  return domain.empty() || domain == "ai.onnx";
}

/// Visits every graph: the main one and those in attributes, outer ones first.
void forEachGraph(::onnx::GraphProto &graph, llvm::function_ref<void(::onnx::GraphProto &)> visit);

/// Makes the names of values unique over all graphs.
void nameApart(::onnx::GraphProto &graph);

/// Adds the type of a weight node's output to its graph's value_info.
void declareWeight(const ::onnx::NodeProto &node, ::onnx::GraphProto &graph);

//===--- the steps -----------------------------------------------------------------------------===//
// Each reports its errors; callers look at `errors`.

/// Inlines functions, names nodes, makes nodes of tensors that were left out.
void normalise(Context &context, ::onnx::ModelProto &model);
/// Duplicates, undefined names, cycles, operators and types that are not handled; sorts nodes.
void check(Context &context, ::onnx::ModelProto &model);
/// Whether some operator of the model changed between opset `version` and the dialect's.
bool needsConversion(::onnx::ModelProto &model, int version);
/// Brings the model to the dialect's opset.
void convert(Context &context, ::onnx::ModelProto &model);
/// Whether the library's function body takes a node's place.
bool isWrittenOut(const ::onnx::NodeProto &node);
/// Puts function bodies in the place of operators that are only known by them.
void expand(Context &context, ::onnx::ModelProto &model);
/// The same for those of the default domain, which the library does not convert.
void expandStandard(Context &context, ::onnx::ModelProto &model);
/// Types for all values.
void infer(Context &context, ::onnx::ModelProto &model);
/// Errors for nodes whose constants cannot but fail when the model runs.
void contradictions(Context &context, mlir::ModuleOp module);
/// The module; null after errors.
mlir::OwningOpRef<mlir::ModuleOp> emit(Context &context, const ::onnx::ModelProto &model);

} // namespace moec::onnx_import
