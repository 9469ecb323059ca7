// What the tests use of the runtime's inside, and little models that they compile themselves.
#pragma once
#include "moert/format.h"
#include "moert/moert.h"
extern "C" {
#include "context.h"

// Support.c
typedef void (*test_body)(moert_ctx *ctx, void *arg);
moert_ctx *test_context_create(int threads, int64_t spin_us);
void test_context_release(moert_ctx *ctx);
/// Runs `body` as a session would; its memory is free afterwards.
moert_status test_context_run(moert_ctx *ctx, test_body body, void *arg, moert_error *error);
/// The context as a session, for the functions of profiles: they use nothing else of it.
moert_session *test_context_session(moert_ctx *ctx);
float test_f16_to_float(uint16_t x);
uint16_t test_float_to_f16(float x);
uint16_t test_float_to_bf16(float x);
uint32_t test_crc32(const void *data, size_t bytes);
void test_sha256(const void *data, size_t bytes, uint8_t digest[32]);
/// Only reads the file: MOERT_OK when its descriptor is good.
moert_status test_check_library(const char *path, moert_error *error);
}

#include <functional>
#include <gtest/gtest.h>
#include <string>
#include <vector>

/// The text holds the part.
#define EXPECT_CONTAINS(text, part)                                                                \
  EXPECT_NE(std::string(text).find(part), std::string::npos) << "in: " << (text)

/// A context, and C++ callables to run in it.
class TestContext {
public:
  explicit TestContext(int threads = 1, int64_t spinUs = 20)
      : ctx(test_context_create(threads, spinUs)) {}
  ~TestContext() { test_context_release(ctx); }
  moert_status run(const std::function<void(moert_ctx *)> &body) {
    return test_context_run(
        ctx,
        [](moert_ctx *c, void *arg) {
          (*static_cast<const std::function<void(moert_ctx *)> *>(arg))(c);
        },
        const_cast<void *>(static_cast<const void *>(&body)), &error);
  }
  moert_ctx *ctx;
  moert_error error = {};
};

/// A model written by hand: C code for moe_main and its kernels, a signature, weights.
struct TestModel {
  struct Port {
    std::string name;
    uint32_t dtype;
    std::vector<std::string> dims;
  };
  struct Kernel {
    std::string spec;
    std::vector<std::pair<std::string, std::string>> variants; // isa, C symbol
  };
  std::vector<Port> inputs, outputs;
  std::vector<Kernel> kernels;
  std::vector<std::vector<float>> weights;
  struct Hook {
    std::string layer;
    uint32_t experts, k;
  };
  std::vector<Hook> hooks;
  std::string code; // after the include of abi.h
  uint32_t abi = MOERT_ABI;
  uint32_t cpu = MOERT_CPU_X86_64_V3;

  /// Writes NAME.so and NAME.moew into the test's folder; returns the path of the former.
  std::string build(const std::string &name) const;
  std::string weightsFile() const;
  std::string descriptor(const std::string &weights) const;
};

std::string testFolder(); ///< of the running test; exists
std::string readFile(const std::string &path);
void writeFile(const std::string &path, const std::string &bytes);

/// y = x + w[0] + w[1], x: f32[n, 2].
TestModel addModel();

/// A borrowed tensor; `shape` must outlive it.
DLTensor tensorOf(float *data, std::vector<int64_t> &shape);
DLTensor tensorOf(int64_t *data, std::vector<int64_t> &shape);
