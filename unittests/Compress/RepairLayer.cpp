#include "RepairLayer.h"

#include "moec/Dialect/MoE/MoE.h"
#include "moec/Dialect/Onnx/Onnx.h"
#include "moec/Reference/Reference.h"
#include "moec/Transforms/Compress/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "gtest/gtest.h"

#include <mutex>

using namespace moec;
using namespace moec::compress;

namespace moec::test {

int64_t LayerOptions::slabCount() const {
  int64_t count = slabs.empty() ? experts : 0;
  for (int64_t slab : slabs)
    count = std::max(count, slab + 1);
  return count;
}

Rows randomRows(std::mt19937 &random, int64_t rows, int64_t columns) {
  std::normal_distribution<float> normal;
  return Rows::NullaryExpr(rows, columns, [&] { return normal(random); });
}

static std::string typeText(const std::vector<int64_t> &shape, const std::string &element) {
  std::string text = "tensor<";
  for (int64_t d : shape)
    text += std::to_string(d) + "x";
  return text + element + ">";
}

// Appends a weight of random numbers; where it begins in the file.
size_t TestLayer::addWeight(const std::string &name, const std::vector<int64_t> &shape,
                            double scale) {
  int64_t count = 1;
  for (int64_t d : shape)
    count *= d;
  size_t at = file.size();
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < count; ++i) {
    float f = normal(random) * float(scale);
    _Float16 h = _Float16(f);
    options.half ? file.append(reinterpret_cast<char *>(&h), 2)
                 : file.append(reinterpret_cast<char *>(&f), 4);
  }
  std::string stored = typeText(shape, options.half ? "f16" : "f32"), f32 = typeText(shape, "f32");
  steps += "  %" + name + "_0 = moe.weight.load \"w.bin\" at " + std::to_string(at) + " : " +
           stored + "\n";
  std::string value = "%" + name + "_0";
  if (options.half) {
    steps += "  %" + name + " = moe.weight.cast " + value + " : " + stored + " -> " + f32 + "\n";
    value = "%" + name;
  }
  steps += "  moe.weight.bind @" + name + " " + value + " : " + f32 + "\n";
  return at;
}

template <typename T> static std::string listText(const std::vector<T> &values) {
  std::string text;
  for (size_t i = 0; i < values.size(); ++i) {
    if constexpr (std::is_same_v<T, std::string>)
      text += (i ? ", \"" : "\"") + values[i] + "\"";
    else
      text += (i ? ", " : "") + std::to_string(values[i]);
  }
  return "([" + text + "])";
}

static std::string matMulText(const std::string &h, const std::string &e) {
  std::string weight = "tensor<" + h + "x" + e + "xf32>";
  return "  %r = moe.weight.use @router : " + weight + "\n  %z = onnx.MatMul(%x, %r) : (tensor<?x" +
         h + "xf32>, " + weight + ") -> tensor<?x" + e + "xf32>\n";
}

static std::string gemmText(const std::string &h, const std::string &e) {
  std::string weight = "tensor<" + e + "x" + h + "xf32>", x = "tensor<?x" + h + "xf32>";
  return "  %r = moe.weight.use @router : " + weight + "\n" +
         "  %n = onnx.none : () -> none\n" +
         "  %s = onnx.Constant() {value = dense<[-1, " + h +
         "]> : tensor<2xi64>} : () -> tensor<2xi64>\n" +
         "  %t = onnx.Reshape(%x, %s) : (" + x + ", tensor<2xi64>) -> " + x + "\n" +
         "  %z = onnx.Gemm(%t, %r, %n) {transB = 1 : i64} : (" + x + ", " + weight +
         ", none) -> tensor<?x" + e + "xf32>\n";
}

