#include "Support.h"
#include <atomic>
#include <cstdlib>
#include <gtest/gtest.h>
#include <thread>

namespace {

struct Opened {
  moert_model *model = nullptr;
  moert_session *session = nullptr;
  moert_error error = {};
  explicit Opened(const std::string &path, moert_session_options options = {},
                  moert_model_options modelOptions = {}) {
    if (moert_model_open(path.c_str(), &modelOptions, &model, &error) ||
        moert_session_create(model, &options, &session, &error))
      ADD_FAILURE() << error.message;
  }
  ~Opened() {
    moert_session_release(session);
    moert_model_release(model);
  }
  moert_status run(std::vector<DLTensor> inputs, std::vector<DLManagedTensor *> &outputs) {
    return moert_session_run(session, inputs.data(), inputs.size(), outputs.data(), outputs.size(),
                             &error);
  }
};

} // namespace

TEST(Session, RunsAModel) {
  Opened m(addModel().build("add"), {.threads = 1});
  moert_model_info info;
  moert_model_get_info(m.model, &info);
  EXPECT_EQ(info.abi, unsigned(MOERT_ABI));
  EXPECT_STREQ(info.compiler_version, "test 1.0");
  EXPECT_EQ(info.inputs, 1u);
  EXPECT_EQ(info.weights, 2u);
  const moert_tensor_info *x = moert_model_input(m.model, 0);
  EXPECT_STREQ(x->name, "x");
  EXPECT_STREQ(x->dtype_name, "f32");
  EXPECT_EQ(x->rank, 2);
  EXPECT_EQ(x->dims[0], -1);
  EXPECT_EQ(x->dims[1], 2);
  EXPECT_STREQ(x->dim_names[0], "n");
  EXPECT_EQ(moert_model_input(m.model, 1), nullptr);
  EXPECT_EQ(moert_model_output(m.model, 1), nullptr);

  float data[] = {1, 2, 3, 4};
  std::vector<int64_t> shape{2, 2};
  std::vector<DLManagedTensor *> out(1);
  ASSERT_EQ(m.run({tensorOf(data, shape)}, out), MOERT_OK) << m.error.message;
  const DLTensor &y = out[0]->dl_tensor;
  EXPECT_EQ(y.ndim, 2);
  EXPECT_EQ(y.shape[0], 2);
  EXPECT_EQ(uintptr_t(y.data) % 64, 0u);
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(static_cast<float *>(y.data)[i], data[i] + 11);
  out[0]->deleter(out[0]);
  moert_counters counters;
  moert_session_get_counters(m.session, &counters);
  EXPECT_EQ(counters.runs, 1u);
  EXPECT_GT(counters.total_ns, 0u);
}

TEST(Session, TakesEmptyTensorsAndByteOffsets) {
  Opened m(addModel().build("add"));
  std::vector<int64_t> empty{0, 2}, one{1, 2};
  std::vector<DLManagedTensor *> out(1);
  ASSERT_EQ(m.run({tensorOf((float *)nullptr, empty)}, out), MOERT_OK) << m.error.message;
  EXPECT_EQ(out[0]->dl_tensor.shape[0], 0);
  out[0]->deleter(out[0]);
  float data[] = {0, 0, 5, 6};
  DLTensor t = tensorOf(data, one);
  t.byte_offset = 8;
  int64_t strides[] = {77, 1}; // of a dimension of size 1: any
  t.strides = strides;
  ASSERT_EQ(m.run({t}, out), MOERT_OK) << m.error.message;
  EXPECT_EQ(static_cast<float *>(out[0]->dl_tensor.data)[0], 16);
  out[0]->deleter(out[0]);
}

