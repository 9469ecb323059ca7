/* libmoert: loads a model that moec compiled and runs it. The C interface.
 *
 *   moert_model *model;
 *   moert_session *session;
 *   moert_error error;
 *   if (moert_model_open("model.so", NULL, &model, &error)) ...error.message
 *   if (moert_session_create(model, NULL, &session, &error)) ...
 *   if (moert_session_run(session, inputs, n, outputs, m, &error)) ...
 *   outputs[i]->deleter(outputs[i]);
 *   moert_session_release(session);
 *   moert_model_release(model);
 *
 * Errors: every function that can fail returns a status and, when `error` is not null, writes one
 * line into it. Nothing is returned then, and there is nothing to release.
 *
 * Threads: a model is immutable and may be used by any number of threads and sessions at once. A
 * session runs one call at a time (a second one at the same time is refused with
 * MOERT_ERROR_USAGE); use a session for each thread. Outputs may be released by any thread, also
 * after their session and model. The library keeps no global state. A process that forks may not
 * use its sessions in the child.
 *
 * A model's .so is code and is trusted like a program. Its .moew file, and all inputs, are not.
 */
#ifndef MOERT_MOERT_H
#define MOERT_MOERT_H
#include "moert/dlpack.h"
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define MOERT_EXPORT __attribute__((visibility("default")))

/* The values are moec's exit codes. */
typedef enum moert_status {
  MOERT_OK = 0,
  MOERT_ERROR_INPUT = 1,       /* a file or an input tensor is wrong */
  MOERT_ERROR_USAGE = 2,       /* a wrong call: null pointer, wrong count, unknown option */
  MOERT_ERROR_UNSUPPORTED = 3, /* another ABI, or a CPU that cannot run the code */
  MOERT_ERROR_RESOURCE = 5,    /* memory, threads, files that cannot be read */
  MOERT_ERROR_INTERNAL = 70,   /* a fault of the compiler or of this library */
} moert_status;

typedef struct moert_error {
  moert_status status;
  char message[1020]; /* one line, zero-terminated, cut when longer */
} moert_error;

typedef struct moert_model moert_model;
typedef struct moert_session moert_session;

/* "ok", "input error", ...; static. */
MOERT_EXPORT const char *moert_status_name(moert_status status);
/* Version of the ABI between this library and compiled models. */
MOERT_EXPORT uint32_t moert_abi_version(void);

/* ---- models ---------------------------------------------------------------------------------- */

/* Start from zero ({0}); zero means the default everywhere. */
typedef struct moert_model_options {
  /* The .moew file; null: the library's path with .moew in place of its extension. */
  const char *weights_path;
  /* The best instruction set to use: "avx2" or "avx512"; null: the environment's MOERT_ISA, else
   * the best that the CPU has. */
  const char *isa;
  /* Reads all weights and compares their checksums. */
  int verify_weights;
  /* Copies the weights into memory with large pages instead of mapping the file: a slower start
   * and no sharing among processes, but fewer TLB misses. */
  int copy_weights;
} moert_model_options;

/* Checks the library before any of its code is loaded, maps its weights, and loads it. `options`
 * may be null. */
MOERT_EXPORT moert_status moert_model_open(const char *path, const moert_model_options *options,
                                           moert_model **model, moert_error *error);
/* The model lives on until the last of its sessions is released. Null is ignored. */
MOERT_EXPORT void moert_model_release(moert_model *model);

/* One input or output. Pointers live as long as the model. */
typedef struct moert_tensor_info {
  const char *name;
  DLDataType dtype;
  const char *dtype_name; /* "f32", "f16", "bf16", "f64", "i8".."i64", "ui8".."ui64", "i1"; narrow
                             types, a byte an element: "i2", "i4", "ui2", "ui4", "f8E4M3FN", ... */
  int32_t rank;
  const int64_t *dims;          /* -1 where the size is not fixed */
  const char *const *dim_names; /* a number, a symbol, a sum ("past + sequence"), or "?" */
} moert_tensor_info;

