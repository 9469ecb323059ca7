// Models for the tests of the importer, and what importing them gives.
#pragma once
#include "../Weights/Folder.h"
#include "moec/Import/Import.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "onnx/defs/parser.h"
#include "onnx/onnx_pb.h"

#include <stdexcept>

struct Imported {
  std::string text;                // the module, or empty
  std::vector<std::string> errors; // location: text
};

class Importer {
public:
  Imported operator()(const std::string &bytes) {
    folder.write("model.onnx", bytes);
    mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
    Imported result;
    mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &diagnostic) {
      std::string line;
      llvm::raw_string_ostream os(line);
      if (auto name = llvm::dyn_cast<mlir::NameLoc>(diagnostic.getLocation()))
        os << name.getName().str() << ": ";
      os << diagnostic.str();
      result.errors.push_back(os.str());
      return mlir::success();
    });
    if (auto module = moec::importOnnx(folder.file("model.onnx"), context)) {
      llvm::raw_string_ostream os(result.text);
      module->print(os);
    }
    return result;
  }
  Imported operator()(const onnx::ModelProto &model) { return (*this)(model.SerializeAsString()); }

  Folder folder;
};

inline onnx::ModelProto parseModel(const char *text) {
  onnx::ModelProto model;
  auto status = onnx::OnnxParser::Parse(model, text);
  if (!status.IsOK())
    throw std::runtime_error(status.ErrorMessage());
  return model;
}

inline onnx::TensorProto *addWeight(onnx::ModelProto &model, const std::string &name, int32_t type,
                                    std::vector<int64_t> dims) {
  onnx::TensorProto *tensor = model.mutable_graph()->add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(type);
  for (int64_t dim : dims)
    tensor->add_dims(dim);
  return tensor;
}
