// How far the CPU kernels are from what the machine can do. See README.md.
#include "Roofline.h"
#include "harness/Harness.h"
#include "moert/abi.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

using namespace harness;
using namespace moec;

namespace {

struct Machine {
  std::string isa;
  int threads;
  double peak;                // GFLOP/s
  double memory, cache, near; // GB/s from memory, of 8 MiB and of 256 KiB that were just read
};

/// Weights of some value, which does not matter for speed, in memory with large pages where the
/// system gives them (as the runtime has with copy_weights; the read loop has them too).
struct Weights {
  uint8_t *bytes;
  size_t count;
  explicit Weights(size_t count)
      : bytes(static_cast<uint8_t *>(roofline::allocate(int64_t(count)))), count(count) {}
  Weights(Weights &&other) : bytes(std::exchange(other.bytes, nullptr)), count(other.count) {}
  ~Weights() { std::free(bytes); }
  uint8_t *data() { return bytes; }
  size_t size() const { return count; }
};

Weights weights(int64_t count, WeightType type, std::mt19937 &random) {
  Floats few = randomFloats(random, std::min<int64_t>(count, 4096), 0.05f);
  std::vector<uint8_t> block = store(few, type);
  Weights all(count * (type == WeightType::F32 ? 4 : 2));
  for (size_t at = 0; at < all.size(); at += block.size())
    std::memcpy(all.data() + at, block.data(), std::min(block.size(), all.size() - at));
  return all;
}

/// Median and best seconds of one call, over about half a second.
std::pair<double, double> timeCalls(int threads,
                                    const std::function<void(int)> &call) {
  std::vector<double> times;
  double begin = roofline::now(threads);
  for (int i = 0; i < 5 || (roofline::now(threads) - begin < 0.4 && i < 2000); ++i) {
    double start = roofline::now(threads);
    call(i);
    times.push_back(roofline::now(threads) - start);
  }
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times[0]};
}

void report(const Machine &m, const std::string &name, double flops, double bytes, bool cold,
            std::pair<double, double> seconds) {
  double bandwidth = cold ? m.memory : bytes > (768 << 10) * m.threads ? m.cache : m.near;
  double roof = std::max(flops / m.peak, bytes / bandwidth) * 1e-9;
  std::printf("%-44s %9.1f us (best %9.1f)  %7.1f GFLOP/s %6.1f GB/s  %3.0f %% of roof (best %3.0f)\n",
              name.c_str(), seconds.first * 1e6, seconds.second * 1e6,
              flops / seconds.first * 1e-9, bytes / seconds.first * 1e-9,
              100 * roof / seconds.first, 100 * roof / seconds.second);
}

void gemm(const Machine &m, WeightType type, const char *typeName, int64_t M, int64_t N, int64_t K) {
  std::mt19937 random(1);
  Kernels kernels({gemmSpec(type)}, m.isa);
  Context context(m.threads, kernels);
  Weights w = weights((N + 15) / 16 * 16 * K, type, random);
  Floats a = randomFloats(random, M * K), c(M * N);
  auto time = timeCalls(m.threads, [&](int) {
    context.run([&](auto &api, auto *ctx) {
      api.gemm(ctx, 0, M, N, K, a.data(), K, w.data(), nullptr, c.data(), N);
    });
  });
  char name[100];
  std::snprintf(name, sizeof name, "gemm %s M=%d N=%d K=%d", typeName, int(M), int(N), int(K));
  report(m, name, 2.0 * M * N * K, double(w.size()), w.size() > (24u << 20), time);
}

/// Random distinct experts a token; another routing in each call, so that a layer larger than the
/// caches is read from memory.
void experts(const Machine &m, WeightType type, const char *label, int64_t T, int64_t H, int64_t I,
             int64_t E, int64_t K) {
  std::mt19937 random(1);
  Kernels kernels({expertsUpSpec(type, true, Activation::Silu), expertsDownSpec(type)}, m.isa);
  Context context(m.threads, kernels);
  Weights gateUp = weights(E * I * H * 2, type, random), down = weights(E * H * I, type, random);
  Floats x = randomFloats(random, T * H), mix(T * K, 1.0f / K), out(T * H);
  std::vector<std::vector<int32_t>> routings(16);
  double active = 0;
  for (auto &ids : routings) {
    std::vector<bool> used(E);
    std::vector<int32_t> order(E);
    for (int32_t e = 0; e < E; ++e)
      order[e] = e;
    for (int64_t t = 0; t < T; ++t) {
      std::shuffle(order.begin(), order.end(), random);
      for (int64_t k = 0; k < K; ++k) {
        ids.push_back(order[k]);
        used[order[k]] = true;
      }
    }
    active += double(std::count(used.begin(), used.end(), true)) / 16;
  }
  auto time = timeCalls(m.threads, [&](int i) {
    context.run([&](auto &api, auto *ctx) {
      api.experts(ctx, 0, 1, T, H, I, E, K, x.data(), routings[i % 16].data(), mix.data(),
                  gateUp.data(), nullptr, down.data(), nullptr, out.data());
    });
  });
  double bytes = active * double(gateUp.size() + down.size()) / double(E);
  char name[100];
  std::snprintf(name, sizeof name, "experts %s T=%d", label, int(T));
  report(m, name, 6.0 * double(T * K * H * I), bytes, gateUp.size() > (16u << 20), time);
}

