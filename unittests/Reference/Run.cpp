#include "Run.h"
#include "llvm/ADT/APFloat.h"
#include <cmath>

namespace moec::reference::test {

namespace {

struct TypeRow {
  const char *name;
  int code;
  int bytes;
};
constexpr TypeRow types[] = {{"f32", 1, 4},  {"ui8", 2, 1},  {"i8", 3, 1},    {"ui16", 4, 2},
                             {"i16", 5, 2},  {"i32", 6, 4},  {"i64", 7, 8},   {"i1", 9, 1},
                             {"f16", 10, 2}, {"f64", 11, 8}, {"ui32", 12, 4}, {"ui64", 13, 8},
                             {"bf16", 16, 2},
                             {"f8E4M3FN", 17, 1},
                             {"f8E4M3FNUZ", 18, 1},
                             {"f8E5M2", 19, 1},
                             {"f8E5M2FNUZ", 20, 1},
                             {"ui4", 21, 1},
                             {"i4", 22, 1},
                             {"f4E2M1FN", 23, 1},
                             {"f8E8M0FNU", 24, 1},
                             {"ui2", 25, 1},
                             {"i2", 26, 1}};

const TypeRow &rowOf(const std::string &name) {
  for (const TypeRow &row : types)
    if (name == row.name)
      return row;
  throw std::runtime_error("no type " + name);
}
const TypeRow &rowOf(int code) {
  for (const TypeRow &row : types)
    if (code == row.code)
      return row;
  throw std::runtime_error("no type code");
}

// Small floats by LLVM's own arithmetic.
const llvm::fltSemantics &semantics(int code) {
  switch (code) {
  case 10:
    return llvm::APFloat::IEEEhalf();
  case 17:
    return llvm::APFloat::Float8E4M3FN();
  case 18:
    return llvm::APFloat::Float8E4M3FNUZ();
  case 19:
    return llvm::APFloat::Float8E5M2();
  case 20:
    return llvm::APFloat::Float8E5M2FNUZ();
  case 23:
    return llvm::APFloat::Float4E2M1FN();
  case 24:
    return llvm::APFloat::Float8E8M0FNU();
  default:
    return llvm::APFloat::BFloat();
  }
}

template <class T>
void put(char *to, double v) {
  T value = static_cast<T>(v);
  std::memcpy(to, &value, sizeof value);
}
template <class T>
double get(const char *from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return static_cast<double>(value);
}

void store(int code, char *to, double v) {
  switch (code) {
  case 1:
    return put<float>(to, v);
  case 2:
  case 21:
  case 25:
    return put<uint8_t>(to, v);
  case 3:
  case 22:
  case 26:
    return put<int8_t>(to, v);
  case 4:
    return put<uint16_t>(to, v);
  case 5:
    return put<int16_t>(to, v);
  case 6:
    return put<int32_t>(to, v);
  case 7:
    return put<int64_t>(to, v);
  case 9:
    return put<uint8_t>(to, v != 0);
  case 11:
    return put<double>(to, v);
  case 12:
    return put<uint32_t>(to, v);
  case 13:
    return put<uint64_t>(to, v);
  default: {
    llvm::APFloat f(v);
    bool lost;
    f.convert(semantics(code), llvm::APFloat::rmNearestTiesToEven, &lost);
    auto bits = static_cast<uint16_t>(f.bitcastToAPInt().getZExtValue());
    std::memcpy(to, &bits, rowOf(code).bytes);
  }
  }
}

double load(int code, const char *from) {
  switch (code) {
  case 1:
    return get<float>(from);
  case 2:
  case 9:
  case 21:
  case 25:
    return get<uint8_t>(from);
  case 3:
  case 22:
  case 26:
    return get<int8_t>(from);
  case 4:
    return get<uint16_t>(from);
  case 5:
    return get<int16_t>(from);
  case 6:
    return get<int32_t>(from);
  case 7:
    return get<int64_t>(from);
  case 11:
    return get<double>(from);
  case 12:
    return get<uint32_t>(from);
  case 13:
    return get<uint64_t>(from);
  default: {
    uint16_t bits = 0;
    std::memcpy(&bits, from, rowOf(code).bytes);
    unsigned width = code == 23 ? 4 : rowOf(code).bytes * 8;
    llvm::APFloat f(semantics(code), llvm::APInt(width, bits));
    bool lost;
    f.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &lost);
    return f.convertToDouble();
  }
  }
}

std::string tensorType(const Numbers &n) {
  if (n.type == "none")
    return "none";
  std::string text = "tensor<";
  for (int64_t d : n.shape)
    text += std::to_string(d) + "x";
  return text + n.type + ">";
}

} // namespace

Array toArray(const Numbers &n) {
  const TypeRow &row = rowOf(n.type);
  Array a;
  a.type = row.code;
  a.shape = n.shape;
  a.data.resize(n.values.size() * row.bytes);
  for (size_t i = 0; i < n.values.size(); ++i)
    store(row.code, a.data.data() + i * row.bytes, n.values[i]);
  return a;
}

