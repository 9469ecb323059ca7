/* The runtime's inside for the tests. */
#include "elements.h"
#include <stdlib.h>

moert_ctx *test_context_create(int threads, int64_t spin_us) {
  moert_ctx *ctx = calloc(1, sizeof *ctx);
  ctx->threads = threads;
  ctx->memory = moert_memory_create();
  if (threads > 1)
    ctx->pool = moert_pool_create(threads, spin_us * 1000);
  ctx->head.api = &moert_api_table;
  return ctx;
}

moert_session *test_context_session(moert_ctx *ctx) {
  return (moert_session *)ctx; // a session starts with its context
}

void test_context_release(moert_ctx *ctx) {
  moert_session_profile_stop(test_context_session(ctx));
  moert_pool_release(ctx->pool);
  moert_memory_close(ctx->memory);
  free(ctx);
}

uint64_t test_context_peak(moert_ctx *ctx) {
  moert_counters counters = {0};
  moert_memory_counters(ctx->memory, &counters);
  return counters.peak_memory_bytes;
}

moert_status test_context_run(moert_ctx *ctx, void (*body)(moert_ctx *, void *), void *arg,
                              moert_error *error) {
  jmp_buf jump;
  volatile moert_status status = MOERT_OK;
  ctx->jump = &jump;
  ctx->error = error;
  if (_setjmp(jump))
    status = error->status;
  else
    body(ctx, arg);
  moert_memory_end_run(ctx->memory);
  return status;
}

float test_f16_to_float(uint16_t x) { return f16_float(x); }
uint16_t test_float_to_f16(float x) { return float_f16(x); }
uint16_t test_float_to_bf16(float x) { return float_bf16(x); }
uint32_t test_crc32(const void *data, size_t bytes) { return moert_crc32(0, data, bytes); }
void test_sha256(const void *data, size_t bytes, uint8_t digest[32]) {
  moert_sha256(data, bytes, digest);
}

moert_status test_check_library(const char *path, moert_error *error) {
  moert_file file;
  moert_status status = moert_file_map(path, &file, error);
  const moert_descriptor *descriptor;
  if (!status)
    status = moert_descriptor_find(path, &file, &descriptor, error);
  moert_file_unmap(&file);
  return status;
}
