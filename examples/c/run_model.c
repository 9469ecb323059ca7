/* Loads a model that moec compiled, prints its signature, runs it on token ids, and prints the most
 * likely next tokens.
 *
 *   run_model model.so [token id]...
 *
 * The model has one input of integers, [batch, sequence], and its first output is the logits,
 * f32 [batch, sequence, vocabulary], as examples/moe-lm/prefill.onnx has. */
#include <moert/moert.h>
#include <stdio.h>
#include <stdlib.h>

enum { TOP = 5 };

static void print_tensors(const char *kind, const moert_model *model, size_t count,
                          const moert_tensor_info *(*get)(const moert_model *, size_t)) {
  for (size_t i = 0; i < count; ++i) {
    const moert_tensor_info *info = get(model, i);
    printf("%s %s: %s[", kind, info->name, info->dtype_name);
    for (int k = 0; k < info->rank; ++k)
      printf("%s%s", k ? ", " : "", info->dim_names[k]);
    printf("]\n");
  }
}

/* The places of the TOP largest of n values, largest first. */
static int top(const float *values, int64_t n, int64_t *places) {
  int found = 0;
  for (int64_t i = 0; i < n; ++i) {
    int at = found < TOP ? found++ : TOP;
    for (; at > 0 && values[i] > values[places[at - 1]]; --at)
      if (at < TOP)
        places[at] = places[at - 1];
    if (at < TOP)
      places[at] = i;
  }
  return found;
}

static int print_logits(const DLTensor *logits) {
  if (logits->dtype.code != kDLFloat || logits->dtype.bits != 32 || logits->ndim < 1) {
    fprintf(stderr, "the first output is not f32 logits\n");
    return 1;
  }
  int64_t count = 1, vocabulary = logits->shape[logits->ndim - 1], places[TOP];
  for (int k = 0; k < logits->ndim; ++k)
    count *= logits->shape[k];
  if (!count)
    return 0;
  const float *last = (const float *)logits->data + count - vocabulary;
  int found = top(last, vocabulary, places);
  for (int i = 0; i < found; ++i)
    printf("token %lld: %.4f\n", (long long)places[i], last[places[i]]);
  return 0;
}

static int run(moert_model *model, int64_t *ids, int64_t count) {
  moert_model_info info;
  moert_model_get_info(model, &info);
  print_tensors("input ", model, info.inputs, moert_model_input);
  print_tensors("output", model, info.outputs, moert_model_output);
  printf("compiled by moec %s, runs with %s, %.1f MB of weights\n", info.compiler_version, info.isa,
         (double)info.weight_bytes / 1e6);
  if (!count)
    return 0;

  moert_error error;
  moert_session *session;
  if (moert_session_create(model, NULL, &session, &error)) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  int64_t shape[] = {1, count};
  DLTensor input = {
      .data = ids, .device = {kDLCPU, 0}, .ndim = 2, .dtype = {kDLInt, 64, 1}, .shape = shape};
  DLManagedTensor **outputs = calloc(info.outputs + 1, sizeof *outputs);
  int failed = 1;
  if (!outputs)
    fprintf(stderr, "out of memory\n");
  else if (moert_session_run(session, &input, 1, outputs, info.outputs, &error))
    fprintf(stderr, "%s\n", error.message);
  else
    failed = info.outputs ? print_logits(&outputs[0]->dl_tensor) : 0;
  for (size_t i = 0; outputs && i < info.outputs; ++i)
    if (outputs[i])
      outputs[i]->deleter(outputs[i]);
  free(outputs);
  moert_session_release(session);
  return failed;
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: run_model model.so [token id]...\n");
    return 2;
  }
  moert_error error;
  moert_model *model;
  if (moert_model_open(argv[1], NULL, &model, &error)) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  int64_t *ids = malloc(sizeof *ids * (size_t)argc);
  for (int i = 2; ids && i < argc; ++i)
    ids[i - 2] = strtoll(argv[i], NULL, 10);
  int failed = ids ? run(model, ids, argc - 2) : 1;
  free(ids);
  moert_model_release(model);
  return failed;
}
