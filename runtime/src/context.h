/* The run-time context behind moert_ctx: what kernels and operators may use of the runtime.
 *
 * One session has one context; one run at a time. Unless said otherwise these functions belong to
 * the thread of the run and must not be called from the tasks of moert_parallel.
 */
#ifndef MOERT_CONTEXT_H
#define MOERT_CONTEXT_H
#include "moert/abi.h"
#include "moert/moert.h"
#include <setjmp.h>
#include <stddef.h>

#define MOERT_HIDDEN __attribute__((visibility("hidden")))

struct moert_pool;
struct moert_memory;
struct moert_profile;
struct moert_hook;

struct moert_ctx {
  struct moert_ctx_head head; /* first: generated code reads it */
  struct moert_pool *pool;
  struct moert_memory *memory;
  int threads;
  struct moert_profile *profile; /* null: none is collected */
  struct moert_hook *hooks;      /* settings by number (hooks.c); null: none so far */
  /* Where moert_fail goes. */
  jmp_buf *jump;
  moert_error *error;
};

/* The functions of api_functions.def: moert_alloc, moert_free, moert_fail, moert_gemm, ... */
#define MOERT_API_FN(result, name, ...)                                                            \
  MOERT_HIDDEN result moert_##name(moert_ctx *ctx, __VA_ARGS__);
#include "moert/api_functions.def"
#undef MOERT_API_FN

/* moert_fail with a format. It may be called from a task of moert_parallel too: the other tasks
 * still run, then moert_parallel itself fails on the run's thread with the first message. */
MOERT_HIDDEN void moert_failf(moert_ctx *ctx, int32_t code, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));

/* Calls fn(arg, task, worker) for every task in [0, tasks), on all threads of the session, and
 * returns when all are done. Tasks start in ascending order; each is taken from one atomic counter,
 * so a task should be worth some microseconds. `worker` is in [0, moert_threads): tasks with equal
 * `worker` never overlap, so it may index scratch memory, allocated before. With one thread or one
 * task everything runs inline. Not to be nested. */
typedef void (*moert_task)(void *arg, int64_t task, int worker);
MOERT_HIDDEN void moert_parallel(moert_ctx *ctx, int64_t tasks, moert_task fn, void *arg);

/* Threads of the session, the caller's included; at least 1. */
static inline int moert_threads(moert_ctx *ctx) { return ctx->threads; }

/* The kernel of a slot, to be cast to its signature (moert/kernels.h). */
static inline moert_kernel moert_kernel_of(moert_ctx *ctx, int32_t slot) {
  return ctx->head.kernels[slot];
}

#endif
