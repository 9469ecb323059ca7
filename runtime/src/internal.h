/* The runtime's own structures; kernels and operators see context.h only. */
#ifndef MOERT_INTERNAL_H
#define MOERT_INTERNAL_H
#include "context.h"
#include "moert/format.h"
#include <stdatomic.h>
#include <stdbool.h>

/* ---- errors (error.c) ------------------------------------------------------------------------ */

/* Writes into `error` (may be null) and returns `status`. Control characters become spaces. */
MOERT_HIDDEN moert_status moert_error_set(moert_error *error, moert_status status,
                                          const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- hashes (hash.c) ------------------------------------------------------------------------- */

/* Continues a CRC-32; start with 0. */
MOERT_HIDDEN uint32_t moert_crc32(uint32_t crc, const void *data, size_t bytes);
MOERT_HIDDEN void moert_sha256(const void *data, size_t bytes, uint8_t digest[32]);

/* ---- machine (cpu.c) ------------------------------------------------------------------------- */

/* MOERT_CPU_* bits that the CPU and the operating system support. */
MOERT_HIDDEN uint32_t moert_cpu_features(void);
/* CPUs that the process may use: affinity mask and cgroup quota; at least 1. */
MOERT_HIDDEN int moert_cpu_count(void);
/* Rank of an instruction set by name, from 1; 0 when unknown. */
MOERT_HIDDEN int moert_isa_rank(const char *isa);

/* ---- element types (dtype.c) ----------------------------------------------------------------- */

/* Bytes of an element; 0 when the ONNX code is none that tensors here may have. */
MOERT_HIDDEN size_t moert_dtype_bytes(uint32_t onnx);
MOERT_HIDDEN const char *moert_dtype_name(uint32_t onnx);
MOERT_HIDDEN DLDataType moert_dtype_dl(uint32_t onnx);

/* ---- the library file (descriptor.c) --------------------------------------------------------- */

/* A file mapped read-only. */
typedef struct moert_file {
  const uint8_t *data;
  size_t bytes;
} moert_file;
MOERT_HIDDEN moert_status moert_file_map(const char *path, moert_file *file, moert_error *error);
MOERT_HIDDEN void moert_file_unmap(moert_file *file);

/* Finds the descriptor in an ELF file and checks both. */
MOERT_HIDDEN moert_status moert_descriptor_find(const char *path, const moert_file *file,
                                                const moert_descriptor **descriptor,
                                                moert_error *error);

/* ---- weights (weights.c) --------------------------------------------------------------------- */

typedef struct moert_weights {
  moert_file file; /* mapped, or */
  void *copy;      /* in memory */
  size_t copy_bytes;
  void **slots;
  size_t count;
} moert_weights;
MOERT_HIDDEN moert_status moert_weights_open(const char *path, const moert_descriptor *descriptor,
                                             bool verify, bool copy, moert_weights *weights,
                                             moert_error *error);
MOERT_HIDDEN void moert_weights_close(moert_weights *weights);

/* ---- model (model.c) ------------------------------------------------------------------------- */

/* A size as `constant` + the sum of some symbols. */
typedef struct moert_size {
  int64_t constant;
  int symbols;
  int symbol[4]; /* numbers of symbols */
  bool unknown;  /* "?" */
} moert_size;

typedef struct moert_port {
  moert_tensor_info info;
  uint32_t onnx; /* element type */
  int64_t dims[MOERT_MAX_RANK];
  const char *names[MOERT_MAX_RANK];
  moert_size sizes[MOERT_MAX_RANK];
} moert_port;

struct moert_model {
  _Atomic int references;
  void *library; /* of dlopen */
  void *descriptor_copy;
  const moert_descriptor *descriptor;
  moert_weights weights;
  const moert_code *code;
  moert_kernel *kernels;
  const char **kernel_isa;
  const char *isa;
  moert_port *ports; /* inputs, then outputs */
  char **symbols;
  int symbol_count;
  moert_hook_info *hooks; /* by number */
};
MOERT_HIDDEN const char *moert_descriptor_text(const moert_descriptor *descriptor, uint32_t offset);

/* Signature (signature.c): fills model->ports and symbols. */
MOERT_HIDDEN moert_status moert_signature_read(moert_model *model, moert_error *error);
/* `sizes` and `origins` have a place for each symbol of the model. */
MOERT_HIDDEN moert_status moert_signature_check(const moert_model *model, const DLTensor *inputs,
                                                int64_t *sizes, int *origins, moert_error *error);

/* ---- routing hooks (hooks.c) ----------------------------------------------------------------- */

MOERT_HIDDEN moert_status moert_hooks_set(const moert_model *model, moert_ctx *ctx,
                                          const char *layer, const moert_routing *routing,
                                          size_t experts, moert_error *error);
/* Null: of all layers. */
MOERT_HIDDEN moert_status moert_hooks_clear(const moert_model *model, moert_ctx *ctx,
                                            const char *layer, moert_error *error);
MOERT_HIDDEN void moert_hooks_release(const moert_model *model, moert_ctx *ctx);

/* ---- sessions (session.c) --------------------------------------------------------------------- */

MOERT_HIDDEN moert_ctx *moert_session_context(moert_session *session);

/* ---- run-time memory (memory.c) -------------------------------------------------------------- */

MOERT_HIDDEN struct moert_memory *moert_memory_create(void);
/* Of the session: unused blocks go at once, the rest when their owners release them. */
MOERT_HIDDEN void moert_memory_close(struct moert_memory *memory);
/* Null when out of memory. */
MOERT_HIDDEN void *moert_memory_alloc(struct moert_memory *memory, size_t bytes);
MOERT_HIDDEN void moert_memory_free(struct moert_memory *memory, void *data);
/* Takes a live block out of the run, which then outlives it; false when it is none. */
MOERT_HIDDEN bool moert_memory_detach(struct moert_memory *memory, void *data);
/* Gives a detached block back; any thread, any time. */
MOERT_HIDDEN void moert_memory_return(void *data);
/* Ends a run: live blocks become free, blocks that were long unused go back to the system. */
MOERT_HIDDEN void moert_memory_end_run(struct moert_memory *memory);
MOERT_HIDDEN void moert_memory_counters(const struct moert_memory *memory,
                                        moert_counters *counters);

/* ---- threads (pool.c) ------------------------------------------------------------------------ */

MOERT_HIDDEN struct moert_pool *moert_pool_create(int threads, int64_t spin_ns);
MOERT_HIDDEN void moert_pool_release(struct moert_pool *pool);
/* Runs all tasks; false when one failed: then its error is in *error. */
MOERT_HIDDEN bool moert_pool_run(struct moert_pool *pool, int64_t tasks, moert_task fn, void *arg,
                                 moert_error *error);
/* Ends the calling thread's task with an error if it is running one; else returns. */
MOERT_HIDDEN void moert_pool_fail(struct moert_pool *pool, const moert_error *error);

/* The functions of api_functions.def. */
MOERT_HIDDEN extern const moert_api moert_api_table;

#endif