typedef struct moert_model_info {
  uint32_t abi;
  const char *compiler_version; /* of the moec that compiled the model */
  const char *isa;              /* the best instruction set that the model's kernels run with */
  size_t inputs, outputs;       /* how many */
  size_t kernels;               /* kernel slots */
  size_t weights;               /* weight slots */
  uint64_t weight_bytes;        /* size of the .moew file */
  size_t hooks;                 /* layers whose routing a session may change */
} moert_model_info;

/* `info` is filled; its strings live as long as the model. */
MOERT_EXPORT void moert_model_get_info(const moert_model *model, moert_model_info *info);
/* Null when the index is out of range. */
MOERT_EXPORT const moert_tensor_info *moert_model_input(const moert_model *model, size_t index);
MOERT_EXPORT const moert_tensor_info *moert_model_output(const moert_model *model, size_t index);
/* The kernel spec of a slot and the instruction set it runs with; null when out of range. */
MOERT_EXPORT const char *moert_model_kernel(const moert_model *model, size_t index,
                                            const char **isa);

/* A layer whose routing a session may change, of a model that was compiled with routing hooks
 * (`moec compile --routing-hooks`). */
typedef struct moert_hook_info {
  const char *layer; /* its name; lives as long as the model */
  size_t experts;    /* that its router chooses from */
  size_t k;          /* that it chooses for each token, at most */
} moert_hook_info;

/* Null when the index is out of range. */
MOERT_EXPORT const moert_hook_info *moert_model_hook(const moert_model *model, size_t index);

/* ---- sessions -------------------------------------------------------------------------------- */

/* Start from zero ({0}). */
typedef struct moert_session_options {
  /* Threads that run a call, the caller's included. 0: the environment's MOERT_THREADS, else all
   * CPUs that the process may use (its affinity mask and cgroup quota). */
  int threads;
  /* Microseconds that idle workers wait actively before they sleep. 0: a default (100, or none
   * when there are more threads than CPUs); -1: none. */
  int spin_us;
  /* Skips the checks of inputs (rank, type, sizes); wrong inputs are then undefined behaviour. */
  int trust_inputs;
} moert_session_options;

/* `options` may be null. */
MOERT_EXPORT moert_status moert_session_create(moert_model *model,
                                               const moert_session_options *options,
                                               moert_session **session, moert_error *error);
/* Null is ignored. Not while the session runs. */
MOERT_EXPORT void moert_session_release(moert_session *session);

/* Runs once. Inputs are in the model's order, on the CPU, compact row-major, aligned to their
 * element, and only read during the call. On success outputs[0..n_outputs) are new tensors,
 * 64-byte aligned, owned by the caller (release with their deleter); after an error all are null.
 */
MOERT_EXPORT moert_status moert_session_run(moert_session *session, const DLTensor *inputs,
                                            size_t n_inputs, DLManagedTensor **outputs,
                                            size_t n_outputs, moert_error *error);

typedef struct moert_counters {
  uint64_t runs; /* that succeeded */
  uint64_t failed_runs;
  uint64_t total_ns;        /* wall time of successful runs */
  uint64_t last_ns, min_ns; /* of successful runs; 0 before the first */
  uint64_t memory_bytes;    /* run-time memory that the session holds now, in use and cached */
  uint64_t peak_memory_bytes;
  uint64_t system_allocations; /* blocks taken from the system so far: constant in steady state */
} moert_counters;

/* Not while the session runs. */
MOERT_EXPORT void moert_session_get_counters(const moert_session *session,
                                             moert_counters *counters);
MOERT_EXPORT int moert_session_threads(const moert_session *session);

/* ---- routing --------------------------------------------------------------------------------- */

