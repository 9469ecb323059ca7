// Statistics of a profile as moec/Analysis/Profile.h says them, one token after the other.
#pragma once
#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace naive {

using Row = std::vector<double>;

// One probe's operands.
struct Tokens {
  int64_t T, E, K, H;
  bool sigmoid = false;
  std::vector<int32_t> ids;
  std::vector<float> weights, logits, x, residual, slots, y;

  double p(int64_t t, int64_t e) const {
    const float *z = &logits[t * E];
    if (sigmoid)
      return 1 / (1 + std::exp(-double(z[e])));
    double most = *std::max_element(z, z + E), sum = 0;
    for (int64_t i = 0; i < E; ++i)
      sum += std::exp(z[i] - most);
    return std::exp(z[e] - most) / sum;
  }
};

inline Tokens randomTokens(unsigned seed, int64_t T, int64_t E, int64_t K, int64_t H,
                           bool sigmoid = false) {
  Tokens d{T, E, K, H, sigmoid, {}, {}, {}, {}, {}, {}, {}};
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (auto [values, n] : {std::pair(&d.logits, T * E), std::pair(&d.x, T * H),
                           std::pair(&d.residual, T * H), std::pair(&d.slots, T * K * H)}) {
    values->resize(size_t(n));
    for (float &v : *values)
      v = normal(random);
  }
  d.y.assign(size_t(T * H), 0);
  for (int64_t t = 0; t < T; ++t) {
    std::vector<int32_t> order(static_cast<size_t>(E));
    for (int32_t e = 0; e < E; ++e)
      order[size_t(e)] = e;
    std::shuffle(order.begin(), order.end(), random);
    for (int64_t k = 0; k < K; ++k) {
      bool empty = random() % 7 == 0;
      d.ids.push_back(empty ? -1 : order[size_t(k)]);
      d.weights.push_back(empty ? 0 : 0.1f + float(random() % 100) / 100);
      if (random() % 11 == 0)
        d.weights.back() = 0; // an expert that does not run
      for (int64_t h = 0; h < H; ++h) {
        float &v = d.slots[size_t((t * K + k) * H + h)];
        v = d.weights.back() == 0 ? 0 : v;
        d.y[size_t(t * H + h)] += v;
      }
    }
  }
  return d;
}

using Stats = std::map<std::string, Row>;

inline int binOf(double share) { return share > 0 ? int(std::min(share * 32, 31.0)) : 0; }

inline Row sized(Row &row, int64_t n, double value = 0) {
  row.resize(size_t(n), value);
  return row;
}

