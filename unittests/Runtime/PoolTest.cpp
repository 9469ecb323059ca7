#include "Support.h"
#include <algorithm>
#include <atomic>
#include <chrono>
#include <gtest/gtest.h>
#include <random>
#include <thread>

namespace {

struct Counts {
  std::vector<std::atomic<int>> tasks, running;
  std::atomic<int> overlaps{0};
  Counts(size_t tasks, size_t workers) : tasks(tasks), running(workers) {}
};

void countTask(void *arg, int64_t task, int worker) {
  auto &counts = *static_cast<Counts *>(arg);
  if (counts.running[size_t(worker)].fetch_add(1))
    ++counts.overlaps;
  ++counts.tasks[size_t(task)];
  counts.running[size_t(worker)].fetch_sub(1);
}

} // namespace

class Pool : public testing::TestWithParam<std::pair<int, int>> {};

// Every task runs once, and no worker runs two at a time.
TEST_P(Pool, RunsEveryTaskOnce) {
  auto [threads, spin] = GetParam();
  TestContext context(threads, spin);
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    int64_t tasks = random() % 40;
    Counts counts{size_t(tasks), size_t(threads)};
    EXPECT_EQ(context.run([&](moert_ctx *ctx) { moert_parallel(ctx, tasks, countTask, &counts); }),
              MOERT_OK);
    for (auto &count : counts.tasks)
      ASSERT_EQ(count, 1);
    ASSERT_EQ(counts.overlaps, 0);
    if (round % 500 == 0) // workers fall asleep
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}
INSTANTIATE_TEST_SUITE_P(, Pool,
                         testing::Values(std::pair(1, 0), std::pair(2, 0), std::pair(2, 50),
                                         std::pair(4, 0), std::pair(4, 50), std::pair(9, 5)));

// Plain memory written by tasks is seen by the caller, and the other way round.
TEST(PoolMemory, IsSynchronised) {
  TestContext context(4, 5);
  std::vector<int64_t> data(512);
  for (int64_t round = 1; round <= 500; ++round) {
    struct Job {
      int64_t *data, round;
    } job{data.data(), round};
    context.run([&](moert_ctx *ctx) {
      moert_parallel(
          ctx, 64,
          [](void *arg, int64_t task, int) {
            auto *job = static_cast<Job *>(arg);
            for (int i = 0; i < 8; ++i)
              job->data[task * 8 + i] += job->round;
          },
          &job);
    });
    for (int64_t value : data)
      ASSERT_EQ(value, round * (round + 1) / 2);
  }
}

// A task may fail; the rest still runs, and the pool goes on.
TEST(PoolErrors, TasksMayFail) {
  for (int threads : {1, 2, 4}) {
    TestContext context(threads, 5);
    for (int round = 0; round < 200; ++round) {
      struct Job {
        moert_ctx *ctx;
        std::atomic<int> ran{0};
      } job;
      auto status = context.run([&](moert_ctx *ctx) {
        job.ctx = ctx;
        moert_parallel(
            ctx, 16,
            [](void *arg, int64_t task, int) {
              auto *job = static_cast<Job *>(arg);
              ++job->ran;
              if (task % 5 == 3)
                moert_failf(job->ctx, MOERT_ERROR_INPUT, "task %d", int(task));
            },
            &job);
        ADD_FAILURE() << "moert_parallel returned";
      });
      ASSERT_EQ(status, MOERT_ERROR_INPUT);
      ASSERT_EQ(std::string(context.error.message).substr(0, 5), "task ");
      ASSERT_EQ(job.ran, threads == 1 ? 4 : 16);
      Counts counts(8, size_t(threads));
      ASSERT_EQ(context.run([&](moert_ctx *ctx) { moert_parallel(ctx, 8, countTask, &counts); }),
                MOERT_OK);
    }
  }
}

// Fails outside of tasks leave from any depth, and the memory of the run is free again.
TEST(PoolErrors, FailLeavesTheRun) {
  TestContext context;
  for (int round = 0; round < 3; ++round) {
    auto status = context.run([](moert_ctx *ctx) {
      moert_alloc(ctx, 100);
      moert_fail(ctx, MOERT_ERROR_UNSUPPORTED, "line one\nline two");
    });
    EXPECT_EQ(status, MOERT_ERROR_UNSUPPORTED);
    EXPECT_STREQ(context.error.message, "line one line two");
  }
}

// What a dispatch costs when both threads really take part: each task waits for the other one.
TEST(PoolSpeed, Dispatch) {
  TestContext context(2, 100);
  std::atomic<int64_t> met{0};
  constexpr int kRounds = 5000;
  std::vector<double> times;
  for (int round = 0; round < kRounds; ++round) {
    met = 0;
    auto start = std::chrono::steady_clock::now();
    context.run([&](moert_ctx *ctx) {
      moert_parallel(
          ctx, 2,
          [](void *arg, int64_t, int) {
            auto &met = *static_cast<std::atomic<int64_t> *>(arg);
            for (++met; met < 2;)
              std::this_thread::yield();
          },
          &met);
    });
    std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
    times.push_back(time.count());
  }
  std::sort(times.begin(), times.end());
  printf("dispatch: %.2f us (p50), %.2f us (p90)\n", times[kRounds / 2], times[kRounds * 9 / 10]);
  EXPECT_EQ(met, 2);
}
