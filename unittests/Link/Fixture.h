// A folder with weight files, objects compiled from C, and a module over them.
#pragma once
#include "moec/Codegen/Link/Link.h"
#include "moec/Dialect/MoE/MoE.h"
#include "moert/format.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace fs = std::filesystem;

struct LinkTest : testing::Test {
  LinkTest() {
    context.loadDialect<moec::moe::MoEDialect>();
    folder = fs::path(testing::TempDir()) /
             ("link-" + std::to_string(getpid()) + "-" +
              testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder);
  }
  ~LinkTest() override { fs::remove_all(folder); }

  std::string path(const std::string &name) const { return (folder / name).string(); }

  static std::string read(const std::string &file) {
    std::ifstream in(file, std::ios::binary);
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
  }
  static void write(const std::string &file, const std::string &bytes) {
    std::ofstream(file, std::ios::binary).write(bytes.data(), std::streamsize(bytes.size()));
  }

  /// The bytes of an object compiled from C.
  std::string compile(const std::string &name, const std::string &code) {
    write(path(name + ".c"), "#include <moert/abi.h>\n" + code);
    std::string command = std::string(MOEC_TEST_CC) + " -c -fPIC -O1 -w -I" MOEC_TEST_INCLUDE " '" +
                          path(name + ".c") + "' -o '" + path(name + ".o") + "'";
    EXPECT_EQ(std::system(command.c_str()), 0);
    std::string object = read(path(name + ".o"));
    fs::remove(path(name + ".c"));
    fs::remove(path(name + ".o"));
    return object;
  }

  /// w.bin holds f32 numbers 0, 1, 2, ...; binds are `@name : tensor<TYPE>` loads from its start.
  void setWeights(int64_t floats, const std::vector<std::pair<std::string, std::string>> &binds) {
    std::vector<float> numbers(static_cast<size_t>(floats));
    for (size_t i = 0; i < numbers.size(); ++i)
      numbers[i] = value(int64_t(i));
    write(path("w.bin"), std::string(reinterpret_cast<char *>(numbers.data()), numbers.size() * 4));
    std::string text = "moe.weights @weights {\n";
    int64_t n = 0;
    for (auto &[name, type] : binds) {
      std::string v = "%" + std::to_string(n++);
      text += "  " + v + " = moe.weight.load \"w.bin\" at 0 : tensor<" + type + ">\n";
      text += "  moe.weight.bind @" + name + " " + v + " : tensor<" + type + ">\n";
    }
    module = mlir::parseSourceString<mlir::ModuleOp>(text + "}\n", &context);
    ASSERT_TRUE(module);
  }
  static float value(int64_t i) { return float(i % 2039) * 0.5f - 100; } // exact in f16

  moec::link::LinkInput input() {
    moec::link::LinkInput in;
    in.module = *module;
    in.folder = folder.string();
    in.hostObject = llvm::ArrayRef<char>(host.data(), host.size());
    in.program = program;
    in.compilerVersion = "moec test";
    in.kernels = kernels;
    return in;
  }

  /// Links to model.so; the error's text, or "".
  std::string link(const std::string &output = "model.so") {
    auto result = moec::link::linkLibrary(input(), path(output), [&](uint64_t bytes) {
      EXPECT_GE(bytes, packed);
      packed = bytes;
    });
    if (!result)
      return llvm::toString(result.takeError());
    report = *result;
    return "";
  }

  /// The slab of weight slot `slot` of model.moew.
  std::string slab(size_t slot, const moew_entry **entry = nullptr) {
    weights = read(path("model.moew"));
    auto *entries = reinterpret_cast<const moew_entry *>(weights.data() + sizeof(moew_header));
    if (entry)
      *entry = &entries[slot];
    EXPECT_EQ(entries[slot].offset % MOEW_ALIGNMENT, 0u);
    return weights.substr(entries[slot].offset, entries[slot].length);
  }

  std::set<std::string> files() const {
    std::set<std::string> names;
    for (auto &entry : fs::directory_iterator(folder))
      names.insert(entry.path().filename().string());
    return names;
  }

  mlir::MLIRContext context;
  fs::path folder;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  std::string host = "";
  moec::Program program;
  std::vector<moec::link::KernelVariant> kernels;
  moec::link::LinkReport report;
  uint64_t packed = 0;
  std::string weights;
};