/// Layers of 32 experts as compression leaves them, against the same layer of distinct experts:
/// pairs that share parameters, half of the experts constant or zero. The four take turns, so that
/// all see the same machine; each call of one has another routing.
void compressed(const Machine &m, int64_t T) {
  constexpr int64_t H = 1024, I = 512, E = 32, K = 4;
  std::mt19937 random(1);
  Kernels kernels({expertsUpSpec(WeightType::BF16, true, Activation::Silu),
                   expertsDownSpec(WeightType::BF16)},
                  m.isa);
  Context context(m.threads, kernels);
  Weights gateUp = weights(E * I * H * 2, WeightType::BF16, random);
  Weights down = weights(E * H * I, WeightType::BF16, random);
  Floats x = randomFloats(random, T * H), mix(T * K, 1.0f / K), out(T * H);
  Floats constants = randomFloats(random, E / 2 * H);
  std::vector<std::vector<int32_t>> routings(16);
  for (auto &ids : routings)
    for (int64_t t = 0; t < T; ++t) {
      std::vector<int32_t> order(E);
      for (int32_t e = 0; e < E; ++e)
        order[size_t(e)] = e;
      std::shuffle(order.begin(), order.end(), random);
      ids.insert(ids.end(), order.begin(), order.begin() + K);
    }
  const char *names[] = {"distinct", "shared by two", "half constant", "half zero"};
  std::vector<int32_t> slabs[4], twins(E);
  for (int32_t e = 0; e < E; ++e) {
    twins[size_t(e)] = e / 2 * 2;
    int32_t simple[] = {e, e / 2, MOERT_SLAB_CONSTANT - e / 2, MOERT_SLAB_ZERO};
    for (int i = 0; i < 4; ++i)
      slabs[i].push_back(e % 2 || i < 2 ? simple[i] : e / 2);
  }
  std::vector<double> times[4];
  double begin = roofline::now(m.threads);
  for (int i = 0; i < 5 || (roofline::now(m.threads) - begin < 2 && i < 2000); ++i)
    for (int which = 0; which < 4; ++which) {
      double start = roofline::now(m.threads);
      context.run([&](auto &api, auto *ctx) {
        api.experts_mixed(ctx, 0, 1, T, H, I, E, K, x.data(), routings[size_t(i % 16)].data(),
                          mix.data(), gateUp.data(), nullptr, down.data(), nullptr,
                          slabs[which].data(), nullptr, which == 1 ? twins.data() : nullptr,
                          constants.data(), out.data());
      });
      times[which].push_back(roofline::now(m.threads) - start);
    }
  for (int which = 0; which < 4; ++which) {
    std::sort(times[which].begin(), times[which].end());
    double median = times[which][times[which].size() / 2];
    std::printf("compressed bf16 1024x512, 4 of 32, T=%-4d %-14s %9.1f us  %.2f of distinct\n",
                int(T), names[which], median * 1e6, median / times[0][times[0].size() / 2]);
  }
}

void attention(const Machine &m, int64_t heads, int64_t kv, int64_t S, int64_t L, int64_t D) {
  std::mt19937 random(1);
  Kernels kernels({attentionSpec()}, m.isa);
  Context context(m.threads, kernels);
  Floats q = randomFloats(random, heads * S * D), k = randomFloats(random, kv * L * D), v = k,
         out(heads * S * D);
  auto time = timeCalls(m.threads, [&](int) {
    context.run([&](auto &api, auto *ctx) {
      api.attention(ctx, 0, 1, heads, kv, S, L, D, D, q.data(), 0, S * D, D, k.data(), 0, L * D, D,
                    v.data(), 0, L * D, D, nullptr, 0, 0, 0, 0, 1, L - S, 0.1f, out.data(), 0,
                    S * D, D);
    });
  });
  char name[100];
  std::snprintf(name, sizeof name, "attention heads=%d/%d S=%d L=%d D=%d causal", int(heads), int(kv),
                int(S), int(L), int(D));
  double pairs = double(heads) * (double(S) * double(L) - double(S) * double(S - 1) / 2);
  report(m, name, 4 * pairs * double(D), 8.0 * double(kv * L * D), false, time);
}