TestLayer::TestLayer(unsigned seed, const LayerOptions &options) : options(options), random(seed) {
  static std::once_flag once;
  std::call_once(once, [] {
    registerRepairDown();
    registerRepairBias();
    registerRepairLinear();
    registerRefitRouter();
  });
  context.loadDialect<moe::MoEDialect, onnx::OnnxDialect, mlir::func::FuncDialect>();
  const LayerOptions &o = this->options;
  int64_t slabs = o.slabCount();
  bool gated = o.body.find("gated = true") != std::string::npos;
  std::string bank = " up(@up) down(@down)";
  if (o.gemm)
    addWeight("router", {o.experts, o.hidden}, 1);
  else
    addWeight("router", {o.hidden, o.experts}, 1);
  if (o.routerBias)
    addWeight("router_bias", {o.experts}, 0.3);
  if (gated) {
    addWeight("gate", {slabs, o.inter, o.hidden}, 0.7);
    bank = " gate(@gate)" + bank;
  }
  addWeight("up", {slabs, o.inter, o.hidden}, 0.7);
  downAt = addWeight("down", {slabs, o.hidden, o.inter}, 0.7);
  downCount = size_t(slabs * o.hidden * o.inter);
  if (o.biases) {
    if (gated) {
      addWeight("gate_bias", {slabs, o.inter}, 0.5);
      bank += " gate_bias(@gate_bias)";
    }
    addWeight("up_bias", {slabs, o.inter}, 0.5);
    addWeight("down_bias", {slabs, o.hidden}, 0.5);
    bank += " up_bias(@up_bias) down_bias(@down_bias)";
  }
  if (!o.slabs.empty())
    bank += " slabs" + listText(o.slabs);
  if (!o.storage.empty())
    bank += " storage" + listText(o.storage);
  if (!o.widths.empty())
    bank += " widths" + listText(o.widths);
  if (int64_t constants = llvm::count(o.storage, "constant")) {
    addWeight("constants", {constants, o.hidden}, 1);
    bank += " constants(@constants)";
  }
  std::string h = std::to_string(o.hidden), e = std::to_string(o.experts);
  size_t at = o.router.find("k = ") + 4;
  std::string k = o.router.substr(at, o.router.find_first_not_of("0123456789", at) - at);
  std::string x = "tensor<?x" + h + "xf32>", z = "tensor<?x" + e + "xf32>";
  std::string b = "tensor<" + e + "xf32>";
  std::string picks = "tensor<?x" + k + "xi32>, tensor<?x" + k + "xf32>";
  std::string text = "moe.weights @weights {\n" + steps + "}\nmoe.bank @bank experts(" + e +
      ") hidden(" + h + ") inter(" + std::to_string(o.inter) + ") body(#moe.ffn<" + o.body + ">)" +
      bank + "\nfunc.func @main(%x: " + x + ") -> " + x + " {\n" +
      (o.gemm ? gemmText(h, e) : matMulText(h, e)) +
      (o.routerBias ? "  %b = moe.weight.use @router_bias : " + b + "\n" : "") +
      "  %i, %w = moe.route(%z" + (o.routerBias ? ", %b" : "") + ") router<" + o.router + "> : (" +
      z + (o.routerBias ? ", " + b : "") + ") -> (" + picks + ")\n" +
      "  %y = moe.experts @bank(%x, %i, %w) : (" + x + ", " + picks + ") -> " + x + "\n" +
      "  return %y : " + x + "\n}\n";
  write();
  module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  EXPECT_TRUE(!!module) << text;
}

void TestLayer::write() { folder.write("w.bin", file); }

void TestLayer::disturbDown(double scale) {
  std::normal_distribution<float> normal;
  for (size_t i = 0; i < downCount; ++i) {
    float noise = normal(random) * float(scale);
    if (options.half) {
      _Float16 h;
      std::memcpy(&h, file.data() + downAt + 2 * i, 2);
      h = _Float16(float(h) + noise);
      std::memcpy(file.data() + downAt + 2 * i, &h, 2);
    } else {
      float f;
      std::memcpy(&f, file.data() + downAt + 4 * i, 4);
      f += noise;
      std::memcpy(file.data() + downAt + 4 * i, &f, 4);
    }
  }
  write();
}

Rows TestLayer::run(const Rows &x) {
  reference::Interpreter interpreter(*module, folder.path.string());
  reference::Array in;
  in.shape = {x.rows(), x.cols()};
  in.data.resize(size_t(x.size()) * 4);
  std::memcpy(in.data.data(), x.data(), in.data.size());
  auto out = interpreter.run(in);
  if (!out) {
    ADD_FAILURE() << llvm::toString(out.takeError());
    return x;
  }
  Rows y(x.rows(), x.cols());
  std::memcpy(y.data(), out->front().data.data(), size_t(y.size()) * 4);
  return y;
}

Rows TestLayer::logits(const Rows &x) {
  WeightEvaluator weights(*module, folder.path.string());
  llvm::SmallVector<char> bytes;
  EXPECT_EQ(llvm::toString(weights.all("router", bytes)), "");
  auto numbers = reinterpret_cast<const float *>(bytes.data());
  if (options.gemm)
    return x * Eigen::Map<const Rows>(numbers, options.experts, options.hidden).transpose();
  return x * Eigen::Map<const Rows>(numbers, options.hidden, options.experts);
}

bool TestLayer::passes(const std::string &pipeline) {
  mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &diagnostic) {
    said.push_back(diagnostic.str());
    return mlir::success();
  });
  mlir::PassManager manager(&context);
  std::string problem;
  llvm::raw_string_ostream os(problem);
  EXPECT_TRUE(mlir::succeeded(mlir::parsePassPipeline(pipeline, manager, os))) << problem;
  return mlir::succeeded(manager.run(*module));
}

std::string TestLayer::text() {
  std::string out;
  llvm::raw_string_ostream(out) << *module;
  return out;
}

Profile profileOf(const Rows &x, const Rows &logits, const Rows &y, const Picks &picks) {
  Profile profile;
  profile.labels = {"a", "b"};
  LayerProfile layer;
  layer.name = "bank";
  layer.experts = logits.cols();
  layer.k = picks.k;
  layer.hidden = x.cols();
  Reservoir &kept = layer.reservoir;
  kept.capacity = x.rows();
  for (int64_t i = 0; i < x.rows(); ++i) {
    kept.key.push_back(uint64_t(i));
    kept.label.push_back(i < x.rows() / 2 ? 0 : 1);
  }
  kept.x.assign(x.data(), x.data() + x.size());
  kept.logits.assign(logits.data(), logits.data() + logits.size());
  kept.y.assign(y.data(), y.data() + y.size());
  kept.ids = picks.ids;
  kept.weights = picks.weights;
  profile.layers.push_back(layer);
  return profile;
}

} // namespace moec::test