// Every check of an input, with the message that names it.
TEST(Session, ChecksInputs) {
  Opened m(addModel().build("add"));
  float data[8] = {};
  std::vector<int64_t> shape{2, 2}, three{2, 3}, flat{4}, negative{-1, 2};
  std::vector<DLManagedTensor *> out(1);
  auto refused = [&](DLTensor t, moert_status status, const char *why) {
    out[0] = reinterpret_cast<DLManagedTensor *>(8);
    EXPECT_EQ(m.run({t}, out), status);
    EXPECT_CONTAINS(m.error.message, why);
    EXPECT_EQ(m.error.status, status);
    EXPECT_EQ(out[0], nullptr);
  };
  DLTensor good = tensorOf(data, shape), t = good;
  t.dtype = {kDLInt, 64, 1};
  refused(t, MOERT_ERROR_INPUT, "input \"x\": the type is i64, not f32");
  refused(tensorOf(data, flat), MOERT_ERROR_INPUT, "input \"x\": the rank is 1, not 2");
  refused(tensorOf(data, three), MOERT_ERROR_INPUT, "input \"x\": dimension 1 is 3, not 2");
  refused(tensorOf(data, negative), MOERT_ERROR_INPUT, "input \"x\": dimension 0 is -1");
  t = good;
  t.device = {kDLCUDA, 0};
  refused(t, MOERT_ERROR_USAGE, "input \"x\": not in the CPU's memory");
  t = good;
  t.data = nullptr;
  refused(t, MOERT_ERROR_USAGE, "input \"x\": no data");
  t = good;
  t.byte_offset = 1;
  refused(t, MOERT_ERROR_USAGE, "not aligned to its 4-byte elements");
  t = good;
  int64_t strides[] = {1, 2};
  t.strides = strides;
  refused(t, MOERT_ERROR_USAGE, "input \"x\": not compact row-major");
  std::vector<int64_t> huge{int64_t(1) << 61, 2};
  refused(tensorOf(data, huge), MOERT_ERROR_INPUT, "input \"x\": its size overflows");
  EXPECT_EQ(m.run({}, out), MOERT_ERROR_USAGE);
  EXPECT_CONTAINS(m.error.message, "0 inputs and 1 outputs given, the model has 1 and 1");
  EXPECT_EQ(moert_session_run(nullptr, nullptr, 0, nullptr, 0, nullptr), MOERT_ERROR_USAGE);
}

TEST(Session, ChecksSymbols) {
  TestModel model = addModel();
  model.inputs = {{"ids", 7, {"batch", "sequence"}},
                  {"mask", 7, {"batch", "past + sequence"}},
                  {"past", 1, {"batch", "past", "4"}},
                  {"free", 7, {"?", ""}}};
  model.code = R"(
    void moe_main(moert_ctx *ctx, moert_buffer *args) {
      args[4].data = ((struct moert_ctx_head *)ctx)->api->alloc(ctx, 0);
      args[4].dims[1] = 2;
    })";
  Opened m(model.build("symbols"));
  std::vector<float> floats(100);
  std::vector<int64_t> ints(100), ids{2, 3}, mask{2, 8}, past{2, 5, 4}, any{9, 1};
  std::vector<DLManagedTensor *> out(1);
  auto run = [&] {
    moert_status status = m.run({tensorOf(ints.data(), ids), tensorOf(ints.data(), mask),
                                 tensorOf(floats.data(), past), tensorOf(ints.data(), any)},
                                out);
    if (!status)
      out[0]->deleter(out[0]);
    return status;
  };
  EXPECT_EQ(run(), MOERT_OK) << m.error.message;
  mask = {2, 9};
  EXPECT_EQ(run(), MOERT_ERROR_INPUT);
  EXPECT_CONTAINS(m.error.message,
                  "input \"mask\": dimension 1 (past + sequence) is 9, but 8 by input");
  mask = {2, 8};
  past = {1, 5, 4};
  EXPECT_EQ(run(), MOERT_ERROR_INPUT);
  EXPECT_STREQ(m.error.message, "input \"past\": dimension 0 (batch) is 1, but 2 by input \"ids\"");
}

