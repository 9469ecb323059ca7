/* Sessions: one run at a time over a shared model. */
#include "internal.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct moert_session {
  moert_ctx ctx;
  moert_model *model;
  moert_buffer *args;
  int64_t *sizes; /* of symbols */
  int *origins;
  bool trust_inputs;
  _Atomic int busy;
  moert_counters counters;
};

/* An output as its owner sees it; itself a block of the session's memory. */
typedef struct {
  DLManagedTensor tensor;
  int64_t shape[MOERT_MAX_RANK];
} output;

const moert_api moert_api_table = {
#define MOERT_API_FN(result, name, ...) .name = moert_##name,
#include "moert/api_functions.def"
#undef MOERT_API_FN
};

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static moert_status thread_count(const moert_session_options *options, int *threads,
                                 moert_error *error) {
  enum { MOST = 1024 };
  *threads = options->threads;
  if (*threads < 0 || *threads > MOST)
    return moert_error_set(error, MOERT_ERROR_USAGE, "threads is %d, not in [0, %d]", *threads,
                           MOST);
  const char *text = getenv("MOERT_THREADS");
  if (!*threads && text && *text) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || value < 1 || value > MOST)
      return moert_error_set(error, MOERT_ERROR_USAGE,
                             "MOERT_THREADS is \"%s\", not a number in [1, %d]", text, MOST);
    *threads = (int)value;
  }
  if (!*threads)
    *threads = moert_cpu_count();
  return MOERT_OK;
}

static moert_status build(moert_session *session, const moert_session_options *options,
                          moert_error *error) {
  int threads;
  moert_status status = thread_count(options, &threads, error);
  if (status)
    return status;
  moert_model *model = session->model;
  const moert_descriptor *d = model->descriptor;
  session->trust_inputs = options->trust_inputs;
  session->args = calloc((size_t)d->inputs + d->outputs + 1, sizeof *session->args);
  session->sizes = calloc((size_t)model->symbol_count + 1, sizeof *session->sizes);
  session->origins = calloc((size_t)model->symbol_count + 1, sizeof *session->origins);
  session->ctx.memory = moert_memory_create();
  if (!session->args || !session->sizes || !session->origins || !session->ctx.memory)
    return moert_error_set(error, MOERT_ERROR_RESOURCE, "out of memory");
  if (threads > 1) {
    // Active waiting only helps while every thread has a CPU of its own.
    int64_t spin = options->spin_us > 0                                    ? options->spin_us
                   : options->spin_us == 0 && threads <= moert_cpu_count() ? 100
                                                                           : 0;
    session->ctx.pool = moert_pool_create(threads, spin * 1000);
    if (!session->ctx.pool)
      return moert_error_set(error, MOERT_ERROR_RESOURCE, "cannot start %d threads", threads);
  }
  session->ctx.threads = threads;
  session->ctx.head =
      (struct moert_ctx_head){&moert_api_table, model->weights.slots, model->kernels};
  return MOERT_OK;
}

moert_status moert_session_create(moert_model *model, const moert_session_options *options,
                                  moert_session **result, moert_error *error) {
  if (!model || !result)
    return moert_error_set(error, MOERT_ERROR_USAGE, "moert_session_create: null model or result");
  *result = NULL;
  const moert_session_options defaults = {0};
  moert_session *session = calloc(1, sizeof *session);
  if (!session)
    return moert_error_set(error, MOERT_ERROR_RESOURCE, "out of memory");
  session->model = model;
  atomic_fetch_add_explicit(&model->references, 1, memory_order_relaxed);
  moert_status status = build(session, options ? options : &defaults, error);
  if (status)
    moert_session_release(session);
  else
    *result = session;
  return status;
}

void moert_session_release(moert_session *session) {
  if (!session)
    return;
  moert_session_profile_stop(session);
  moert_hooks_release(session->model, &session->ctx);
  moert_pool_release(session->ctx.pool);
  moert_memory_close(session->ctx.memory);
  free(session->args);
  free(session->sizes);
  free(session->origins);
  moert_model_release(session->model);
  free(session);
}

// Alone in its function, so that no local variable changes between setjmp and longjmp.
static bool enter(moert_session *session) {
  jmp_buf jump;
  session->ctx.jump = &jump;
  if (_setjmp(jump))
    return false;
  session->model->code->entry(&session->ctx, session->args);
  return true;
}

static void release_output(DLManagedTensor *self) {
  void *data = self->dl_tensor.data;
  moert_memory_return(data);
  moert_memory_return(self);
}

