/* Status codes and messages. */
#include "internal.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *moert_status_name(moert_status status) {
  switch (status) {
  case MOERT_OK:
    return "ok";
  case MOERT_ERROR_INPUT:
    return "input error";
  case MOERT_ERROR_USAGE:
    return "usage error";
  case MOERT_ERROR_UNSUPPORTED:
    return "unsupported";
  case MOERT_ERROR_RESOURCE:
    return "resource error";
  case MOERT_ERROR_INTERNAL:
    return "internal error";
  }
  return "unknown status";
}

uint32_t moert_abi_version(void) { return MOERT_ABI; }

static void write_message(moert_error *error, moert_status status, const char *format,
                          va_list args) {
  error->status = status;
  vsnprintf(error->message, sizeof error->message, format, args);
  // Names come from files: a message stays one line whatever they hold.
  for (char *c = error->message; *c; ++c)
    if ((unsigned char)*c < ' ' || *c == 127)
      *c = ' ';
}

moert_status moert_error_set(moert_error *error, moert_status status, const char *format, ...) {
  if (error) {
    va_list args;
    va_start(args, format);
    write_message(error, status, format, args);
    va_end(args);
  }
  return status;
}

// Leaves the run; `error` may be ctx->error itself.
static __attribute__((noreturn)) void leave(moert_ctx *ctx, const moert_error *error) {
  moert_pool_fail(ctx->pool, error); // returns only outside tasks
  if (error != ctx->error)
    *ctx->error = *error;
  _longjmp(*ctx->jump, 1);
}

void moert_failf(moert_ctx *ctx, int32_t code, const char *format, ...) {
  moert_error error;
  va_list args;
  va_start(args, format);
  write_message(&error, (moert_status)code, format, args);
  va_end(args);
  leave(ctx, &error);
}

void moert_fail(moert_ctx *ctx, int32_t code, const char *message) {
  moert_failf(ctx, code ? code : MOERT_ERROR_INTERNAL, "%s", message);
}

void moert_parallel(moert_ctx *ctx, int64_t tasks, moert_task fn, void *arg) {
  if (ctx->threads == 1 || tasks == 1) {
    for (int64_t i = 0; i < tasks; ++i)
      fn(arg, i, 0);
    return;
  }
  moert_error error;
  if (tasks > 0 && !moert_pool_run(ctx->pool, tasks, fn, arg, &error))
    leave(ctx, &error);
}
