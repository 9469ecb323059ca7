#include "Roofline.h"
#include <algorithm>
#include <functional>
#include <immintrin.h>
#include <sys/mman.h>
#include <thread>
#include <time.h>
#include <vector>

namespace roofline {
namespace {

// The compiler must not know the value: else it computes the result once or not at all. A macro,
// as the constraint needs the caller's instruction set.
#define KEEP(value) asm volatile("" : "+v"(value))

/// 12 independent chains: more than two units times their latency.
__attribute__((target("avx512f"))) double fma512(int64_t steps) {
  __m512 sum[12], a = _mm512_set1_ps(1.0f), b = _mm512_set1_ps(1e-9f);
  KEEP(a);
#pragma clang loop unroll(full)
  for (auto &s : sum)
    s = a;
  for (int64_t i = 0; i < steps; ++i)
#pragma clang loop unroll(full)
    for (auto &s : sum) {
      s = _mm512_fmadd_ps(s, a, b);
      KEEP(s);
    }
  __m512 total = a;
#pragma clang loop unroll(full)
  for (auto &s : sum)
    total = _mm512_add_ps(total, s);
  return _mm512_cvtss_f32(total);
}

__attribute__((target("avx2,fma"))) double fma256(int64_t steps) {
  __m256 sum[12], a = _mm256_set1_ps(1.0f), b = _mm256_set1_ps(1e-9f);
  KEEP(a);
#pragma clang loop unroll(full)
  for (auto &s : sum)
    s = a;
  for (int64_t i = 0; i < steps; ++i)
#pragma clang loop unroll(full)
    for (auto &s : sum) {
      s = _mm256_fmadd_ps(s, a, b);
      KEEP(s);
    }
  __m256 total = a;
#pragma clang loop unroll(full)
  for (auto &s : sum)
    total = _mm256_add_ps(total, s);
  return _mm256_cvtss_f32(total);
}

/// Adds up `bytes` as `Streams` parts side by side: one stream alone may not fill the memory system.
template <int Streams>
__attribute__((target("avx2"))) int64_t readAll(const char *data, int64_t bytes) {
  __m256i sum[8];
#pragma clang loop unroll(full)
  for (auto &s : sum)
    s = _mm256_setzero_si256();
  int64_t part = bytes / Streams / 256 * 256;
  constexpr int each = 8 / Streams;
  for (int64_t i = 0; i < part; i += 32 * each)
#pragma clang loop unroll(full)
    for (int s = 0; s < 8; ++s)
      sum[s] = _mm256_add_epi64(
          sum[s], _mm256_load_si256(reinterpret_cast<const __m256i *>(data + s / each * part + i +
                                                                      s % each * 32)));
#pragma clang loop unroll(full)
  for (int s = 1; s < 8; ++s)
    sum[0] = _mm256_add_epi64(sum[0], sum[s]);
  return _mm256_extract_epi64(sum[0], 0);
}

/// The best of a few timed runs of fn on every thread.
double bestTime(int threads, const std::function<void(int)> &fn) {
  double best = 1e30;
  for (int round = 0; round < 5; ++round) {
    double start = now(threads);
    std::vector<std::thread> others;
    for (int t = 1; t < threads; ++t)
      others.emplace_back(fn, t);
    fn(0);
    for (auto &thread : others)
      thread.join();
    best = std::min(best, now(threads) - start);
  }
  return best;
}

} // namespace

double now(int threads) {
  timespec t;
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

void *allocate(int64_t bytes) {
  const int64_t page = 2 << 20;
  int64_t rounded = (bytes + page - 1) / page * page;
  void *memory = std::aligned_alloc(page, rounded);
  if (memory)
    madvise(memory, rounded, MADV_HUGEPAGE);
  return memory;
}

double peakFlops(const std::string &isa, int threads) {
  const int64_t steps = 3000000;
  volatile double sink = 0;
  bool wide = isa == "avx512";
  double seconds = bestTime(threads, [&](int) { sink = wide ? fma512(steps) : fma256(steps); });
  double each = double(steps) * (wide ? 12 * 16 : 12 * 8) * 2;
  return each * threads / seconds * 1e-9;
}

double readBandwidth(int64_t bytes, int threads) {
  int64_t each = bytes / threads / 256 * 256;
  auto *data = static_cast<char *>(allocate(each * threads));
  std::fill(data, data + each * threads, 1);
  volatile int64_t sink = 0;
  int64_t repeats = std::max<int64_t>((256 << 20) / bytes, 1);
  double seconds = 1e30;
  for (auto read : {readAll<1>, readAll<2>, readAll<4>, readAll<8>})
    seconds = std::min(seconds, bestTime(threads, [&](int t) {
                         for (int64_t i = 0; i < repeats; ++i)
                           sink = read(data + t * each, each);
                       }));
  std::free(data);
  return double(each) * threads * double(repeats) / seconds * 1e-9;
}

} // namespace roofline