void bgemm(const Machine &m, int64_t batch, int64_t M, int64_t N, int64_t K, bool transposed) {
  std::mt19937 random(1);
  Kernels kernels({bgemmSpec()}, m.isa);
  Context context(m.threads, kernels);
  Floats a = randomFloats(random, batch * M * K), b = randomFloats(random, batch * N * K),
         c(batch * M * N);
  auto time = timeCalls(m.threads, [&](int) {
    context.run([&](auto &api, auto *ctx) {
      api.bgemm(ctx, 0, 1, batch, M, N, K, a.data(), 0, M * K, K, 1, b.data(), 0, N * K,
                transposed ? 1 : N, transposed ? K : 1, c.data(), 0, M * N, N);
    });
  });
  char name[100];
  std::snprintf(name, sizeof name, "bgemm batch=%d M=%d N=%d K=%d %s", int(batch), int(M), int(N),
                int(K), transposed ? "B^T" : "B");
  report(m, name, 2.0 * double(batch * M * N * K), 4.0 * double(batch * N * K), false, time);
}

void route(const Machine &m, int64_t T, int64_t E, int64_t K) {
  std::mt19937 random(1);
  Kernels kernels({routeSpec(RouterScore::Softmax, RouterRenorm::Sum)}, m.isa);
  Context context(m.threads, kernels);
  Floats logits = randomFloats(random, T * E, 4), w(T * K);
  std::vector<int32_t> ids(T * K);
  auto time = timeCalls(m.threads, [&](int) {
    context.run([&](auto &api, auto *ctx) {
      api.route(ctx, 0, T, E, K, logits.data(), nullptr, ids.data(), w.data());
    });
  });
  std::printf("route T=%-5d E=%-3d K=%-2d %24.1f us  %6.1f ns a token\n", int(T), int(E), int(K),
              time.first * 1e6, time.first * 1e9 / double(T));
}

void all(const Machine &m, const char *filter) {
  auto wanted = [&](const char *name) { return !*filter || std::strstr(name, filter); };
  if (wanted("gemm")) {
    for (int64_t M : {1, 4, 8, 32, 256})
      gemm(m, WeightType::F16, "f16", M, 512, 256);
    for (int64_t M : {1, 256})
      gemm(m, WeightType::F16, "f16", M, 2048, 256);
    gemm(m, WeightType::F16, "f16", 256, 32, 256);
    gemm(m, WeightType::F32, "f32", 256, 2048, 2048);
    gemm(m, WeightType::BF16, "bf16", 256, 2048, 2048);
    gemm(m, WeightType::BF16, "bf16", 1, 8192, 4096);
    gemm(m, WeightType::F16, "f16", 1, 8192, 4096);
  }
  if (wanted("experts")) {
    for (int64_t T : {1, 2, 8, 64, 256})
      experts(m, WeightType::F16, "f16 moe-lm (256x128, 4 of 32)", T, 256, 128, 32, 4);
    experts(m, WeightType::F32, "f32 moe-lm (256x128, 4 of 32)", 256, 256, 128, 32, 4);
    for (int64_t T : {1, 8, 64, 512})
      experts(m, WeightType::BF16, "bf16 2048x768, 8 of 128", T, 2048, 768, 128, 8);
  }
  if (wanted("compressed"))
    for (int64_t T : {1, 8, 64, 256})
      compressed(m, T);
  if (wanted("attention")) {
    attention(m, 8, 2, 256, 256, 32);
    attention(m, 8, 2, 1, 256, 32);
    attention(m, 32, 8, 512, 512, 128);
  }
  if (wanted("bgemm")) {
    bgemm(m, 8, 256, 256, 32, true);
    bgemm(m, 8, 256, 32, 256, false);
    bgemm(m, 8, 1, 256, 32, true);
    bgemm(m, 8, 1, 32, 256, false);
    bgemm(m, 1, 512, 512, 512, false);
  }
  if (wanted("route")) {
    route(m, 256, 32, 4);
    route(m, 512, 128, 8);
    route(m, 1, 32, 4);
  }
}

} // namespace

int main(int argc, char **argv) {
  int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  const char *only = argc > 2 ? argv[2] : "", *filter = argc > 3 ? argv[3] : "";
  if (threads < 1) {
    std::fprintf(stderr, "usage: kernel-benchmark [threads [isa [name]]]\n");
    return 2;
  }
  for (const std::string &isa : isas()) {
    if (*only && isa != only)
      continue;
    Machine m = {isa, threads, roofline::peakFlops(isa, threads),
                 roofline::readBandwidth(int64_t(1) << 30, threads),
                 roofline::readBandwidth(8 << 20, threads),
                 roofline::readBandwidth(threads * (256 << 10), threads)};
    std::printf("\n%s, %d thread(s): peak %.0f GFLOP/s f32; reads %.1f GB/s from memory, %.1f of "
                "8 MiB, %.1f of 256 KiB in cache\n",
                isa.c_str(), threads, m.peak, m.memory, m.cache, m.near);
    all(m, filter);
  }
}
