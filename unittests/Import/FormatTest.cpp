// Files as bytes: every form that tensor data comes in, and every way to damage a file.
#include "Build.h"

#include "gtest/gtest.h"
#include <cstring>
#include <random>

namespace {

const char *kProduct = R"(
  <ir_version: 10, opset_import: ["" : 20]>
  g (float[N, 4] x) => (float[N, 4] y) { y = Add(x, w) })";

struct Format : testing::Test {
  Importer import;

  static void expectOneError(const Imported &result, llvm::StringRef part) {
    EXPECT_TRUE(result.text.empty());
    ASSERT_EQ(result.errors.size(), 1u);
    EXPECT_NE(result.errors[0].find(part.str()), std::string::npos) << result.errors[0];
    EXPECT_EQ(result.errors[0].find('\n'), std::string::npos) << result.errors[0];
  }
  static void expectText(const Imported &result, llvm::StringRef part) {
    EXPECT_TRUE(result.errors.empty()) << result.errors[0];
    EXPECT_NE(result.text.find(part.str()), std::string::npos) << result.text;
  }
};

TEST_F(Format, RawDataStaysInTheFile) {
  onnx::ModelProto model = parseModel(kProduct);
  std::string data = "abcdefghijklmnop";
  addWeight(model, "w", onnx::TensorProto::FLOAT, {4})->set_raw_data(data);
  std::string bytes = model.SerializeAsString();
  expectText(import(bytes), "moe.weight.load \"model.onnx\" at " +
                                std::to_string(bytes.find(data)) + " : tensor<4xf32>");
}

TEST_F(Format, PackedFloatsStayInTheFile) {
  onnx::ModelProto model = parseModel(kProduct);
  auto *w = addWeight(model, "w", onnx::TensorProto::FLOAT, {4});
  for (float v : {1.5f, 2.5f, 3.5f, 4.5f})
    w->add_float_data(v);
  std::string bytes = model.SerializeAsString();
  float first = 1.5f;
  std::string data(reinterpret_cast<char *>(&first), 4);
  expectText(import(bytes), "at " + std::to_string(bytes.find(data)) + " : tensor<4xf32>");
}

// A field of the tensor by hand, a number at a time instead of packed.
TEST_F(Format, UnpackedFloats) {
  onnx::ModelProto model = parseModel(kProduct);
  auto *w = addWeight(model, "w", onnx::TensorProto::FLOAT, {4});
  std::string fields;
  for (float v : {1.0f, 2.0f, 3.0f, 4.0f}) {
    fields.push_back(char(4 << 3 | 5));
    fields.append(reinterpret_cast<char *>(&v), 4);
  }
  ASSERT_TRUE(w->MergeFromString(fields));
  w->clear_float_data();
  // protobuf packs what it writes, so the message is put together here: graph > initializer.
  std::string tensor = w->SerializeAsString() + fields;
  model.mutable_graph()->clear_initializer();
  std::string graph;
  graph.push_back(char(5 << 3 | 2));
  graph.push_back(char(tensor.size()));
  graph += tensor;
  std::string bytes = model.SerializeAsString();
  bytes.push_back(char(7 << 3 | 2)); // a second graph field is merged with the first
  bytes.push_back(char(graph.size()));
  bytes += graph;
  expectText(import(bytes), "dense<[1.000000e+00, 2.000000e+00, 3.000000e+00, 4.000000e+00]>");
}

