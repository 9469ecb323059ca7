// A model with probes, compiled and run: the profile holds what the model's formula says.
#include "../../lib/Driver/Profiling.h"

#include "moec/Driver/Error.h"

#include "llvm/Support/FormatVariadic.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <random>

using namespace moec;
using Numbers = std::vector<float>;

namespace {

constexpr int64_t E = 3, K = 2, H = 4, I = 2, T = 12;

// Expert e is down[e] up[e] x; the logits are r times `router`, the experts' input is 2 r, and the
// result is added to r.
struct Formula {
  Numbers up, down, router, r;

  explicit Formula(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (auto [values, n] : {std::pair(&up, E * I * H), std::pair(&down, E * H * I),
                             std::pair(&router, H * E), std::pair(&r, T * H)}) {
      values->resize(size_t(n));
      for (float &v : *values)
        v = normal(random);
    }
  }

  double logit(int64_t t, int64_t e) const {
    double z = 0;
    for (int64_t h = 0; h < H; ++h)
      z += double(r[t * H + h]) * router[h * E + e];
    return z;
  }
  // The chosen experts and their weights: softmax over all.
  std::vector<std::pair<int64_t, double>> chosen(int64_t t) const {
    std::vector<std::pair<int64_t, double>> all;
    double sum = 0;
    for (int64_t e = 0; e < E; ++e) {
      all.push_back({e, std::exp(logit(t, e))});
      sum += all.back().second;
    }
    std::sort(all.begin(), all.end(), [](auto a, auto b) { return a.second > b.second; });
    all.resize(K);
    for (auto &[id, weight] : all)
      weight /= sum;
    return all;
  }
  std::vector<double> output(int64_t t, int64_t e) const {
    std::vector<double> y(H);
    for (int64_t h = 0; h < H; ++h)
      for (int64_t i = 0; i < I; ++i)
        for (int64_t c = 0; c < H; ++c)
          y[h] += double(down[(e * H + h) * I + i]) * up[(e * I + i) * H + c] * 2 * r[t * H + c];
    return y;
  }

  static std::string text(const Numbers &v) {
    std::string list;
    for (size_t i = 0; i < v.size(); ++i)
      list += (i ? ", " : "") + llvm::formatv("{0:E8}", v[i]).str();
    return list;
  }
  // A literal of that shape.
  static std::string dense(const Numbers &v, std::vector<int64_t> shape) {
    if (shape.empty())
      return llvm::formatv("{0:E8}", v[0]).str();
    size_t part = v.size() / size_t(shape[0]);
    std::string list;
    for (int64_t i = 0; i < shape[0]; ++i)
      list += (i ? ", " : "[") + dense(Numbers(v.begin() + i * part, v.begin() + (i + 1) * part),
                                       {shape.begin() + 1, shape.end()});
    return list + "]";
  }

