// A module of onnx ops -> the messages of a .onnx file, without the weights' bytes.
#pragma once
#include "mlir/IR/BuiltinOps.h"
#include "onnx/onnx_pb.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/StringMap.h"

#include <map>
#include <string>
#include <vector>

namespace moec::onnx_export {

/// An initializer whose bytes are a bound weight.
struct Stored {
  std::string bind;
  int initializer; // its index in the graph
};

class Writer {
public:
  Writer(mlir::ModuleOp module, ::onnx::ModelProto &model) : module(module), model(model) {}

  /// False after diagnostics. Values get unique names: inputs and outputs those of the signature,
  /// others their node's.
  bool run();

  std::vector<Stored> stored;

private:
  bool block(mlir::Block &block, ::onnx::GraphProto &graph);
  bool node(mlir::Operation *op, ::onnx::GraphProto &graph);
  bool attribute(mlir::Operation *op, llvm::StringRef name, mlir::Attribute value,
                 ::onnx::AttributeProto &out);
  bool attributes(mlir::Operation *op, ::onnx::NodeProto &out);
  bool subgraph(mlir::Operation *op, mlir::Region &region, llvm::StringRef name,
                ::onnx::NodeProto &out);
  void constant(mlir::Operation *op);
  void weight(mlir::Operation *op);
  /// Names the results of `op`.
  void define(mlir::Operation *op, ::onnx::NodeProto &out);
  /// The name of `v` as an output of `graph`: by way of an Identity where it cannot have one.
  std::string outputOf(mlir::Value v, llvm::StringRef wanted, mlir::Block &block,
                       ::onnx::GraphProto &graph);
  std::string unique(llvm::StringRef name, llvm::StringMap<unsigned> &taken);
  void typeOf(mlir::Type type, ::onnx::TypeProto &out, mlir::ArrayAttr dims = {});
  void valueInfo(llvm::StringRef name, mlir::Type type, ::onnx::ValueInfoProto &out,
                 mlir::ArrayAttr dims = {});

  mlir::ModuleOp module;
  ::onnx::ModelProto &model;
  llvm::DenseMap<mlir::Value, std::string> names;
  llvm::StringMap<unsigned> values, nodes;   // names that are taken, with a counter
  llvm::StringMap<std::string> initializers; // binds -> names
  llvm::DenseMap<mlir::Attribute, std::string> constants;
  llvm::DenseSet<mlir::Value> isOutput; // of the main graph
  std::map<std::string, int64_t> domains;
  int64_t opset = 21;
};

/// The elements as they lie in a file.
std::string rawBytes(mlir::DenseElementsAttr value);

} // namespace moec::onnx_export
