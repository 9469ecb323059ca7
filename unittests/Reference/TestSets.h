// Models with expected results in the layout of ONNX's backend tests: model.onnx and
// test_data_set_N/{input,output}_I.pb.
#pragma once
#include "mlir/IR/MLIRContext.h"
#include "moec/Reference/Reference.h"
#include <optional>
#include <string>
#include <vector>

namespace moec::reference::test {

struct TestSet {
  std::string name;
  std::vector<Array> inputs, outputs;
};

/// A TensorProto file; nullopt for element types that the interpreter has not.
std::optional<Array> readTensor(const std::string &path);
/// All sets of a folder in order. Sets with tensors that cannot be read are left out.
std::vector<TestSet> readSets(const std::string &folder);

struct Report {
  std::string error;        // import or run failed, or what differs
  bool unsupported = false; // the error says so
  double largest = 0;       // largest absolute difference of floats
  double seconds = 0;       // running, import apart
  int sets = 0;
};
/// A context with the dialects that models are made of.
std::unique_ptr<mlir::MLIRContext> makeContext();
/// Imports the model once, runs every set and compares: |got - want| <= atol + rtol * |want|.
Report check(mlir::MLIRContext &context, const std::string &model, const std::vector<TestSet> &sets,
             double atol, double rtol);

} // namespace moec::reference::test
