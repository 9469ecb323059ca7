#include "harness/context.h"
#include "internal.h"
#include <stdlib.h>

moert_ctx *harness_create(int threads, const moert_kernel *kernels) {
  moert_ctx *ctx = calloc(1, sizeof *ctx);
  ctx->head.api = &moert_api_table;
  ctx->head.kernels = kernels;
  ctx->threads = threads;
  ctx->memory = moert_memory_create();
  ctx->pool = moert_pool_create(threads, 100000);
  return ctx;
}

void harness_release(moert_ctx *ctx) {
  moert_pool_release(ctx->pool);
  moert_memory_close(ctx->memory);
  free(ctx);
}

moert_status harness_run(moert_ctx *ctx, void (*fn)(moert_ctx *, void *), void *arg,
                         moert_error *error) {
  jmp_buf jump;
  *error = (moert_error){0};
  ctx->jump = &jump;
  ctx->error = error;
  if (!setjmp(jump))
    fn(ctx, arg);
  ctx->jump = NULL;
  moert_memory_end_run(ctx->memory);
  return error->status;
}

int harness_has_avx512(void) { return (moert_cpu_features() & MOERT_CPU_X86_64_V4) != 0; }
