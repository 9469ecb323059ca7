/* What generated code and libmoert agree on. Changes raise MOERT_ABI.
 *
 * A compiled library holds the host program (moert_entry) and, for each kernel slot, one function
 * for each instruction set. The runtime resolves kernels when the library is loaded and hands the
 * program a context.
 */
#ifndef MOERT_ABI_H
#define MOERT_ABI_H
#include "moert/ops.h"
#include <stdint.h>

#define MOERT_ABI 2
#define MOERT_MAX_RANK 8

typedef struct moert_ctx moert_ctx;

/* Rows of parameters that experts_mixed takes for an expert without any; the n-th constant expert
 * has MOERT_SLAB_CONSTANT - n. */
enum { MOERT_SLAB_ZERO = -1, MOERT_SLAB_IDENTITY = -2, MOERT_SLAB_CONSTANT = -3 };

/* The functions of api_functions.def, in their order; each takes the context first. */
typedef struct moert_api {
#define MOERT_API_FN(result, name, ...) result (*name)(moert_ctx *ctx, __VA_ARGS__);
#include "moert/api_functions.def"
#undef MOERT_API_FN
} moert_api;

/* A resolved kernel; cast to the signature that its spec's operation has (moert/kernels.h). */
typedef int (*moert_kernel)(void);

/* One run's context as generated code sees it: these three fields, in this order. What follows
 * them belongs to the runtime (runtime/src/context.h). */
struct moert_ctx_head {
  const moert_api *api;
  void *const *weights;        /* packed weights by slot, 64-byte aligned */
  const moert_kernel *kernels; /* by kernel slot */
};

/* One argument of the entry. Element type and rank are fixed by the signature; row-major. */
typedef struct moert_buffer {
  void *data;
  int64_t dims[MOERT_MAX_RANK];
} moert_buffer;

/* args: inputs, then outputs. The callee fills an output's dims and data, a buffer from api->alloc
 * that is owned by the caller; no two outputs share one, and none is an input's or a weight's.
 * Errors do not return: they leave through api->fail. */
typedef void (*moert_entry)(moert_ctx *ctx, moert_buffer *args);

#endif