Numbers toNumbers(const Array &a) {
  const TypeRow &row = rowOf(a.type);
  Numbers n{row.name, a.shape, {}};
  for (size_t i = 0; i < a.data.size(); i += row.bytes)
    n.values.push_back(load(row.code, a.data.data() + i));
  return n;
}

Outcome runModule(const std::string &ir, const std::vector<Numbers> &inputs,
                  const std::string &folder) {
  mlir::MLIRContext context;
  context.loadDialect<onnx::OnnxDialect, moe::MoEDialect, mlir::func::FuncDialect>();
  std::string message;
  mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &d) { message += d.str(); });
  // Unverified: tests leave out trailing inputs, and give ops what verifiers would refuse.
  mlir::ParserConfig config(&context, /*verifyAfterParse=*/false);
  auto module = mlir::parseSourceString<mlir::ModuleOp>(ir, config);
  if (!module) {
    return {{}, "does not parse: " + message + "\n" + ir};
  }
  std::vector<Array> arrays;
  for (const Numbers &n : inputs)
    arrays.push_back(toArray(n));
  Interpreter interpreter(*module, folder);
  auto results = interpreter.run(arrays);
  Outcome out;
  if (!results) {
    out.error = llvm::toString(results.takeError());
    return out;
  }
  for (const Array &a : *results)
    out.results.push_back(toNumbers(a));
  return out;
}

Outcome runOp(const std::string &name, const std::string &attributes,
              const std::vector<Numbers> &inputs, const std::vector<std::string> &results) {
  std::string parameters, operands, types, outs, returned, returnedTypes;
  std::vector<Numbers> given;
  for (size_t i = 0; i < inputs.size(); ++i) {
    std::string type = tensorType(inputs[i]), comma = i ? ", " : "";
    types += comma + type;
    if (inputs[i].type == "none") {
      operands += comma + "%none";
      continue;
    }
    std::string value = "%a" + std::to_string(i);
    operands += comma + value;
    parameters += (given.empty() ? "" : ", ") + value + ": " + type;
    given.push_back(inputs[i]);
  }
  for (size_t i = 0; i < results.size(); ++i) {
    bool wanted = results[i] != "none";
    std::string type = wanted ? "tensor<*x" + results[i] + ">" : "none", comma = i ? ", " : "";
    outs += comma + type;
    if (!wanted)
      continue;
    std::string value = "%r#" + std::to_string(i);
    returned += (returned.empty() ? "" : ", ") + value;
    returnedTypes += (returnedTypes.empty() ? "" : ", ") + type;
  }
  std::string count = ":" + std::to_string(results.size());
  return runModule("func.func @main(" + parameters + ") -> (" + returnedTypes + ") {\n" +
                       "  %none = \"onnx.none\"() : () -> none\n  %r" + count + " = \"" + name +
                       "\"(" + operands + ") " + attributes + " : (" + types + ") -> (" + outs +
                       ") loc(\"the node\")\n  return " + returned + " : " + returnedTypes +
                       "\n}\n",
                   given);
}

void expectNear(const Numbers &got, const Numbers &want, double tolerance) {
  EXPECT_EQ(got.type, want.type);
  ASSERT_EQ(got.shape, want.shape);
  ASSERT_EQ(got.values.size(), want.values.size());
  for (size_t i = 0; i < got.values.size(); ++i) {
    double a = got.values[i], b = want.values[i];
    if (a == b || (std::isnan(a) && std::isnan(b)))
      continue;
    EXPECT_LE(std::fabs(a - b), tolerance * (1 + std::fabs(b)))
        << "element " << i << ": " << a << " instead of " << b;
  }
}

void expectOp(const std::string &name, const std::string &attributes,
              const std::vector<Numbers> &inputs, const Numbers &want, double tolerance) {
  SCOPED_TRACE(name + " " + attributes);
  Outcome out = runOp(name, attributes, inputs, {want.type});
  ASSERT_EQ(out.error, "");
  ASSERT_EQ(out.results.size(), 1u);
  expectNear(out.results[0], want, tolerance);
}

void expectError(const std::string &name, const std::string &attributes,
                 const std::vector<Numbers> &inputs, const std::string &text) {
  SCOPED_TRACE(name + " " + attributes);
  Outcome out = runOp(name, attributes, inputs);
  EXPECT_NE(out.error.find(text), std::string::npos) << out.error;
  EXPECT_EQ(out.error.rfind("node \"the node\" (", 0), 0u) << out.error;
}

Numbers randomNumbers(std::mt19937 &random, std::vector<int64_t> shape, double scale) {
  std::normal_distribution<float> normal(0, static_cast<float>(scale));
  int64_t n = 1;
  for (int64_t d : shape)
    n *= d;
  Numbers out{"f32", std::move(shape), {}};
  for (int64_t i = 0; i < n; ++i)
    out.values.push_back(normal(random));
  return out;
}

} // namespace moec::reference::test
