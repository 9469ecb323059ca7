// Runs IR text through the interpreter; arrays written as numbers.
#pragma once
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "moec/Dialect/MoE/MoE.h"
#include "moec/Dialect/Onnx/Onnx.h"
#include "moec/Reference/Reference.h"
#include <gtest/gtest.h>
#include <random>

namespace moec::reference::test {

/// An array by its element type's MLIR name and numbers.
struct Numbers {
  std::string type = "f32"; // f32, f64, f16, bf16, i1, i8, ui8, ..., i64, ui64
  std::vector<int64_t> shape;
  std::vector<double> values;
};

inline Numbers f32(std::vector<int64_t> shape, std::vector<double> values) {
  return {"f32", std::move(shape), std::move(values)};
}
inline Numbers i64(std::vector<int64_t> shape, std::vector<double> values) {
  return {"i64", std::move(shape), std::move(values)};
}
inline Numbers i64(std::vector<double> values) {
  int64_t n = static_cast<int64_t>(values.size());
  return {"i64", {n}, std::move(values)};
}
inline Numbers boolean(std::vector<int64_t> shape, std::vector<double> values) {
  return {"i1", std::move(shape), std::move(values)};
}

Array toArray(const Numbers &n);
Numbers toNumbers(const Array &a);

/// Results, or what is wrong.
struct Outcome {
  std::vector<Numbers> results;
  std::string error;
};

/// Runs @main of a module; weight files are looked for in `folder`.
Outcome runModule(const std::string &ir, const std::vector<Numbers> &inputs,
                  const std::string &folder = ".");
/// Runs one op: `name` "onnx.Add" and `attributes` "{axis = 0 : i64}" or "". An input of type
/// "none" is absent. Results are of the given element types and any shape; "none" is not wanted.
Outcome runOp(const std::string &name, const std::string &attributes,
              const std::vector<Numbers> &inputs,
              const std::vector<std::string> &results = {"f32"});

inline Numbers absent() { return {"none", {}, {}}; }

/// Shapes equal, values within `tolerance` (relative and absolute); NaN equals NaN.
void expectNear(const Numbers &got, const Numbers &want, double tolerance);
/// Runs one op with one result and compares.
void expectOp(const std::string &name, const std::string &attributes,
              const std::vector<Numbers> &inputs, const Numbers &want, double tolerance = 1e-6);
/// The op fails and the message holds `text`.
void expectError(const std::string &name, const std::string &attributes,
                 const std::vector<Numbers> &inputs, const std::string &text);

/// Normally distributed f32 numbers.
Numbers randomNumbers(std::mt19937 &random, std::vector<int64_t> shape, double scale = 1);

} // namespace moec::reference::test
