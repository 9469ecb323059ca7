#include "Planted.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <numeric>

using namespace moec;
using namespace moec::test;

Planted Planted::random(std::mt19937 &random, int64_t experts, int64_t k) {
  Planted p;
  p.experts = experts;
  p.k = k;
  std::uniform_real_distribution<float> number(-1, 1);
  auto fill = [&](std::vector<float> &v, int64_t n, float scale) {
    for (int64_t i = 0; i < n; ++i)
      v.push_back(number(random) * scale);
  };
  fill(p.router, p.hidden * experts, 2);
  fill(p.routerBias, experts, 0.1f);
  fill(p.up, experts * p.inter * p.hidden, 1);
  fill(p.down, experts * p.hidden * p.inter, 1);
  fill(p.downBias, experts * p.hidden, 0.1f);
  return p;
}

static std::string weightText(const std::string &name, const std::string &shape,
                        const std::vector<float> &values) {
  std::string hex;
  for (float value : values) {
    unsigned char bytes[4];
    std::memcpy(bytes, &value, 4);
    for (unsigned char byte : bytes) {
      char text[3];
      std::snprintf(text, sizeof text, "%02X", byte);
      hex += text;
    }
  }
  std::string type = "tensor<" + shape + "xf32>";
  return "  %" + name + " = moe.weight.literal dense<\"0x" + hex + "\"> : " + type +
         "\n  moe.weight.bind @" + name + " %" + name + " : " + type + "\n";
}

std::string Planted::module() const {
  std::string e = std::to_string(experts), h = std::to_string(hidden), i = std::to_string(inter),
              slots = "?x" + std::to_string(k);
  std::string z = "tensor<?x" + e + "xf32>", x = "tensor<?x" + h + "xf32>";
  return "moe.weights @weights {\n" + weightText("router", h + "x" + e, router) +
         weightText("bias", e, routerBias) + weightText("up", e + "x" + i + "x" + h, up) +
         weightText("down", e + "x" + h + "x" + i, down) +
         weightText("down_bias", e + "x" + h, downBias) +
         "}\nmoe.bank @layer0 experts(" + e + ") hidden(" + h + ") inter(" + i +
         ") body(#moe.ffn<gated = false, activation = \"relu\">) up(@up) down(@down) "
         "down_bias(@down_bias)\nfunc.func @main(%x: " + x + ") -> " + x + " {\n" +
         "  %w = moe.weight.use @router : tensor<" + h + "x" + e + "xf32>\n" +
         "  %b = moe.weight.use @bias : tensor<" + e + "xf32>\n" +
         "  %m = onnx.MatMul(%x, %w) : (" + x + ", tensor<" + h + "x" + e + "xf32>) -> " + z +
         "\n  %z = onnx.Add(%m, %b) : (" + z + ", tensor<" + e + "xf32>) -> " + z +
         "\n  %i, %g = moe.route(%z) router<score = softmax, k = " + std::to_string(k) +
         ", renorm = sum> : (" + z + ") -> (tensor<" + slots + "xi32>, tensor<" + slots +
         "xf32>)\n  %y = moe.experts @layer0(%x, %i, %g) : (" + x + ", tensor<" + slots +
         "xi32>, tensor<" + slots + "xf32>) -> " + x + "\n  return %y : " + x + "\n}\n";
}

Planted::Rows Planted::tokens(std::mt19937 &random, int64_t count) const {
  std::normal_distribution<float> number;
  Rows rows(count, std::vector<float>(hidden));
  for (auto &row : rows)
    for (float &value : row)
      value = number(random);
  return rows;
}

Planted::Choice Planted::choose(const std::vector<float> &x,
                                const std::vector<int64_t> &keep) const {
  Choice c;
  for (int64_t e = 0; e < experts; ++e) {
    double z = routerBias[e];
    for (int64_t h = 0; h < hidden; ++h)
      z += double(x[h]) * router[h * experts + e];
    bool kept = keep.empty() || std::find(keep.begin(), keep.end(), e) != keep.end();
    c.logits.push_back(kept ? z : -INFINITY);
  }
  double most = *std::max_element(c.logits.begin(), c.logits.end()), sum = 0, chosen = 0;
  for (double z : c.logits)
    sum += std::exp(z - most);
  for (double z : c.logits)
    c.scores.push_back(std::exp(z - most) / sum);
  std::vector<int64_t> order(experts);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return c.logits[a] > c.logits[b]; });
  c.ids.assign(order.begin(), order.begin() + k);
  for (int64_t id : c.ids)
    chosen += c.scores[id];
  for (int64_t id : c.ids)
    c.weights.push_back(c.scores[id] / chosen);
  return c;
}

