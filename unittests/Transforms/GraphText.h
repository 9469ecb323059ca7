// Builds small modules as text and runs them through the reference interpreter.
#pragma once

#include "moec/Reference/Reference.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include <random>
#include <string>
#include <vector>

namespace moec::test {

struct Typed {
  std::string name, type;
};

/// One function @main in generic syntax; values are named in order.
class GraphText {
public:
  explicit GraphText(unsigned seed) : random(seed) {}

  /// A function argument of type f32 or i64, a dynamic dimension is written "?".
  Typed argument(const std::string &type);
  /// A parameter with random values in [-1, 1], a literal of moe.weights.
  Typed weight(const std::vector<int64_t> &shape, float size = 1.0f);
  Typed ints(const std::vector<int64_t> &values);
  Typed scalar(int64_t value);
  Typed number(double value);
  Typed none();
  /// onnx.<op>; the result types are given.
  std::vector<Typed> op(const std::string &op, const std::vector<Typed> &operands,
                        const std::vector<std::string> &results, const std::string &attributes = "");
  Typed one(const std::string &name, const std::vector<Typed> &operands, const std::string &result,
            const std::string &attributes = "") {
    return op(name, operands, {result}, attributes)[0];
  }
  std::string module(const std::vector<Typed> &results) const;

  int64_t between(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  }
  bool coin() { return between(0, 1) == 1; }

  std::mt19937 random;

private:
  std::string name() { return "%v" + std::to_string(count++); }
  std::string weights, body;
  std::vector<Typed> arguments;
  int count = 0, binds = 0;
};

/// "tensor<2x?xf32>" from {2, -1}.
std::string tensor(const std::vector<int64_t> &shape, const std::string &element = "f32");

mlir::OwningOpRef<mlir::ModuleOp> parse(const std::string &text, mlir::MLIRContext &context);
/// Runs passes on the module ("a,b{option=1}"); false after errors.
bool run(mlir::ModuleOp module, const std::string &pipeline);
/// Number of operations of that name.
int countOps(mlir::ModuleOp module, const std::string &name);
/// Random numbers in [-1, 1].
reference::Array randomArray(const std::vector<int64_t> &shape, std::mt19937 &random);
/// Results of @main as numbers; gtest failures after errors.
std::vector<std::vector<float>> evaluate(mlir::ModuleOp module,
                                         const std::vector<reference::Array> &inputs);
/// Largest difference, relative to numbers above 1; infinite when the sizes differ.
double difference(const std::vector<std::vector<float>> &a,
                  const std::vector<std::vector<float>> &b);

} // namespace moec::test
