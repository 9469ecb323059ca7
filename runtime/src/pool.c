/* A small thread pool for one session.
 *
 * A job is published by setting `left`, the number of tasks that nobody took yet; a task is taken
 * by counting it down. Whoever takes a task may read the job's fields until it reports the task in
 * `done`, because the caller waits for all of them: so late workers need no extra hand-shake, and
 * the caller never waits for a worker that sleeps. */
#include "internal.h"
#include <errno.h>
#include <immintrin.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { YIELD_NS = 8000 };

typedef struct {
  _Alignas(64) struct moert_pool *pool;
  int index;
  pthread_t thread;
  int64_t taken; /* tasks of the current job; kept here because failing tasks jump */
  jmp_buf jump;
} worker;

struct moert_pool {
  _Alignas(64) _Atomic int64_t left;
  _Alignas(64) _Atomic int64_t done;
  _Atomic uint32_t caller_sleeps;     /* futex */
  _Alignas(64) _Atomic uint32_t wake; /* futex: counts wake-ups */
  _Atomic int32_t sleepers;
  _Atomic int stop;
  /* The job; written while no task is out. */
  _Alignas(64) moert_task fn;
  void *arg;
  int64_t tasks;
  _Atomic int failed;
  moert_error error; /* of the task that set `failed` */
  int running;       /* read by the job's threads only */
  int threads;
  int64_t spin_ns;
  worker *workers; /* [0] is the caller */
};

static void futex_wait(_Atomic uint32_t *word, uint32_t expected) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int count) {
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool take(struct moert_pool *pool, int64_t *task) {
  int64_t left = atomic_load_explicit(&pool->left, memory_order_acquire);
  while (left > 0) {
    if (atomic_compare_exchange_weak_explicit(&pool->left, &left, left - 1, memory_order_acq_rel,
                                              memory_order_acquire)) {
      *task = pool->tasks - left;
      return true;
    }
  }
  return false;
}

static void work(struct moert_pool *pool, worker *self) {
  int64_t task;
  self->taken = 0;
  _setjmp(self->jump); // a task that failed goes on here
  while (take(pool, &task)) {
    ++self->taken;
    pool->fn(pool->arg, task, self->index);
  }
  if (!self->taken)
    return;
  atomic_fetch_add(&pool->done, self->taken);
  if (self->index && atomic_load(&pool->caller_sleeps)) {
    atomic_store(&pool->caller_sleeps, 0);
    futex_wake(&pool->caller_sleeps, 1);
  }
}

// Waits actively for the condition; false when the time is over. After the first microseconds the
// CPU is offered to others: with busy neighbours the thread that is waited for may need it.
#define SPIN_UNTIL(pool, condition)                                                                \
  ({                                                                                               \
    bool met = (condition);                                                                        \
    if (!met && (pool)->spin_ns > 0) {                                                             \
      int64_t start = now(), time = 0;                                                             \
      do {                                                                                         \
        for (int i = 0; i < 32 && !(met = (condition)); ++i)                                       \
          _mm_pause();                                                                             \
        time = now() - start;                                                                      \
        if (!met && time > YIELD_NS)                                                               \
          sched_yield();                                                                           \
      } while (!met && time < (pool)->spin_ns);                                                    \
    }                                                                                              \
    met;                                                                                           \
  })

static bool has_work(struct moert_pool *pool) {
  return atomic_load_explicit(&pool->left, memory_order_relaxed) > 0 ||
         atomic_load_explicit(&pool->stop, memory_order_relaxed);
}

static void *worker_main(void *arg) {
  worker *self = arg;
  struct moert_pool *pool = self->pool;
  while (!atomic_load_explicit(&pool->stop, memory_order_acquire)) {
    work(pool, self);
    if (SPIN_UNTIL(pool, has_work(pool)))
      continue;
    // In this order, so that a job published meanwhile either is seen here or sees a sleeper.
    atomic_fetch_add(&pool->sleepers, 1);
    uint32_t seen = atomic_load(&pool->wake);
    if (atomic_load(&pool->left) <= 0 && !atomic_load(&pool->stop))
      futex_wait(&pool->wake, seen);
    atomic_fetch_sub(&pool->sleepers, 1);
  }
  return NULL;
}

static void wake_workers(struct moert_pool *pool, int64_t wanted) {
  int32_t sleepers = atomic_load(&pool->sleepers);
  if (sleepers <= 0)
    return;
  atomic_fetch_add(&pool->wake, 1);
  futex_wake(&pool->wake, wanted < sleepers ? (int)wanted : sleepers);
}

bool moert_pool_run(struct moert_pool *pool, int64_t tasks, moert_task fn, void *arg,
                    moert_error *error) {
  pool->workers[0].thread = pthread_self();
  pool->fn = fn;
  pool->arg = arg;
  pool->tasks = tasks;
  pool->running = 1;
  atomic_store_explicit(&pool->failed, 0, memory_order_relaxed);
  atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
  atomic_store(&pool->left, tasks);
  wake_workers(pool, tasks - 1);
  work(pool, &pool->workers[0]);
  while (!SPIN_UNTIL(pool, atomic_load_explicit(&pool->done, memory_order_acquire) == tasks)) {
    atomic_store(&pool->caller_sleeps, 1);
    if (atomic_load(&pool->done) != tasks)
      futex_wait(&pool->caller_sleeps, 1);
    atomic_store(&pool->caller_sleeps, 0);
  }
  pool->running = 0;
  if (!atomic_load_explicit(&pool->failed, memory_order_acquire))
    return true;
  *error = pool->error;
  return false;
}

void moert_pool_fail(struct moert_pool *pool, const moert_error *error) {
  if (!pool || !pool->running)
    return;
  for (int i = 0; i < pool->threads; ++i) {
    if (!pthread_equal(pool->workers[i].thread, pthread_self()))
      continue;
    int expected = 0;
    if (atomic_compare_exchange_strong(&pool->failed, &expected, 1))
      pool->error = *error; // published to the caller by `done`
    _longjmp(pool->workers[i].jump, 1);
  }
}

static bool start_workers(struct moert_pool *pool) {
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old); // signals are the program's own threads' business
  int started = 1;
  for (; started < pool->threads; ++started) {
    worker *w = &pool->workers[started];
    if (pthread_create(&w->thread, NULL, worker_main, w))
      break;
    pthread_setname_np(w->thread, "moert");
  }
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  bool all_started = started == pool->threads;
  pool->threads = started;
  return all_started;
}

struct moert_pool *moert_pool_create(int threads, int64_t spin_ns) {
  struct moert_pool *pool = aligned_alloc(64, (sizeof *pool + 63) & ~(size_t)63);
  if (!pool)
    return NULL;
  *pool = (struct moert_pool){.threads = threads, .spin_ns = spin_ns};
  pool->workers = aligned_alloc(64, (size_t)threads * sizeof(worker));
  if (!pool->workers) {
    free(pool);
    return NULL;
  }
  for (int i = 0; i < threads; ++i)
    pool->workers[i] = (worker){.pool = pool, .index = i};
  if (!start_workers(pool)) {
    moert_pool_release(pool);
    return NULL;
  }
  return pool;
}

void moert_pool_release(struct moert_pool *pool) {
  if (!pool)
    return;
  atomic_store(&pool->stop, 1);
  atomic_fetch_add(&pool->wake, 1);
  futex_wake(&pool->wake, pool->threads);
  for (int i = 1; i < pool->threads; ++i)
    pthread_join(pool->workers[i].thread, NULL);
  free(pool->workers);
  free(pool);
}
