#include "TestSets.h"
#include "Run.h"
#include "moec/Import/Import.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include <chrono>
#include <cmath>
#include <onnx/onnx_pb.h>

namespace moec::reference::test {

namespace {

template <class T, class List>
void copyAs(const List &list, std::vector<char> &out) {
  for (auto v : list) {
    T value = static_cast<T>(v);
    out.insert(out.end(), reinterpret_cast<char *>(&value),
               reinterpret_cast<char *>(&value) + sizeof value);
  }
}

// The typed fields of a TensorProto: 16-bit floats are stored as bits in int32_data.
bool typedData(const ::onnx::TensorProto &t, std::vector<char> &out) {
  switch (t.data_type()) {
  case 1:
    copyAs<float>(t.float_data(), out);
    return true;
  case 2:
  case 3:
  case 9:
  case 17 ... 26: // packed ones: bytes of several elements
    copyAs<uint8_t>(t.int32_data(), out);
    return true;
  case 4:
  case 5:
  case 10:
  case 16:
    copyAs<uint16_t>(t.int32_data(), out);
    return true;
  case 6:
    copyAs<int32_t>(t.int32_data(), out);
    return true;
  case 7:
    copyAs<int64_t>(t.int64_data(), out);
    return true;
  case 11:
    copyAs<double>(t.double_data(), out);
    return true;
  case 12:
    copyAs<uint32_t>(t.uint64_data(), out);
    return true;
  case 13:
    copyAs<uint64_t>(t.uint64_data(), out);
    return true;
  default:
    return false;
  }
}

bool isKnown(int type) {
  return (type >= 1 && type <= 13 && type != 8) || (type >= 16 && type <= 26);
}

// Elements of 4 or 2 bits, the first in the lowest bits of a byte, to one byte each.
void unpack(Array &a) {
  bool four = a.type >= 21 && a.type <= 23, two = a.type == 25 || a.type == 26;
  if (!four && !two)
    return;
  unsigned bits = four ? 4 : 2, mask = (1u << bits) - 1;
  size_t count = 1;
  for (int64_t d : a.shape)
    count *= static_cast<size_t>(d);
  std::vector<char> packed = std::move(a.data);
  a.data.assign(count, 0);
  for (size_t i = 0; i < count && i * bits / 8 < packed.size(); ++i) {
    unsigned v = static_cast<uint8_t>(packed[i * bits / 8]) >> (i * bits % 8) & mask;
    bool negative = (a.type == 22 || a.type == 26) && v > mask / 2;
    a.data[i] = static_cast<char>(negative ? v | ~mask : v);
  }
}

} // namespace

std::optional<Array> readTensor(const std::string &path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  ::onnx::TensorProto t;
  if (!buffer ||
      !t.ParseFromArray((*buffer)->getBufferStart(), static_cast<int>((*buffer)->getBufferSize())))
    return std::nullopt;
  Array a;
  a.type = t.data_type();
  a.shape.assign(t.dims().begin(), t.dims().end());
  if (!isKnown(a.type))
    return std::nullopt;
  if (t.has_raw_data())
    a.data.assign(t.raw_data().begin(), t.raw_data().end());
  else if (!typedData(t, a.data))
    return std::nullopt;
  unpack(a);
  return a;
}

std::vector<TestSet> readSets(const std::string &folder) {
  std::vector<TestSet> sets;
  for (int i = 0;; ++i) {
    TestSet set;
    set.name = "test_data_set_" + std::to_string(i);
    std::string at = folder + "/" + set.name + "/";
    if (!llvm::sys::fs::exists(at))
      return sets;
    bool whole = true;
    auto read = [&](const char *what, std::vector<Array> &to) {
      for (int j = 0;; ++j) {
        std::string path = at + what + "_" + std::to_string(j) + ".pb";
        if (!llvm::sys::fs::exists(path))
          return;
        auto array = readTensor(path);
        whole &= array.has_value();
        to.push_back(array.value_or(Array()));
      }
    };
    read("input", set.inputs);
    read("output", set.outputs);
    if (whole)
      sets.push_back(std::move(set));
  }
}

static std::string difference(const Array &gotArray, const Array &wantArray, double atol,
                              double rtol, double &largest) {
  Numbers got = toNumbers(gotArray), want = toNumbers(wantArray);
  // Test data written with numpy often holds a scalar with one axis.
  if (got.shape.empty() && want.shape == std::vector<int64_t>{1})
    want.shape.clear();
  if (got.type != want.type || got.shape != want.shape)
    return "another type or shape: " + got.type + " instead of " + want.type;
  for (size_t i = 0; i < want.values.size(); ++i) {
    double a = got.values[i], b = want.values[i];
    if (a == b || (std::isnan(a) && std::isnan(b)))
      continue;
    double d = std::fabs(a - b);
    largest = std::max(largest, d);
    if (!(d <= atol + rtol * std::fabs(b)))
      return "element " + std::to_string(i) + " is " + std::to_string(a) + " instead of " +
             std::to_string(b);
  }
  return "";
}

std::unique_ptr<mlir::MLIRContext> makeContext() {
  auto context = std::make_unique<mlir::MLIRContext>(mlir::MLIRContext::Threading::DISABLED);
  context->loadDialect<moec::onnx::OnnxDialect, moe::MoEDialect, mlir::func::FuncDialect>();
  return context;
}

Report check(mlir::MLIRContext &context, const std::string &path, const std::vector<TestSet> &sets,
             double atol, double rtol) {
  Report report;
  mlir::ScopedDiagnosticHandler handler(
      &context, [&](mlir::Diagnostic &d) { report.error += d.str() + "\n"; });
  auto module = importOnnx(path, context);
  if (!module) {
    report.error = "import: " + report.error;
  } else if (auto missing = collectUnsupported(*module); !missing.empty()) {
    report.error = missing[0].second + " " + missing[0].first->getName().getStringRef().str();
    report.unsupported = true;
    return report;
  }
  report.unsupported = report.error.find("unsupported") != std::string::npos;
  if (!module)
    return report;
  report.error.clear(); // warnings
  Interpreter interpreter(*module, llvm::sys::path::parent_path(path));
  for (const TestSet &set : sets) {
    auto start = std::chrono::steady_clock::now();
    auto got = interpreter.run(set.inputs);
    report.seconds +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (!got) {
      report.error = llvm::toString(got.takeError());
      report.unsupported = report.error.find("unsupported") != std::string::npos;
      return report;
    }
    if (got->size() != set.outputs.size()) {
      report.error = set.name + ": " + std::to_string(got->size()) + " outputs";
      return report;
    }
    for (size_t i = 0; i < got->size(); ++i)
      if (auto d = difference((*got)[i], set.outputs[i], atol, rtol, report.largest); !d.empty()) {
        report.error = set.name + ", output " + std::to_string(i) + ": " + d;
        return report;
      }
    ++report.sets;
  }
  return report;
}

} // namespace moec::reference::test