TEST(Session, BindsSymbolsThatOnlySumsName) {
  TestModel model = addModel();
  model.inputs = {{"a", 7, {"n"}}, {"b", 7, {"n + m"}}, {"c", 7, {"m + 1"}}};
  model.code = R"(
    void moe_main(moert_ctx *ctx, moert_buffer *args) {
      args[3].data = ((struct moert_ctx_head *)ctx)->api->alloc(ctx, 0);
      args[3].dims[1] = 2;
    })";
  Opened m(model.build("sums"));
  std::vector<int64_t> ints(100), a{3}, b{7}, c{5};
  std::vector<DLManagedTensor *> out(1);
  ASSERT_EQ(
      m.run({tensorOf(ints.data(), a), tensorOf(ints.data(), b), tensorOf(ints.data(), c)}, out),
      MOERT_OK)
      << m.error.message;
  out[0]->deleter(out[0]);
  b = {2};
  EXPECT_EQ(
      m.run({tensorOf(ints.data(), a), tensorOf(ints.data(), b), tensorOf(ints.data(), c)}, out),
      MOERT_ERROR_INPUT);
  EXPECT_STREQ(m.error.message, "input \"b\": dimension 0 (n + m) is 2, less than 3");
}

// Errors of the generated program and of its operators.
TEST(Session, ReportsFailingRuns) {
  TestModel model = addModel();
  model.code = R"(
    void moe_main(moert_ctx *ctx, moert_buffer *args) {
      const moert_api *api = ((struct moert_ctx_head *)ctx)->api;
      api->alloc(ctx, 1000);
      int64_t dims[] = {4}, one[] = {1}, index = -5;
      float data[4], out;
      moert_view d = {data, dims, 1, 1}, i = {&index, one, 1, 7};
      api->op_gather(ctx, &d, &i, 0, &out, "layers.3/Gather");
    })";
  Opened m(model.build("fail"), {.threads = 2});
  float data[] = {1, 2};
  std::vector<int64_t> shape{1, 2};
  std::vector<DLManagedTensor *> out(1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(m.run({tensorOf(data, shape)}, out), MOERT_ERROR_INPUT);
    EXPECT_STREQ(m.error.message,
                 "node \"layers.3/Gather\" (Gather): index -5 is out of range [-4, 4)");
  }
  moert_counters counters;
  moert_session_get_counters(m.session, &counters);
  EXPECT_EQ(counters.failed_runs, 3u);
  EXPECT_EQ(counters.runs, 0u);
}

// Compiler faults are reported, not followed.
TEST(Session, RefusesOutputsWithoutBuffers) {
  TestModel model = addModel();
  model.code = "void moe_main(moert_ctx *ctx, moert_buffer *args) { args[1] = args[0]; }";
  Opened m(model.build("alias"));
  float data[] = {1, 2};
  std::vector<int64_t> shape{1, 2};
  std::vector<DLManagedTensor *> out(1);
  EXPECT_EQ(m.run({tensorOf(data, shape)}, out), MOERT_ERROR_INTERNAL);
  EXPECT_STREQ(m.error.message, "internal: output \"y\" has no buffer of its own");
}

TEST(Session, OutputsOutliveSessionAndModel) {
  std::vector<DLManagedTensor *> out(1);
  {
    Opened m(addModel().build("add"));
    float data[] = {1, 2};
    std::vector<int64_t> shape{1, 2};
    ASSERT_EQ(m.run({tensorOf(data, shape)}, out), MOERT_OK);
  }
  EXPECT_EQ(static_cast<float *>(out[0]->dl_tensor.data)[1], 13);
  out[0]->deleter(out[0]);
}

// After the first runs nothing is taken from the system, and sizes that change do not pile up.
TEST(Session, SteadyStateAllocatesNothing) {
  Opened m(addModel().build("add"));
  std::vector<float> data(20000);
  moert_counters before = {}, after;
  for (int i = 0; i < 200; ++i) {
    std::vector<int64_t> shape{1000, 2};
    std::vector<DLManagedTensor *> out(1);
    ASSERT_EQ(m.run({tensorOf(data.data(), shape)}, out), MOERT_OK);
    out[0]->deleter(out[0]);
    if (i == 5)
      moert_session_get_counters(m.session, &before);
  }
  moert_session_get_counters(m.session, &after);
  EXPECT_EQ(before.system_allocations, after.system_allocations);
  EXPECT_EQ(before.memory_bytes, after.memory_bytes);
}