  std::string ir() const {
    return llvm::formatv(R"(
      moe.weights @weights {{
        %u = moe.weight.literal dense<{0}> : tensor<3x2x4xf32>
        %d = moe.weight.literal dense<{1}> : tensor<3x4x2xf32>
        moe.weight.bind @up %u : tensor<3x2x4xf32>
        moe.weight.bind @down %d : tensor<3x4x2xf32>
      }
      moe.bank @layer0 experts(3) hidden(4) inter(2)
          body(#moe.ffn<gated = false, activation = "identity">) up(@up) down(@down)
      func.func @main(%r: tensor<?x4xf32> {{onnx.name = "r"}) -> tensor<?x4xf32> {{
        %m = onnx.Constant {{value = dense<{2}> : tensor<4x3xf32>} : () -> tensor<4x3xf32>
        %x = onnx.Add(%r, %r) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
        %z = onnx.MatMul(%r, %m) : (tensor<?x4xf32>, tensor<4x3xf32>) -> tensor<?x3xf32>
        %i, %w = moe.route(%z) router<score = softmax, k = 2>
            : (tensor<?x3xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
        %y = moe.experts @layer0(%x, %i, %w)
            : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x4xf32>
        %o = onnx.Add(%r, %y) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
        return %o : tensor<?x4xf32>
      })",
                         dense(up, {E, I, H}), dense(down, {E, H, I}), dense(router, {H, E}))
        .str();
  }
};

struct Profiled : testing::Test {
  std::filesystem::path folder = std::filesystem::path(testing::TempDir()) /
                                 testing::UnitTest::GetInstance()->current_test_info()->name();
  void SetUp() override { std::filesystem::create_directories(folder); }
  void TearDown() override { std::filesystem::remove_all(folder); }

  llvm::Expected<Profile> profile(const std::string &ir, const Numbers &r, ProfileOptions options) {
    std::string file = folder / "model.mlir", array = folder / "r.npy";
    std::ofstream(file) << ir;
    Tensor tensor(DType::f32, {int64_t(r.size()) / H, H});
    std::memcpy(tensor.data.data(), r.data(), r.size() * sizeof(float));
    EXPECT_FALSE(bool(writeNpy(array, tensor)));
    auto data = Dataset::open({"r=" + array}, {});
    auto model = Model::load(file);
    EXPECT_TRUE(data && model);
    Progress progress(ProgressMode::none, 9);
    return profileModel(**model, *data, options, progress);
  }
};

// A language model that is never run.
class Reader : public Executor {
public:
  explicit Reader(std::string batch, std::string length = "n") {
    values.inputs = {{"input_ids", DType::i64, {batch, length}}};
    values.outputs = {{"logits", DType::f32, {batch, length, "9"}}};
  }
  const Signature &signature() const override { return values; }
  llvm::Expected<std::vector<Tensor>> run(llvm::ArrayRef<Tensor>) override {
    return fail(Exit::internal, "not run");
  }
  Signature values;
};

std::string message(llvm::Error error) { return llvm::toString(std::move(error)); }

} // namespace

TEST_F(Profiled, HoldsWhatTheFormulaSays) {
  Formula f(1);
  ProfileOptions options;
  options.tier = 2, options.sampleEvery = 3, options.reservoir = 5;
  auto profile = this->profile(f.ir(), f.r, options);
  ASSERT_TRUE(bool(profile)) << message(profile.takeError());
  ASSERT_EQ(profile->layers.size(), 1u);
  const LayerProfile &layer = profile->layers[0];
  EXPECT_EQ(layer.name, "layer0");
  EXPECT_EQ(std::tuple(layer.experts, layer.k, layer.hidden), std::tuple(E, K, H));
  EXPECT_EQ(layer.router, "#moe.router<score = softmax, k = 2>");
  EXPECT_EQ(layer.weightHash.size(), 16u);
  EXPECT_EQ(profile->labels, std::vector<std::string>{"data"});

  std::map<std::string, std::vector<double>> expected;
  auto add = [&](const char *name, int64_t n, int64_t at, double v) {
    expected[name].resize(size_t(n));
    expected[name][at] += v;
  };
  for (int64_t t = 0; t < T; ++t) {
    add("tokens", 1, 0, 1), add("sequences", 1, 0, 1); // a row of the input is a sequence
    for (int64_t e = 0; e < E; ++e)
      add("logit_sum", E, e, f.logit(t, e));
    std::vector<double> y(H);
    auto chosen = f.chosen(t);
    for (auto [e, g] : chosen) {
      auto out = f.output(t, e);
      double norm = 0, cosine = 0, length = 0;
      for (int64_t h = 0; h < H; ++h) {
        norm += out[h] * out[h], cosine += out[h] * 2 * f.r[t * H + h];
        length += 4.0 * f.r[t * H + h] * f.r[t * H + h];
        add("output_sum", E * H, e * H + h, out[h]), y[h] += g * out[h];
      }
      norm = std::sqrt(norm);
      add("count", E, e, 1), add("gate_sum", E, e, g), add("gated_norm_sum", E, e, g * norm);
      add("turn_sum", E, e, g * norm * (1 - cosine / norm / std::sqrt(length)));
    }
    double a = 0, b = 0, c = 0;
    for (int64_t h = 0; h < H; ++h) {
      double r = f.r[t * H + h], s = r + y[h];
      a += r * r, b += r * s, c += s * s;
    }
    for (auto [e, g] : chosen) {
      auto out = f.output(t, e);
      double norm = 0;
      for (double v : out)
        norm += v * v;
      add("novelty_sum", E, e, g * std::sqrt(norm) * std::max(0.0, 1 - b / std::sqrt(a * c)));
    }
    if (t % options.sampleEvery == 0) {
      add("sampled", 1, 0, 1);
      for (int64_t e = 0; e < E; ++e)
        for (int64_t h = 0; h < H; ++h)
          add("all_output_sum", E * H, e * H + h, f.output(t, e)[h]);
    }
  }
  for (const auto &[name, values] : expected) {
    const Statistic *s = layer.find(name);
    ASSERT_TRUE(s) << name;
    ASSERT_EQ(s->values.size(), values.size()) << name;
    for (size_t i = 0; i < values.size(); ++i)
      EXPECT_NEAR(s->values[i], values[i], 1e-4 * (1 + std::abs(values[i]))) << name << " " << i;
  }
  ASSERT_EQ(layer.reservoir.tokens(), 5);
  for (int64_t n = 0; n < 5; ++n) {
    int64_t t = 0;
    while (t < T && layer.reservoir.x[n * H] != 2 * f.r[t * H])
      ++t;
    ASSERT_LT(t, T);
    EXPECT_NEAR(layer.reservoir.logits[n * E + 1], f.logit(t, 1), 1e-4);
    EXPECT_EQ(layer.reservoir.ids[n * K], f.chosen(t)[0].first);
    EXPECT_NEAR(layer.reservoir.weights[n * K + 1], f.chosen(t)[1].second, 1e-5);
  }
  EXPECT_FALSE(bool(checkProfile(*profile)));
}

TEST_F(Profiled, TheHashIsThatOfTheWeights) {
  Formula f(2), g(3);
  auto a = profile(f.ir(), f.r, {}), b = profile(f.ir(), g.r, {}), c = profile(g.ir(), f.r, {});
  ASSERT_TRUE(a && b && c);
  EXPECT_EQ(a->layers[0].weightHash, b->layers[0].weightHash);
  EXPECT_NE(a->layers[0].weightHash, c->layers[0].weightHash);
}

TEST_F(Profiled, NumbersThatAreNotFinite) {
  Formula f(4);
  f.r[5] = NAN;
  auto profile = this->profile(f.ir(), f.r, {});
  ASSERT_FALSE(bool(profile));
  std::string text = message(profile.takeError());
  EXPECT_NE(text.find("layer \"layer0\""), std::string::npos) << text;
  EXPECT_NE(text.find("not finite"), std::string::npos) << text;
}

TEST_F(Profiled, AModelWithoutRoutedLayers) {
  auto profile = this->profile("func.func @main(%r: tensor<?x4xf32> {onnx.name = \"r\"}) -> "
                               "tensor<?x4xf32> { return %r : tensor<?x4xf32> }",
                               Numbers(8), {});
  ASSERT_FALSE(bool(profile));
  EXPECT_NE(message(profile.takeError()).find("no routed MoE layer"), std::string::npos);
}

TEST_F(Profiled, DataThatCannotBeRead) {
  auto refusal = [&](std::vector<std::string> paths, DataOptions options = {}) {
    auto data = Dataset::open(paths, options);
    return data ? std::string() : message(data.takeError());
  };
  auto contains = [](const std::string &text, const std::string &part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  };
  std::string texts = folder / "texts", ids = folder / "texts/a.npy", few = folder / "few.npy";
  std::filesystem::create_directories(texts);
  contains(refusal({texts}), "holds neither");
  contains(refusal({folder / "none"}), "no such file");
  ASSERT_FALSE(bool(writeNpy(ids, Tensor(DType::i32, {600}))));
  ASSERT_FALSE(bool(writeNpy(few, Tensor(DType::i32, {7}))));
  EXPECT_EQ(refusal({texts}), "");
  contains(refusal({texts, few}), "7 tokens are too few for a window of 256");
  ASSERT_FALSE(bool(writeNpy(few, Tensor(DType::f32, {600}))));
  contains(refusal({few}), "wants a list of token ids");
  DataOptions options;
  options.window = 601;
  contains(refusal({ids}, options), "600 tokens are too few");
}

TEST_F(Profiled, WindowsOfTexts) {
  auto write = [&](const char *name, int64_t n, int64_t from) {
    Tensor ids(DType::i32, {n});
    for (int64_t i = 0; i < n; ++i)
      ids.set(i, double(from + i));
    EXPECT_FALSE(bool(writeNpy((folder / name).string(), ids)));
  };
  write("a.npy", 57, 0);
  write("b.npy", 21, 100);
  DataOptions options;
  options.window = 10, options.tokens = 30;
  auto data = Dataset::open({folder.string()}, options, "both");
  ASSERT_TRUE(bool(data));
  EXPECT_EQ(data->labels(), std::vector<std::string>{"both"});
  Reader open("batch");
  ASSERT_FALSE(bool(data->bind(open.signature())));
  ASSERT_EQ(data->runs(), 3);                             // windows 0-2 and 3-4 of a, 0-1 of b
  std::vector<std::tuple<int64_t, int64_t, double>> seen; // sequences, the first's number, an id
  for (int64_t i = 0; i < 3; ++i) {
    auto run = data->run(i);
    ASSERT_TRUE(bool(run));
    EXPECT_EQ(run->label, "both");
    EXPECT_EQ(run->inputs[0].shape, (std::vector<int64_t>{run->sequences, 10}));
    seen.push_back({run->sequences, run->first, run->inputs[0].at(0)});
  }
  EXPECT_EQ(seen, (decltype(seen){{3, 0, 0}, {2, 3, 30}, {2, 5, 100}}));

  options.windows = 3;
  auto fixed = Dataset::open({(folder / "a.npy").string()}, options);
  ASSERT_TRUE(bool(fixed));
  Reader pairs("2");
  ASSERT_FALSE(bool(fixed->bind(pairs.signature())));
  EXPECT_EQ(fixed->runs(), 1) << "a window without a partner is left out";
  EXPECT_EQ(fixed->labels(), std::vector<std::string>{"a"});
  Reader many("4");
  EXPECT_NE(message(fixed->bind(many.signature())).find("too few windows for the model's batch of 4"),
            std::string::npos);
}
