// Modules from text, random inputs, and a folder of its own for each test.
#pragma once
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Parser/Parser.h"
#include "moec/Dialect/MoE/MoE.h"
#include "moec/Dialect/Onnx/Onnx.h"
#include "moec/Export/Export.h"
#include "moec/Reference/Reference.h"
#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>
#include <random>

namespace moec::export_test {

using reference::Array;

struct Context {
  Context() : mlir(registry(), mlir::MLIRContext::Threading::DISABLED) {
    mlir.loadAllAvailableDialects();
    handler = std::make_unique<mlir::ScopedDiagnosticHandler>(&mlir, [this](mlir::Diagnostic &d) {
      errors.push_back(d.str());
      return mlir::success();
    });
  }
  mlir::OwningOpRef<mlir::ModuleOp> parse(const std::string &text) {
    auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &mlir);
    EXPECT_TRUE(module) << (errors.empty() ? text : errors.back());
    return module;
  }
  static mlir::DialectRegistry registry() {
    mlir::DialectRegistry registry;
    registry.insert<onnx::OnnxDialect, moe::MoEDialect, mlir::func::FuncDialect>();
    return registry;
  }

  mlir::MLIRContext mlir;
  std::unique_ptr<mlir::ScopedDiagnosticHandler> handler;
  std::vector<std::string> errors;
};

inline Array floats(std::vector<int64_t> shape, std::mt19937 &random) {
  std::normal_distribution<float> normal;
  Array a{1, shape, {}};
  int64_t count = 1;
  for (int64_t d : shape)
    count *= d;
  for (int64_t i = 0; i < count; ++i) {
    float v = normal(random);
    a.data.insert(a.data.end(), reinterpret_cast<char *>(&v), reinterpret_cast<char *>(&v) + 4);
  }
  return a;
}

template <class T>
Array array(int type, std::vector<int64_t> shape, std::vector<T> values) {
  Array a{type, std::move(shape), std::vector<char>(values.size() * sizeof(T))};
  std::memcpy(a.data.data(), values.data(), a.data.size());
  return a;
}
inline Array i32(std::vector<int64_t> shape, std::vector<int32_t> values) {
  return array(6, std::move(shape), std::move(values));
}
inline Array f32(std::vector<int64_t> shape, std::vector<float> values) {
  return array(1, std::move(shape), std::move(values));
}

/// Same types, shapes and integers; floats within 1e-5 of each other, relative and absolute.
inline void expectSame(const std::vector<Array> &got, const std::vector<Array> &want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].type, want[i].type);
    ASSERT_EQ(got[i].shape, want[i].shape);
    if (got[i].type != 1) {
      EXPECT_EQ(got[i].data, want[i].data) << "result " << i;
      continue;
    }
    auto at = [](const Array &a, size_t j) {
      float v;
      std::memcpy(&v, a.data.data() + 4 * j, 4);
      return v;
    };
    for (size_t j = 0; j < got[i].data.size() / 4; ++j) {
      float a = at(got[i], j), b = at(want[i], j);
      if (!(std::isnan(a) && std::isnan(b)))
        EXPECT_NEAR(a, b, 1e-5 * (1 + std::fabs(b))) << "result " << i << ", element " << j;
    }
  }
}

inline std::vector<Array> run(mlir::ModuleOp module, const std::vector<Array> &inputs,
                              const std::string &folder = ".") {
  reference::Interpreter interpreter(module, folder);
  auto results = interpreter.run(inputs);
  if (results)
    return *results;
  ADD_FAILURE() << llvm::toString(results.takeError());
  return {};
}

struct Folder {
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "moec-export-XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string file(const std::string &name) const { return (path / name).string(); }
  std::filesystem::path path;
};

} // namespace moec::export_test