// Adds the router's statistics of tokens that fall into `parts` sequences.
inline void addRouting(Stats &s, const Tokens &d, int64_t parts) {
  int64_t T = d.T, E = d.E, K = d.K;
  for (const char *name : {"count", "score_sum", "gate_sum", "gate_squares", "top_logit_sum",
                           "logit_sum", "sequence_share", "sequence_share_squares"})
    sized(s[name], E);
  for (const char *name : {"coactivation", "logit_gram", "score_gram"})
    sized(s[name], E * E);
  sized(s["rank_count"], E * K), sized(s["ratio_bins"], K * 32), sized(s["mass_bins"], K * 32);
  sized(s["entropy_bins"], 32), sized(s["tokens"], 1), sized(s["sequences"], 1);
  s["tokens"][0] += double(T), s["sequences"][0] += double(parts);
  Row share(static_cast<size_t>(E));
  for (int64_t t = 0; t < T; ++t) {
    std::vector<int64_t> used;
    for (int64_t k = 0; k < K; ++k) {
      int64_t id = d.ids[t * K + k];
      double g = d.weights[t * K + k];
      if (id < 0 || g == 0)
        continue;
      used.push_back(id);
      s["count"][id] += 1, s["rank_count"][id * K + k] += 1;
      s["gate_sum"][id] += g, s["gate_squares"][id] += g * g;
      share[id] += 1.0 / (double(T / parts) * double(K));
    }
    for (int64_t a : used)
      for (int64_t b : used)
        s["coactivation"][a * E + b] += 1;
    if ((t + 1) % (T / parts) == 0)
      for (int64_t e = 0; e < E; ++e) {
        s["sequence_share"][e] += share[e], s["sequence_share_squares"][e] += share[e] * share[e];
        share[e] = 0;
      }
    std::vector<int64_t> order(static_cast<size_t>(E));
    double all = 0, entropy = 0;
    for (int64_t e = 0; e < E; ++e) {
      order[e] = e, all += d.p(t, e);
      s["score_sum"][e] += d.p(t, e), s["logit_sum"][e] += d.logits[t * E + e];
      for (int64_t f = 0; f < E; ++f) {
        s["logit_gram"][e * E + f] += double(d.logits[t * E + e]) * d.logits[t * E + f];
        s["score_gram"][e * E + f] += d.p(t, e) * d.p(t, f);
      }
    }
    for (int64_t e = 0; e < E; ++e)
      entropy -= d.p(t, e) / all * std::log(d.p(t, e) / all);
    std::sort(order.begin(), order.end(),
              [&](int64_t a, int64_t b) { return d.logits[t * E + a] > d.logits[t * E + b]; });
    s["top_logit_sum"][order[0]] += d.logits[t * E + order[0]];
    s["entropy_bins"][E > 1 ? binOf(entropy / std::log(double(E))) : 0] += 1;
    double mass = 0;
    for (int64_t r = 0; r < std::min(K, E); ++r) {
      mass += d.p(t, order[r]);
      s["ratio_bins"][r * 32 + binOf(d.p(t, order[r]) / d.p(t, order[0]))] += 1;
      s["mass_bins"][r * 32 + binOf(mass / all)] += 1;
    }
  }
}

inline double dot(const float *a, const float *b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i)
    sum += double(a[i]) * b[i];
  return sum;
}

inline void addExperts(Stats &s, const Tokens &d) {
  int64_t E = d.E, H = d.H;
  for (const char *name :
       {"norm_sum", "gated_norm_sum", "gated_norm_squares", "novelty_sum", "turn_sum"})
    sized(s[name], E);
  for (const char *name : {"output_sum", "output_squares", "gated_output_sum"})
    sized(s[name], E * H);
  sized(s["gated_norm_max"], E, -INFINITY), sized(s["output_max"], E, -INFINITY);
  sized(s["output_max_channel"], E * H, -INFINITY);
  for (int64_t i = 0; i < d.T * d.K; ++i) {
    int64_t e = d.ids[i], t = i / d.K;
    double g = d.weights[i];
    if (e < 0 || g == 0)
      continue;
    std::vector<float> f(static_cast<size_t>(H)), sum(static_cast<size_t>(H));
    const float *x = &d.x[t * H], *r = &d.residual[t * H];
    for (int64_t h = 0; h < H; ++h) {
      f[h] = float(d.slots[i * H + h] / g);
      sum[h] = r[h] + d.y[t * H + h];
      s["output_sum"][e * H + h] += f[h], s["output_squares"][e * H + h] += double(f[h]) * f[h];
      s["gated_output_sum"][e * H + h] += g * f[h];
      double &channel = s["output_max_channel"][e * H + h];
      channel = std::max(channel, double(std::abs(f[h])));
      s["output_max"][e] = std::max(s["output_max"][e], channel);
    }
    double norm = std::sqrt(dot(f.data(), f.data(), H));
    auto cosine = [&](const float *a, const float *b) {
      return dot(a, b, H) / std::sqrt(dot(a, a, H) * dot(b, b, H));
    };
    s["norm_sum"][e] += norm, s["gated_norm_sum"][e] += g * norm;
    s["gated_norm_squares"][e] += g * norm * g * norm;
    s["gated_norm_max"][e] = std::max(s["gated_norm_max"][e], g * norm);
    s["novelty_sum"][e] += g * norm * std::max(0.0, 1 - cosine(r, sum.data()));
    s["turn_sum"][e] += g * norm * (1 - cosine(x, f.data()));
  }
}

} // namespace naive