TEST_F(Format, NumbersInOtherFields) {
  struct Case {
    int32_t type;
    std::function<void(onnx::TensorProto &)> fill;
    const char *want;
  };
  auto int32s = [](std::vector<int32_t> values) {
    return [=](onnx::TensorProto &t) {
      for (int32_t v : values)
        t.add_int32_data(v);
    };
  };
  using T = onnx::TensorProto;
  std::vector<Case> cases = {
      {T::FLOAT16, int32s({0x3c00, 0x4000, 0xc000, 0}), "dense<[1.000000e+00, 2.000000e+00, "
                                                        "-2.000000e+00, 0.000000e+00]> : tensor<4xf16>"},
      {T::BFLOAT16, int32s({0x3f80, 0x4000, 0xbf80, 0}), "dense<[1.000000e+00, 2.000000e+00, "
                                                         "-1.000000e+00, 0.000000e+00]> : tensor<4xbf16>"},
      {T::INT8, int32s({-1, 2, -128, 127}), "dense<[-1, 2, -128, 127]> : tensor<4xi8>"},
      {T::UINT8, int32s({255, 2, 0, 127}), "dense<[255, 2, 0, 127]> : tensor<4xui8>"},
      {T::INT16, int32s({-1, 2, 3, 4}), "dense<[-1, 2, 3, 4]> : tensor<4xi16>"},
      {T::INT4, int32s({0x21, 0xf8}), "dense<[1, 2, -8, -1]> : tensor<4xi4>"},
      {T::UINT64,
       [](T &t) {
         for (uint64_t v : {~uint64_t(0), uint64_t(1), uint64_t(2), uint64_t(3)})
           t.add_uint64_data(v);
       },
       "dense<[18446744073709551615, 1, 2, 3]> : tensor<4xui64>"},
      {T::UINT32,
       [](T &t) {
         for (uint64_t v : {0xffffffffull, 1ull, 2ull, 3ull})
           t.add_uint64_data(v);
       },
       "dense<[4294967295, 1, 2, 3]> : tensor<4xui32>"},
      {T::INT64,
       [](T &t) {
         for (int64_t v : {-1, 1, 2, 3})
           t.add_int64_data(v);
       },
       "dense<[-1, 1, 2, 3]> : tensor<4xi64>"},
      {T::INT32, int32s({-7, 1, 2, 3}), "dense<[-7, 1, 2, 3]> : tensor<4xi32>"},
      {T::BOOL, int32s({1, 0, 1, 1}), "dense<[true, false, true, true]> : tensor<4xi1>"}};
  for (const Case &test : cases) {
    SCOPED_TRACE(test.want);
    onnx::ModelProto model = parseModel(R"(<ir_version: 10, opset_import: ["" : 25]>
      g (float[4] x) => (float[4] y) { z = Identity(w)
                                       y = Identity(x) })");
    test.fill(*addWeight(model, "w", test.type, {4}));
    expectText(import(model), test.want);
    model.mutable_graph()->mutable_initializer(0)->set_dims(0, 2);
    EXPECT_EQ(import(model).errors.size(), 1u); // too much data
    model.mutable_graph()->mutable_initializer(0)->set_dims(0, 5);
    EXPECT_EQ(import(model).errors.size(), 1u); // too little
  }
}

TEST_F(Format, DataThatDoesNotFit) {
  onnx::ModelProto model = parseModel(kProduct);
  auto *w = addWeight(model, "w", onnx::TensorProto::FLOAT, {4});
  expectOneError(import(model), "initializer \"w\" has no data");
  w->set_raw_data(std::string(15, 'q'));
  expectOneError(import(model), "initializer \"w\" has 15 bytes of data, its type needs 16");
  w->set_dims(0, -4);
  expectOneError(import(model), "initializer \"w\" has the negative dimension -4");
  w->set_dims(0, int64_t(1) << 62);
  w->add_dims(int64_t(1) << 62);
  expectOneError(import(model), "more than 2^48 elements");
  w->clear_dims();
  w->add_dims(int64_t(1) << 40);
  expectOneError(import(model), "its type needs 4398046511104");
  w->clear_dims();
  w->add_dims(4);
  w->set_data_type(onnx::TensorProto::STRING);
  expectOneError(import(model), "unsupported element type STRING");
  w->set_data_type(77);
  expectOneError(import(model), "unsupported element type 77");
}