/* How a session changes the logits z of a layer's router, for each expert: z * scale + bias, or
 * -infinity where `keep` is 0: then the expert is not chosen, and the others share its weight as if
 * it did not exist. Arrays [experts]; null: 1, 0, and all are kept. Start from zero ({0}). */
typedef struct moert_routing {
  const float *scale, *bias;
  const uint8_t *keep;
} moert_routing;

/* For all runs of this session from now on, in place of what was set for the layer before; other
 * sessions of the model are not affected. The arrays are copied. Refused (and nothing changes): a
 * layer without a hook, another number of experts than its router has, fewer kept experts than it
 * chooses, a scale or bias that is not finite, and while the session runs. */
MOERT_EXPORT moert_status moert_session_set_routing(moert_session *session, const char *layer,
                                                    const moert_routing *routing, size_t experts,
                                                    moert_error *error);
/* Back to the model's own routing in a layer, or with null in all. Not while the session runs. */
MOERT_EXPORT moert_status moert_session_clear_routing(moert_session *session, const char *layer,
                                                      moert_error *error);

/* ---- profiles -------------------------------------------------------------------------------- */

/* A model that was compiled with probes (`moec profile`, the pass insert-probes) can collect what its
 * routers and experts do: sums of doubles for each layer and label, by the names of
 * moec/Analysis/Profile.h. Of other models a profile stays empty. Not while the session runs. After a
 * failed run the profile may hold a part of it: start again. */

/* Start from zero ({0}). */
typedef struct moert_profile_options {
  /* Tokens that are kept of each layer and label, with what went in and out (layers whose probes tell
   * it). Those with the smallest keys are kept, whatever the order they come in; a key depends on
   * label, sequence and position in the sequence. */
  int64_t reservoir;
} moert_profile_options;

/* From now on the session's runs are counted; what was collected before is gone. `options` may be
 * null. */
MOERT_EXPORT moert_status moert_session_profile_start(moert_session *session,
                                                      const moert_profile_options *options,
                                                      moert_error *error);
/* Releases the profile; later runs are not counted. Null is ignored. */
MOERT_EXPORT void moert_session_profile_stop(moert_session *session);
/* What the next runs read: a label of the data (copied), into how many equal sequences a run's tokens
 * fall (when that does not divide them they count as one), and the number that the first of these has
 * among the label's. Before the first call: label "", one sequence, number 0. */
MOERT_EXPORT moert_status moert_session_profile_data(moert_session *session, const char *label,
                                                     int64_t sequences, int64_t first_sequence,
                                                     moert_error *error);

typedef struct moert_profile_statistic {
  const char *layer, *label, *name;
  int is_max; /* a maximum (-infinity: no data) rather than a sum */
  int32_t rank;
  int64_t dims[2];
  const double *data; /* row-major */
} moert_profile_statistic;

typedef struct moert_profile_token {
  const char *layer, *label;
  uint64_t key;
  int64_t hidden, experts, k;
  const float *x, *logits, *weights, *y; /* [hidden], [experts], [k], [hidden] */
  const int32_t *ids;                    /* [k] */
} moert_profile_token;

/* Called for each statistic of each layer and label that has data, and for each token that was kept
 * (rising keys within layer and label); what they get lives during the call only. Either may be null. */
typedef struct moert_profile_visitor {
  void *arg;
  void (*statistic)(void *arg, const moert_profile_statistic *value);
  void (*token)(void *arg, const moert_profile_token *token);
} moert_profile_visitor;

MOERT_EXPORT moert_status moert_session_profile_read(moert_session *session,
                                                     const moert_profile_visitor *visitor,
                                                     moert_error *error);
/* The same, and the profile ends: a layer's memory is given back before the next layer comes. */
MOERT_EXPORT moert_status moert_session_profile_take(moert_session *session,
                                                     const moert_profile_visitor *visitor,
                                                     moert_error *error);

#ifdef __cplusplus
}
#endif
#endif