TEST(Session, GrowingSizesDoNotPileUp) {
  Opened m(addModel().build("add"));
  std::vector<float> data(2 << 20);
  for (int64_t n = 1 << 17; n < 1 << 20; n += 1 << 12) {
    std::vector<int64_t> shape{n, 2};
    std::vector<DLManagedTensor *> out(1);
    ASSERT_EQ(m.run({tensorOf(data.data(), shape)}, out), MOERT_OK);
    out[0]->deleter(out[0]);
  }
  moert_counters counters;
  moert_session_get_counters(m.session, &counters);
  EXPECT_LT(counters.memory_bytes, 6u * (8 << 20)); // two buffers of 8 MiB, and the last classes
}

// One model, a session for each thread; outputs are released by another thread.
TEST(Session, ThreadsShareAModel) {
  Opened m(addModel().build("add"));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      moert_session_options options = {.threads = 1 + t % 2};
      moert_session *session;
      moert_error error;
      if (moert_session_create(m.model, &options, &session, &error)) {
        ++wrong;
        return;
      }
      std::vector<float> data(64, float(t));
      std::vector<int64_t> shape{32, 2};
      for (int i = 0; i < 200; ++i) {
        DLTensor in = tensorOf(data.data(), shape);
        DLManagedTensor *out;
        if (moert_session_run(session, &in, 1, &out, 1, &error)) {
          ++wrong;
          break;
        }
        wrong += static_cast<float *>(out->dl_tensor.data)[63] != float(t) + 11;
        if (i % 50 == 0)
          std::thread([out] { out->deleter(out); }).join();
        else
          out->deleter(out);
      }
      moert_session_release(session);
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Session, RefusesASecondCallAtTheSameTime) {
  TestModel model = addModel();
  model.code = R"(
    #include <time.h>
    void moe_main(moert_ctx *ctx, moert_buffer *args) {
      volatile float *flag = args[0].data;
      flag[0] = 1;
      while (flag[1] == 0)
        nanosleep(&(struct timespec){0, 100000}, 0);
      args[1].data = ((struct moert_ctx_head *)ctx)->api->alloc(ctx, 0);
      args[1].dims[1] = 2;
    })";
  Opened m(model.build("slow"));
  volatile float flag[2] = {0, 0};
  std::vector<int64_t> shape{1, 2};
  std::thread first([&] {
    DLTensor in = tensorOf(const_cast<float *>(flag), shape);
    DLManagedTensor *out;
    if (!moert_session_run(m.session, &in, 1, &out, 1, nullptr))
      out->deleter(out);
  });
  while (flag[0] == 0)
    std::this_thread::yield();
  std::vector<DLManagedTensor *> out(1);
  EXPECT_EQ(m.run({tensorOf(const_cast<float *>(flag), shape)}, out), MOERT_ERROR_USAGE);
  EXPECT_CONTAINS(m.error.message, "the session is running");
  flag[1] = 1;
  first.join();
}

TEST(Session, ThreadCounts) {
  Opened m(addModel().build("add"), {.threads = 3});
  EXPECT_EQ(moert_session_threads(m.session), 3);
  moert_session *session;
  moert_error error;
  moert_session_options options = {.threads = -1};
  EXPECT_EQ(moert_session_create(m.model, &options, &session, &error), MOERT_ERROR_USAGE);
  setenv("MOERT_THREADS", "2", 1);
  ASSERT_EQ(moert_session_create(m.model, nullptr, &session, &error), MOERT_OK);
  EXPECT_EQ(moert_session_threads(session), 2);
  moert_session_release(session);
  setenv("MOERT_THREADS", "many", 1);
  EXPECT_EQ(moert_session_create(m.model, nullptr, &session, &error), MOERT_ERROR_USAGE);
  EXPECT_CONTAINS(error.message, "MOERT_THREADS is \"many\"");
  unsetenv("MOERT_THREADS");
}