TEST_F(Format, NotAModel) {
  expectOneError(import(std::string()), "the file is empty");
  expectOneError(import("hello, I am text\n"), "not an ONNX file");
  expectOneError(import(std::string(1000, '\xff')), "not an ONNX file");
  expectOneError(import("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
                 "is a Git LFS pointer, not the data: run git lfs pull");
  onnx::ModelProto model;
  model.set_ir_version(10);
  expectOneError(import(model), "the model has no graph");
  model.clear_ir_version();
  model.set_producer_name("someone");
  expectOneError(import(model), "not an ONNX file");
}

TEST_F(Format, LyingLengths) {
  // A graph of 2^60 bytes: refused by its length, not read or allocated.
  std::string bytes = {char(1 << 3), 10, char(7 << 3 | 2)};
  bytes += "\xff\xff\xff\xff\xff\xff\xff\xff\x0f";
  expectOneError(import(bytes), "truncated");
}

TEST_F(Format, DeepNesting) {
  // Graphs in graphs, 3000 deep.
  std::string graph;
  auto wrap = [](uint32_t field, const std::string &inner) {
    std::string out(1, char(field << 3 | 2));
    for (size_t n = inner.size(); ; n >>= 7) {
      out.push_back(char(n >= 128 ? (n & 127) | 128 : n));
      if (n < 128)
        break;
    }
    return out + inner;
  };
  for (int i = 0; i < 3000; ++i)
    graph = wrap(1, wrap(5, wrap(6, graph)));
  expectOneError(import(std::string({char(1 << 3), 10}) + wrap(7, graph)), "nested");
}

onnx::ModelProto rich() {
  onnx::ModelProto model = parseModel(R"(
    <ir_version: 10, opset_import: ["" : 17, "com.microsoft" : 1, "local" : 1]>
    g (float[N, 4] x, bool c) => (float[N, M] y) <int64[2] shape = {0, -1}> {
      a = local.twice(x)
      b = MatMul(a, w)
      k = Constant<value = int64[1] {2}>()
      values, ids = TopK(b, k)
      s = com.microsoft.QuickGelu<alpha = 1.5>(values)
      r = If(c) <then_branch = t () => (float[N, 2] u) { u = Relu(s) },
                 else_branch = e () => (float[N, 2] v) { v = Add(s, s) }>
      y = Reshape(r, shape)
    }
    <domain: "local", opset_import: ["" : 17]>
    twice (p) => (q) { q = Add(p, p) })");
  addWeight(model, "w", onnx::TensorProto::FLOAT, {4, 4})->set_raw_data(std::string(64, '\0'));
  return model;
}

TEST_F(Format, TheRichModelIsImported) {
  Imported result = import(rich());
  EXPECT_TRUE(result.errors.empty()) << result.errors[0];
  for (const char *part : {"onnx.Add", "onnx.MatMul", "onnx.TopK", "onnx.custom", "onnx.If",
                           "onnx.yield", "onnx.Reshape"})
    expectText(result, part);
}

// Cut off after every byte: an error of one line or, where only fields at the end are lost, a
// module; never a crash.
TEST_F(Format, TruncationAtEveryByte) {
  std::string bytes = rich().SerializeAsString();
  for (size_t length = 0; length < bytes.size(); ++length) {
    SCOPED_TRACE(length);
    Imported result = import(bytes.substr(0, length));
    EXPECT_EQ(result.text.empty(), !result.errors.empty());
    for (const std::string &error : result.errors)
      EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }
}

// Random damage. A failure prints its seed.
TEST_F(Format, Mutations) {
  std::string bytes = rich().SerializeAsString();
  for (unsigned seed = 0; seed < 800; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    std::string changed = bytes;
    for (unsigned i = 0, n = 1 + random() % 4; i < n; ++i) {
      size_t at = random() % changed.size();
      switch (random() % 4) {
      case 0: changed[at] = char(random()); break;
      case 1: changed[at] = char(changed[at] ^ (1 << random() % 8)); break;
      case 2: changed.erase(at, 1 + random() % 8); break;
      case 3: changed.insert(at, changed.substr(random() % changed.size(), random() % 16)); break;
      }
      if (changed.empty())
        changed = "x";
    }
    Imported result = import(changed);
    EXPECT_EQ(result.text.empty(), !result.errors.empty());
    for (const std::string &error : result.errors)
      EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }
}

} // namespace
