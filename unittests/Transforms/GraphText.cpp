#include "GraphText.h"

#include "moec/Dialect/MoE/MoE.h"
#include "moec/Dialect/Onnx/Onnx.h"
#include "moec/Transforms/Prepare/Passes.h"
#include "moec/Transforms/Raise/Passes.h"
#include "moec/Transforms/Routing/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"
#include "gtest/gtest.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <sstream>

using namespace moec;
using namespace moec::test;

std::string moec::test::tensor(const std::vector<int64_t> &shape, const std::string &element) {
  std::string text = "tensor<";
  for (int64_t d : shape)
    text += (d < 0 ? "?" : std::to_string(d)) + "x";
  return text + element + ">";
}

static std::string join(const std::vector<Typed> &values, std::string Typed::*part) {
  std::string text;
  for (const Typed &v : values)
    text += (text.empty() ? "" : ", ") + v.*part;
  return text;
}

Typed GraphText::argument(const std::string &type) {
  arguments.push_back({"%arg" + std::to_string(arguments.size()), type});
  return arguments.back();
}

Typed GraphText::weight(const std::vector<int64_t> &shape, float size) {
  std::uniform_real_distribution<float> numbers(-size, size);
  int64_t count = 1;
  for (int64_t d : shape)
    count *= d;
  std::string type = tensor(shape), id = std::to_string(binds++);
  std::ostringstream values;
  values << std::scientific;
  values.precision(9);
  // The elements in row-major order, nested as the shape says.
  std::vector<int64_t> at(shape.size(), 0);
  for (int64_t i = 0; i < count; ++i) {
    for (size_t d = shape.size(); d-- > 0 && at[d] == 0;)
      values << "[";
    values << numbers(random);
    bool more = i + 1 < count;
    size_t d = shape.size();
    while (d-- > 0) {
      if (++at[d] < shape[d])
        break;
      at[d] = 0;
      values << "]";
    }
    if (more)
      values << ", ";
  }
  weights += "    %w" + id + " = \"moe.weight.literal\"() {value = dense<" + values.str() +
             "> : " + type + "} : () -> " + type + "\n    \"moe.weight.bind\"(%w" + id +
             ") {sym_name = \"w" + id + "\"} : (" + type + ") -> ()\n";
  Typed use{name(), type};
  body += "    " + use.name + " = \"moe.weight.use\"() {weight = @w" + id + "} : () -> " + type + "\n";
  return use;
}

static std::string constant(const std::string &name, const std::string &value,
                            const std::string &type) {
  return "    " + name + " = \"onnx.Constant\"() {value = dense<" + value + "> : " + type +
         "} : () -> " + type + "\n";
}

Typed GraphText::ints(const std::vector<int64_t> &values) {
  std::string text;
  for (int64_t v : values)
    text += (text.empty() ? "" : ", ") + std::to_string(v);
  Typed out{name(), tensor({static_cast<int64_t>(values.size())}, "i64")};
  body += constant(out.name, "[" + text + "]", out.type);
  return out;
}

Typed GraphText::scalar(int64_t value) {
  Typed out{name(), "tensor<i64>"};
  body += constant(out.name, std::to_string(value), out.type);
  return out;
}

Typed GraphText::number(double value) {
  std::ostringstream text;
  text << std::scientific << value;
  Typed out{name(), "tensor<f32>"};
  body += constant(out.name, std::isinf(value) ? "0xFF800000" : text.str(), out.type);
  return out;
}

Typed GraphText::none() {
  Typed out{name(), "none"};
  body += "    " + out.name + " = \"onnx.none\"() : () -> none\n";
  return out;
}

