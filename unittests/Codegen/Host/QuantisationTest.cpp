// Narrow element types, conversions to and from them, linear quantisation.
#include "Compiled.h"
#include <cmath>

using namespace moec::host::test;

namespace {

const char *const narrowFloats[] = {"f8E4M3FN", "f8E4M3FNUZ", "f8E5M2",
                                    "f8E5M2FNUZ", "f4E2M1FN", "f8E8M0FNU"};
const std::pair<const char *, int> codes[] = {
    {"f8E4M3FN", 17}, {"f8E4M3FNUZ", 18}, {"f8E5M2", 19}, {"f8E5M2FNUZ", 20}, {"ui4", 21},
    {"i4", 22},       {"f4E2M1FN", 23},   {"f8E8M0FNU", 24}, {"ui2", 25},     {"i2", 26},
    {"f32", 1},       {"f16", 10},        {"i32", 6},     {"ui8", 2},         {"i8", 3}};

int codeOf(const std::string &type) {
  for (auto [name, code] : codes)
    if (type == name)
      return code;
  return 0;
}

std::string castTo(const std::string &type, const std::string &more = "") {
  return "{to = " + std::to_string(codeOf(type)) + " : i64" + more + "}";
}

/// Values on, between and beyond what 8 bits hold.
Numbers manyFloats() {
  std::vector<double> values = {0, 1, 1.5, 6, 7, 240, 248, 448, 464, 465, 57344, 61440, 65536, 1e30};
  values.push_back(INFINITY);
  for (int e = -24; e < 18; ++e)
    for (double m : {1.0, 1.0625, 1.125, 1.1875, 1.25, 1.3, 1.5, 1.625, 1.75, 1.9})
      values.push_back(std::ldexp(m, e));
  for (size_t i = 0, n = values.size(); i < n; ++i)
    values.push_back(-values[i]);
  values.push_back(NAN);
  return f32({static_cast<int64_t>(values.size())}, values);
}

TEST(Narrow, FloatsFromF32) {
  for (const char *type : narrowFloats) {
    bool powers = std::string(type) == "f8E8M0FNU"; // which has no negative numbers
    Numbers x = manyFloats();
    if (powers)
      for (double &v : x.values)
        v = std::fabs(v);
    if (std::string(type) == "f4E2M1FN") // nor has this one a NaN
      x.values.back() = 0;
    for (const char *more : {"", ", saturate = 0 : i64"})
      expectSame({"onnx.Cast", castTo(type, more), {x}, {type}});
    if (powers)
      for (const char *round : {", round_mode = \"down\"", ", round_mode = \"nearest\""})
        expectSame({"onnx.Cast", castTo(type, round), {x}, {type}});
  }
}

TEST(Narrow, FloatsToF32) {
  for (const char *type : narrowFloats) {
    // All of them, by way of bytes: cast there is exact.
    Numbers x = manyFloats();
    for (double &v : x.values)
      v = std::isfinite(v) ? std::min(std::fabs(v), 6.0) : 1;
    x.type = type;
    expectSame({"onnx.Cast", castTo("f32"), {x}, {"f32"}});
    expectSame({"onnx.Cast", castTo("f16"), {x}, {"f16"}});
    expectSame({"onnx.Transpose", "{perm = array<i64: 1, 0>}",
                {{type, {2, 3}, {1, 2, 4, 0.5, 1, 2}}}, {type}});
  }
}

TEST(Narrow, Integers) {
  Numbers x{"i32", {10}, {-9, -8, -3, -1, 0, 1, 3, 7, 8, 17}};
  for (const char *type : {"ui4", "i4", "ui2", "i2"}) {
    expectSame({"onnx.Cast", castTo(type), {x}, {type}});
    Numbers small{type, {4}, {0, 1, type[0] == 'u' ? 2.0 : -2.0, type[0] == 'u' ? 3.0 : -1.0}};
    for (const char *to : {"f32", "i32", "ui8", "i8"})
      expectSame({"onnx.Cast", castTo(to), {small}, {to}});
  }
}

TEST(Quantisation, OneScale) {
  Numbers x = f32({2, 4}, {-3, -1.5, -0.2, 0, 0.3, 1.6, 200, NAN});
  for (auto [type, zero] : {std::pair("ui8", 128.0), {"i8", -3.0}, {"ui16", 7.0}, {"i16", -7.0},
                            {"ui4", 3.0}, {"i4", -1.0}, {"ui2", 1.0}, {"i2", -1.0}}) {
    expectSame({"onnx.QuantizeLinear", "", {x, f32({}, {0.1}), {type, {}, {zero}}}, {type}});
    Numbers q{type, {3}, {0, 1, type[0] == 'u' ? 3.0 : -1.0}};
    expectSame({"onnx.DequantizeLinear", "", {q, f32({}, {0.25}), {type, {}, {zero}}}});
    expectSame({"onnx.DequantizeLinear", "", {q, {"f16", {1}, {0.5}}, absent()}, {"f16"}});
  }
  expectSame({"onnx.QuantizeLinear", "{output_dtype = 3 : i64}", {x, f32({}, {0.1}), absent()}, {"i8"}});
  expectSame({"onnx.QuantizeLinear", "", {x, f32({}, {0.1}), absent()}, {"ui8"}});
  for (const char *type : {"f8E4M3FN", "f8E5M2"})
    for (const char *saturate : {"", "{saturate = 0 : i64}"})
      expectSame({"onnx.QuantizeLinear", saturate,
                  {f32({3}, {1, 2e4, -1e9}), f32({}, {2}), {type, {}, {0}}}, {type}});
  expectSame({"onnx.DequantizeLinear", "", {{"i32", {3}, {-70000, 0, 5}}, f32({}, {0.5}), absent()}});
}

TEST(Quantisation, ScaleForEachIndexOfAnAxis) {
  std::mt19937 random(11);
  Numbers x = moec::reference::test::randomNumbers(random, {2, 3, 2}, 20);
  Numbers scale = f32({3}, {0.5, 1, 2}), zero{"ui8", {3}, {3, 100, 200}};
  expectSame({"onnx.QuantizeLinear", "{axis = 1 : i64}", {x, scale, zero}, {"ui8"}});
  expectSame({"onnx.QuantizeLinear", "{axis = -2 : i64}", {x, scale, zero}, {"ui8"}});
  Numbers q{"ui8", {2, 3, 2}, {1, 2, 3, 4, 5, 6, 250, 251, 252, 253, 254, 255}};
  expectSame({"onnx.DequantizeLinear", "{axis = 1 : i64}", {q, scale, zero}});
}

TEST(Quantisation, ScaleForEachBlock) {
  Numbers q{"i4", {2, 6}, {-8, -7, -6, -5, -4, -3, 0, 1, 2, 3, 4, 7}};
  Numbers scale = f32({2, 2}, {0.5, 1, 2, 4}), zero{"i4", {2, 2}, {0, 1, -1, 2}};
  for (const char *attributes : {"{axis = 1 : i64, block_size = 3 : i64}",
                                 "{axis = 1 : i64, block_size = 5 : i64}"}) {
    expectSame({"onnx.DequantizeLinear", attributes, {q, scale, zero}});
    expectSame({"onnx.QuantizeLinear", attributes,
                {f32({2, 6}, {-4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7}), scale, zero}, {"i4"}});
  }
}

} // namespace
