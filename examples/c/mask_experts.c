/* Masks experts of one layer between the runs of one session.
 *
 *   mask_experts model.so                       lists the layers that can be changed
 *   mask_experts model.so LAYER EXPERT...       runs with all experts, with those masked, with all
 *
 * The model was compiled with --routing-hooks; its input is token ids, [batch, sequence], and its
 * first output f32 logits, as examples/moe-lm/prefill.onnx has. */
#include <moert/moert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const moert_error *error) {
  fprintf(stderr, "%s\n", error->message);
  return 1;
}

static void list(const moert_model *model) {
  const moert_hook_info *hook;
  for (size_t i = 0; (hook = moert_model_hook(model, i)); ++i)
    printf("%s: %zu of %zu experts\n", hook->layer, hook->k, hook->experts);
}

static const moert_hook_info *find(const moert_model *model, const char *layer) {
  const moert_hook_info *hook = NULL;
  for (size_t i = 0; (hook = moert_model_hook(model, i)) && strcmp(hook->layer, layer); ++i)
    ;
  return hook;
}

/* The last logit of a fixed text. */
static int run(moert_session *session, size_t outputs, const char *what) {
  int64_t ids[] = {1, 15, 8}, shape[] = {1, 3};
  DLTensor input = {
      .data = ids, .device = {kDLCPU, 0}, .ndim = 2, .dtype = {kDLInt, 64, 1}, .shape = shape};
  DLManagedTensor **out = calloc(outputs, sizeof *out);
  moert_error error = {.message = "out of memory"};
  if (!out || moert_session_run(session, &input, 1, out, outputs, &error)) {
    free(out);
    return fail(&error);
  }
  const DLTensor *y = &out[0]->dl_tensor;
  int64_t count = 1;
  for (int k = 0; k < y->ndim; ++k)
    count *= y->shape[k];
  printf("%s: %.6f\n", what, ((const float *)y->data)[count - 1]);
  for (size_t i = 0; i < outputs; ++i)
    out[i]->deleter(out[i]);
  free(out);
  return 0;
}

static int mask(const moert_model *model, moert_session *session, char **args, int count) {
  moert_model_info info;
  moert_model_get_info(model, &info);
  moert_error error;
  const char *layer = args[0];
  const moert_hook_info *hook = find(model, layer);
  size_t experts = hook ? hook->experts : 0;
  uint8_t *keep = malloc(experts + 1);
  for (size_t e = 0; keep && e < experts; ++e) {
    keep[e] = 1;
    for (int i = 1; i < count; ++i)
      keep[e] &= strtoul(args[i], NULL, 10) != e;
  }
  int failed = run(session, info.outputs, "all experts");
  moert_routing routing = {.keep = keep};
  if (moert_session_set_routing(session, layer, &routing, experts, &error))
    failed = fail(&error);
  failed = failed || run(session, info.outputs, "masked");
  if (moert_session_clear_routing(session, layer, &error))
    failed = fail(&error);
  failed = failed || run(session, info.outputs, "all again");
  free(keep);
  return failed;
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: mask_experts model.so [LAYER EXPERT...]\n");
    return 2;
  }
  moert_error error;
  moert_model *model;
  moert_session *session;
  if (moert_model_open(argv[1], NULL, &model, &error))
    return fail(&error);
  int failed = 0;
  if (argc == 2)
    list(model);
  else if (moert_session_create(model, NULL, &session, &error))
    failed = fail(&error);
  else {
    failed = mask(model, session, argv + 2, argc - 2);
    moert_session_release(session);
  }
  moert_model_release(model);
  return failed;
}