std::vector<double> Planted::expert(int64_t e, const std::vector<float> &x) const {
  std::vector<double> mid(inter, 0), y(hidden);
  for (int64_t i = 0; i < inter; ++i) {
    for (int64_t h = 0; h < hidden; ++h)
      mid[i] += double(up[(e * inter + i) * hidden + h]) * x[h];
    mid[i] = std::max(0.0, mid[i]);
  }
  for (int64_t h = 0; h < hidden; ++h) {
    y[h] = downBias[e * hidden + h];
    for (int64_t i = 0; i < inter; ++i)
      y[h] += double(down[(e * hidden + h) * inter + i]) * mid[i];
  }
  return y;
}

Planted::Rows Planted::run(const Rows &tokens, const std::vector<int64_t> &keep) const {
  Rows out;
  for (const auto &x : tokens) {
    Choice c = choose(x, keep);
    std::vector<double> sum(hidden, 0);
    for (int64_t j = 0; j < k; ++j) {
      std::vector<double> f = expert(c.ids[j], x);
      for (int64_t h = 0; h < hidden; ++h)
        sum[h] += c.weights[j] * f[h];
    }
    out.emplace_back(sum.begin(), sum.end());
  }
  return out;
}

static double dot(const auto &a, const auto &b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += double(a[i]) * b[i];
  return sum;
}

static double cosine(const auto &a, const auto &b) {
  double norms = std::sqrt(dot(a, a) * dot(b, b));
  return norms > 0 ? dot(a, b) / norms : 0;
}

Profile Planted::profile(const Rows &tokens, const std::vector<std::string> &labels) const {
  Profile p;
  p.labels = labels;
  std::sort(p.labels.begin(), p.labels.end());
  p.labels.erase(std::unique(p.labels.begin(), p.labels.end()), p.labels.end());
  LayerProfile layer;
  layer.name = "layer0";
  layer.experts = experts;
  layer.k = k;
  layer.hidden = hidden;
  auto add = [&](llvm::StringRef name, size_t label, std::vector<int64_t> shape, int64_t at,
                 double value, bool max = false) {
    Statistic &s = layer.statistics[name.str()];
    if (s.values.empty()) {
      s.rule = max ? MergeRule::max : MergeRule::sum;
      s.shape = shape;
      s.values.assign(p.labels.size() * s.count(), max ? -INFINITY : 0);
    }
    double &to = s.values[label * s.count() + at];
    to = max ? std::max(to, value) : to + value;
  };
  for (size_t t = 0; t < tokens.size(); ++t) {
    size_t label = std::lower_bound(p.labels.begin(), p.labels.end(), labels[t]) - p.labels.begin();
    const auto &x = tokens[t];
    Choice c = choose(x, {});
    std::vector<double> after(x.begin(), x.end());
    std::vector<float> y = run({x})[0];
    for (int64_t h = 0; h < hidden; ++h)
      after[h] += y[h];
    add(moec::stat::tokens, label, {}, 0, 1);
    for (int64_t e = 0; e < experts; ++e)
      add(moec::stat::scoreSum, label, {experts}, e, c.scores[e]);
    add(moec::stat::topLogitSum, label, {experts}, c.ids[0], c.logits[c.ids[0]]);
    for (int64_t j = 0; j < k; ++j) {
      int64_t e = c.ids[j];
      std::vector<double> f = expert(e, x);
      double g = c.weights[j], norm = std::sqrt(dot(f, f)), most = 0;
      add(moec::stat::count, label, {experts}, e, 1);
      add(moec::stat::gateSum, label, {experts}, e, g);
      add(moec::stat::normSum, label, {experts}, e, norm);
      add(moec::stat::gatedNormSum, label, {experts}, e, g * norm);
      add(moec::stat::gatedNormSquares, label, {experts}, e, g * norm * g * norm);
      add(moec::stat::noveltySum, label, {experts}, e,
          g * norm * std::max(0.0, 1 - cosine(x, after)));
      add(moec::stat::turnSum, label, {experts}, e, g * norm * (1 - cosine(x, f)));
      for (int64_t h = 0; h < hidden; ++h) {
        most = std::max(most, std::fabs(f[h]));
        add(moec::stat::outputSum, label, {experts, hidden}, e * hidden + h, f[h]);
        add(moec::stat::outputSquares, label, {experts, hidden}, e * hidden + h, f[h] * f[h]);
      }
      add(moec::stat::outputMax, label, {experts}, e, most, true);
    }
  }
  p.layers.push_back(layer);
  return p;
}