// Makes output `i` the caller's. Nothing is allocated from the system in a steady state.
static moert_status hand_over(moert_session *session, size_t i, DLManagedTensor **result,
                              moert_error *error) {
  const moert_model *model = session->model;
  const moert_port *port = &model->ports[model->descriptor->inputs + i];
  const moert_buffer *buffer = &session->args[model->descriptor->inputs + i];
  for (int k = 0; k < port->info.rank; ++k)
    if (buffer->dims[k] < 0)
      return moert_error_set(error, MOERT_ERROR_INTERNAL,
                             "internal: output \"%s\" has a negative size", port->info.name);
  output *out = moert_memory_alloc(session->ctx.memory, sizeof *out);
  if (!out)
    return moert_error_set(error, MOERT_ERROR_RESOURCE, "out of memory");
  if (!buffer->data || buffer->data == out ||
      !moert_memory_detach(session->ctx.memory, buffer->data))
    return moert_error_set(error, MOERT_ERROR_INTERNAL,
                           "internal: output \"%s\" has no buffer of its own", port->info.name);
  moert_memory_detach(session->ctx.memory, out);
  memcpy(out->shape, buffer->dims, sizeof out->shape);
  out->tensor = (DLManagedTensor){.dl_tensor = {.data = buffer->data,
                                                .device = {kDLCPU, 0},
                                                .ndim = port->info.rank,
                                                .dtype = port->info.dtype,
                                                .shape = out->shape},
                                  .deleter = release_output};
  *result = &out->tensor;
  return MOERT_OK;
}

static moert_status run(moert_session *session, const DLTensor *inputs, DLManagedTensor **outputs,
                        moert_error *error) {
  const moert_model *model = session->model;
  size_t n = model->descriptor->inputs, m = model->descriptor->outputs;
  if (!session->trust_inputs) {
    moert_status status =
        moert_signature_check(model, inputs, session->sizes, session->origins, error);
    if (status)
      return status;
  }
  for (size_t i = 0; i < n; ++i) {
    session->args[i].data = (char *)inputs[i].data + inputs[i].byte_offset;
    for (int k = 0; k < model->ports[i].info.rank; ++k)
      session->args[i].dims[k] = inputs[i].shape[k];
  }
  memset(session->args + n, 0, m * sizeof *session->args);
  session->ctx.error = error;
  moert_status status = MOERT_OK;
  if (!enter(session))
    status = error->status;
  for (size_t i = 0; i < m && !status; ++i)
    status = hand_over(session, i, &outputs[i], error);
  for (size_t i = 0; i < m && status; ++i)
    if (outputs[i]) {
      outputs[i]->deleter(outputs[i]);
      outputs[i] = NULL;
    }
  moert_memory_end_run(session->ctx.memory);
  return status;
}

static void count(moert_counters *counters, moert_status status, uint64_t ns) {
  if (status) {
    ++counters->failed_runs;
    return;
  }
  ++counters->runs;
  counters->total_ns += ns;
  counters->last_ns = ns;
  if (counters->runs == 1 || ns < counters->min_ns)
    counters->min_ns = ns;
}

moert_status moert_session_run(moert_session *session, const DLTensor *inputs, size_t n_inputs,
                               DLManagedTensor **outputs, size_t n_outputs, moert_error *error) {
  for (size_t i = 0; outputs && i < n_outputs; ++i)
    outputs[i] = NULL;
  if (!session || (n_inputs && !inputs) || (n_outputs && !outputs))
    return moert_error_set(error, MOERT_ERROR_USAGE, "moert_session_run: null argument");
  const moert_descriptor *d = session->model->descriptor;
  if (n_inputs != d->inputs || n_outputs != d->outputs)
    return moert_error_set(error, MOERT_ERROR_USAGE,
                           "%zu inputs and %zu outputs given, the model has %u and %u", n_inputs,
                           n_outputs, d->inputs, d->outputs);
  if (atomic_exchange_explicit(&session->busy, 1, memory_order_acquire))
    return moert_error_set(error, MOERT_ERROR_USAGE,
                           "the session is running: use one session for each thread");
  moert_error own;
  int64_t start = now();
  moert_status status = run(session, inputs, outputs, error ? error : &own);
  count(&session->counters, status, (uint64_t)(now() - start));
  atomic_store_explicit(&session->busy, 0, memory_order_release);
  return status;
}

// Settings change between runs only.
static bool take(moert_session *session, const char *function, moert_status *status,
                 moert_error *error) {
  if (!session)
    *status = moert_error_set(error, MOERT_ERROR_USAGE, "%s: null session", function);
  else if (atomic_exchange_explicit(&session->busy, 1, memory_order_acquire))
    *status = moert_error_set(error, MOERT_ERROR_USAGE, "%s: the session is running", function);
  else
    return true;
  return false;
}

moert_status moert_session_set_routing(moert_session *session, const char *layer,
                                       const moert_routing *routing, size_t experts,
                                       moert_error *error) {
  moert_status status;
  if (!take(session, "moert_session_set_routing", &status, error))
    return status;
  status = moert_hooks_set(session->model, &session->ctx, layer, routing, experts, error);
  atomic_store_explicit(&session->busy, 0, memory_order_release);
  return status;
}

moert_status moert_session_clear_routing(moert_session *session, const char *layer,
                                         moert_error *error) {
  moert_status status;
  if (!take(session, "moert_session_clear_routing", &status, error))
    return status;
  status = moert_hooks_clear(session->model, &session->ctx, layer, error);
  atomic_store_explicit(&session->busy, 0, memory_order_release);
  return status;
}

void moert_session_get_counters(const moert_session *session, moert_counters *counters) {
  *counters = session->counters;
  moert_memory_counters(session->ctx.memory, counters);
}

int moert_session_threads(const moert_session *session) { return session->ctx.threads; }

moert_ctx *moert_session_context(moert_session *session) { return &session->ctx; }
