// Elementwise ops, conversions and fusion, compared with the interpreter.
#include "Compiled.h"
#include <cmath>

using namespace moec::host::test;

namespace {

constexpr double inf = INFINITY, nan = NAN;
const Numbers points = f32({3, 7}, {-inf, -90,  -20, -3.5, -1,  -0.75, -0.5, -1e-3, 0,   1e-6, 0.1,
                                    0.5,  0.75, 1,   1.5,  2.5, 3.5,   20,   88,    inf, nan});

TEST(Elementwise, FloatFunctions) {
  for (const char *name : {"Abs",         "Neg",      "Sign",     "Ceil",
                           "Floor",       "Round",    "Sqrt",     "Reciprocal",
                           "Exp",         "Log",      "Sin",      "Cos",
                           "Atan",        "Tanh",     "Erf",      "Sigmoid",
                           "Relu",        "Softplus", "Softsign", "HardSwish",
                           "Mish",        "IsNaN",    "IsInf",    "LeakyRelu",
                           "Elu",         "Celu",     "Selu",     "ThresholdedRelu",
                           "HardSigmoid", "Gelu",     "Shrink",   "Swish",
                           "Asinh",       "Sinh",     "Cosh"}) {
    std::string result = std::string(name).rfind("Is", 0) == 0 ? "i1" : "f32";
    Numbers x = points;
    if (std::string(name) == "Sin" || std::string(name) == "Cos" || name == std::string("Mish"))
      x.values[0] = 4000, x.values[19] = 12345;
    expectSame({.name = "onnx." + std::string(name), .inputs = {x}, .results = {result}});
  }
  Numbers unit = f32({5}, {-1, -0.5, 0, 0.25, 1});
  for (const char *name : {"Asin", "Acos", "Atanh", "Tan"})
    expectSame({.name = "onnx." + std::string(name), .inputs = {unit}});
  expectSame({.name = "onnx.Acosh", .inputs = {f32({3}, {1, 1.5, 20})}});
  expectSame({.name = "onnx.Gelu", .attributes = "{approximate = \"tanh\"}", .inputs = {points}});
}

TEST(Elementwise, BroadcastsAndRanks) {
  Numbers a = f32({2, 3, 4}, {}), b = f32({3, 1}, {2, -3, 0.5}), c = f32({}, {1.25});
  for (int i = 0; i < 24; ++i)
    a.values.push_back(i * 0.37 - 4);
  for (const char *name : {"Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu"})
    expectSame({.name = "onnx." + std::string(name), .inputs = {a, b}});
  for (const char *name : {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"})
    expectSame({.name = "onnx." + std::string(name), .inputs = {a, c}, .results = {"i1"}});
  expectSame({.name = "onnx.Sum", .inputs = {a, b, c}});
  expectSame({.name = "onnx.Mean", .inputs = {a, b, c}});
  expectSame({.name = "onnx.Clip", .inputs = {a, f32({}, {-1}), f32({}, {2})}});
  expectSame({.name = "onnx.Clip", .inputs = {a, absent(), f32({}, {2})}});
  expectSame({.name = "onnx.Where", .inputs = {boolean({4}, {1, 0, 0, 1}), a, b}});
}

TEST(Elementwise, NaNs) {
  Numbers x = f32({4}, {nan, 1, nan, 3}), y = f32({4}, {1, nan, nan, 2});
  for (const char *name : {"Max", "Min"})
    expectSame({.name = "onnx." + std::string(name), .inputs = {x, y}});
}

TEST(Elementwise, Powers) {
  Numbers x = f32({4}, {-2, 0.5, 3, 0});
  for (double p : {2.0, 1.0, 3.0, -1.0, 0.0})
    expectSame({.name = "onnx.Pow", .inputs = {x, f32({}, {p})}, .constants = {1}});
  expectSame({.name = "onnx.Pow", .inputs = {f32({2}, {4, 2}), f32({}, {0.5})}, .constants = {1}});
  expectSame({.name = "onnx.Pow", .inputs = {x, i64({4}, {2, 3, 1, 0})}});
  expectSame({.name = "onnx.Pow",
              .inputs = {i64({3}, {-2, 3, 7}), i64({3}, {3, 2, 0})},
              .results = {"i64"}});
}

TEST(Elementwise, Integers) {
  for (const char *type : {"i8", "ui8", "i16", "ui16", "i32", "ui32", "i64", "ui64"}) {
    bool sign = type[0] == 'i';
    Numbers x{type, {6}, {100, 7, 120, 3, sign ? -7.0 : 7, 0}};
    Numbers y{type, {6}, {3, 7, 119, 2, 3, sign ? -5.0 : 5}};
    for (const char *name :
         {"Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "BitwiseAnd", "BitwiseOr", "BitwiseXor"})
      expectSame({.name = "onnx." + std::string(name), .inputs = {x, y}, .results = {type}});
    for (const char *name : {"Equal", "Less", "Greater"})
      expectSame({.name = "onnx." + std::string(name), .inputs = {x, y}, .results = {"i1"}});
    expectSame({.name = "onnx.Mod",
                .attributes = "{fmod = 1 : i64}",
                .inputs = {x, y},
                .results = {type}});
    expectSame({.name = "onnx.BitwiseNot", .inputs = {x}, .results = {type}});
    if (sign)
      for (const char *name : {"Abs", "Neg", "Sign"})
        expectSame({.name = "onnx." + std::string(name), .inputs = {x}, .results = {type}});
  }
  Numbers x{"ui8", {3}, {1, 128, 255}}, by{"ui8", {3}, {1, 7, 3}};
  for (const char *direction : {"LEFT", "RIGHT"})
    expectSame({.name = "onnx.BitShift",
                .attributes = std::string("{direction = \"") + direction + "\"}",
                .inputs = {x, by},
                .results = {"ui8"}});
  expectSame({.name = "onnx.Mod",
              .attributes = "{fmod = 1 : i64}",
              .inputs = {f32({3}, {5.5, -5.5, 3}), f32({3}, {2, 2, -2})}});
}

TEST(Elementwise, Booleans) {
  Numbers x = boolean({4}, {0, 0, 1, 1}), y = boolean({4}, {0, 1, 0, 1});
  for (const char *name : {"And", "Or", "Xor", "Equal"})
    expectSame({.name = "onnx." + std::string(name), .inputs = {x, y}, .results = {"i1"}});
  expectSame({.name = "onnx.Not", .inputs = {x}, .results = {"i1"}});
}

TEST(Elementwise, Casts) {
  const std::pair<const char *, int> types[] = {
      {"f32", 1}, {"ui8", 2},  {"i8", 3},   {"i16", 5},   {"i32", 6},   {"i64", 7},
      {"i1", 9},  {"f16", 10}, {"f64", 11}, {"ui32", 12}, {"ui64", 13}, {"bf16", 16}};
  for (auto [from, _] : types)
    for (auto [to, code] : types) {
      Numbers x{from, {5}, {0, 1, 3, 100, 17}};
      if (from[0] == 'f' || from[0] == 'b')
        x.values = {0, 1, 3.140625, 100.5, 0.333251953125};
      expectSame({.name = "onnx.Cast",
                  .attributes = "{to = " + std::to_string(code) + " : i64}",
                  .inputs = {x},
                  .results = {to},
                  .tolerance = 0});
    }
  // Rounded once, to nearest even; infinities and NaN stay.
  Numbers x{"f64", {6}, {1.00048828125, 1.00048828125 + 1e-12, 65520, -1e-9, inf, nan}};
  for (auto [to, code] : {std::pair("f16", 10), std::pair("bf16", 16), std::pair("f32", 1)})
    expectSame({.name = "onnx.Cast",
                .attributes = "{to = " + std::to_string(code) + " : i64}",
                .inputs = {x},
                .results = {to},
                .tolerance = 0});
}

TEST(Elementwise, HalfPrecisionRoundsEachOp) {
  for (const char *type : {"f16", "bf16"}) {
    Numbers x{type, {5}, {0.1, 1.7, -3.3, 1000, 0.007}}, y{type, {5}, {0.3, -1.1, 7, 3, 11}};
    std::string t = "tensor<5x" + std::string(type) + ">";
    expectSameModule("func.func @main(%x: " + t + ", %y: " + t + ") -> " + t +
                         " {\n"
                         "  %0 = onnx.Mul(%x, %y) : (" +
                         t + ", " + t + ") -> " + t +
                         "\n"
                         "  %1 = onnx.Add(%0, %x) : (" +
                         t + ", " + t + ") -> " + t +
                         "\n"
                         "  %2 = onnx.Sigmoid(%1) : (" +
                         t + ") -> " + t +
                         "\n"
                         "  %3 = onnx.Mul(%2, %1) : (" +
                         t + ", " + t + ") -> " + t +
                         "\n"
                         "  return %3 : " +
                         t + "\n}\n",
                     {x, y}, 0);
  }
}

} // namespace
