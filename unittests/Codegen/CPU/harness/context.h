/* A runtime context without a model. */
#ifndef HARNESS_CONTEXT_H
#define HARNESS_CONTEXT_H
#include "moert/abi.h"
#include "moert/moert.h"
#ifdef __cplusplus
extern "C" {
#endif

/* `kernels` must outlive the context. */
moert_ctx *harness_create(int threads, const moert_kernel *kernels);
void harness_release(moert_ctx *ctx);
/* Calls fn(ctx, arg); a call of moert_fail in it ends here with its status. */
moert_status harness_run(moert_ctx *ctx, void (*fn)(moert_ctx *, void *), void *arg,
                         moert_error *error);
int harness_has_avx512(void);

#ifdef __cplusplus
}
#endif
#endif