std::vector<Typed> GraphText::op(const std::string &op, const std::vector<Typed> &operands,
                                 const std::vector<std::string> &results,
                                 const std::string &attributes) {
  std::vector<Typed> out;
  for (const std::string &type : results)
    out.push_back({name(), type});
  body += "    " + join(out, &Typed::name) + " = \"onnx." + op + "\"(" +
          join(operands, &Typed::name) + ") {" + attributes + "} : (" +
          join(operands, &Typed::type) + ") -> (" + join(out, &Typed::type) + ")\n";
  return out;
}

std::string GraphText::module(const std::vector<Typed> &results) const {
  std::string args;
  for (const Typed &a : arguments)
    args += (args.empty() ? "" : ", ") + a.name + ": " + a.type;
  return "module {\n  moe.weights @weights {\n" + weights + "  }\n  func.func @main(" + args +
         ") -> (" + join(results, &Typed::type) + ") {\n" + body + "    return " +
         join(results, &Typed::name) + " : " + join(results, &Typed::type) + "\n  }\n}\n";
}

mlir::OwningOpRef<mlir::ModuleOp> moec::test::parse(const std::string &text,
                                                    mlir::MLIRContext &context) {
  mlir::DialectRegistry registry;
  registry.insert<onnx::OnnxDialect, moe::MoEDialect, mlir::func::FuncDialect>();
  context.appendDialectRegistry(registry);
  context.loadAllAvailableDialects();
  return mlir::parseSourceString<mlir::ModuleOp>(text, &context);
}

bool moec::test::run(mlir::ModuleOp module, const std::string &pipeline) {
  static std::once_flag once;
  std::call_once(once, [] {
    mlir::registerCanonicalizerPass();
    mlir::registerCSEPass();
    registerPreparePasses();
    registerRaisePasses();
    registerRoutingPasses();
  });
  mlir::PassManager manager(module.getContext());
  return mlir::succeeded(mlir::parsePassPipeline(pipeline, manager)) && manager.size() > 0 &&
         mlir::succeeded(manager.run(module));
}

int moec::test::countOps(mlir::ModuleOp module, const std::string &name) {
  int count = 0;
  module.walk([&](mlir::Operation *op) { count += op->getName().getStringRef() == name; });
  return count;
}

reference::Array moec::test::randomArray(const std::vector<int64_t> &shape, std::mt19937 &random) {
  reference::Array array;
  array.shape = shape;
  int64_t count = 1;
  for (int64_t d : shape)
    count *= d;
  std::uniform_real_distribution<float> numbers(-1, 1);
  array.data.resize(static_cast<size_t>(count) * sizeof(float));
  for (int64_t i = 0; i < count; ++i) {
    float value = numbers(random);
    std::memcpy(array.data.data() + i * sizeof(float), &value, sizeof(float));
  }
  return array;
}

std::vector<std::vector<float>> moec::test::evaluate(mlir::ModuleOp module,
                                                     const std::vector<reference::Array> &inputs) {
  reference::Interpreter interpreter(module, ".");
  auto results = interpreter.run(inputs);
  std::vector<std::vector<float>> out;
  if (!results) {
    ADD_FAILURE() << llvm::toString(results.takeError());
    return out;
  }
  for (const reference::Array &array : *results) {
    EXPECT_EQ(array.type, 1) << "results are f32";
    out.emplace_back(array.data.size() / sizeof(float));
    std::memcpy(out.back().data(), array.data.data(), array.data.size());
  }
  return out;
}

double moec::test::difference(const std::vector<std::vector<float>> &a,
                              const std::vector<std::vector<float>> &b) {
  constexpr double infinite = std::numeric_limits<double>::infinity();
  double worst = 0;
  if (a.size() != b.size() || a.empty())
    return infinite;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].size() != b[i].size())
      return infinite;
    for (size_t j = 0; j < a[i].size(); ++j) {
      double x = a[i][j], y = b[i][j];
      double d = std::isnan(x) && std::isnan(y) ? 0 : std::fabs(x - y) / (1 + std::fabs(x));
      worst = std::isnan(d) ? infinite : std::max(worst, d);
    }
  }
  return worst;
}
