/* Opening a model: checks first, code last. */
#include "internal.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// `path` with another extension; null when out of memory.
static char *beside(const char *path) {
  size_t length = strlen(path);
  const char *name = strrchr(path, '/');
  const char *dot = strrchr(name ? name : path, '.');
  if (dot && dot != path && dot[-1] != '/')
    length = (size_t)(dot - path);
  char *other = malloc(length + sizeof ".moew");
  if (other) {
    memcpy(other, path, length);
    strcpy(other + length, ".moew");
  }
  return other;
}

static moert_status load_code(const char *path, moert_model *model, moert_error *error) {
  char *full = NULL;
  // A name without a slash would be searched for in the system's folders.
  if (asprintf(&full, "%s%s", strchr(path, '/') ? "" : "./", path) < 0)
    return moert_error_set(error, MOERT_ERROR_RESOURCE, "out of memory");
  model->library = dlopen(full, RTLD_NOW | RTLD_LOCAL);
  free(full);
  if (!model->library)
    return moert_error_set(error, MOERT_ERROR_INPUT, "%s: cannot be loaded: %s", path, dlerror());
  const void *loaded = dlsym(model->library, MOERT_DESCRIPTOR_SYMBOL);
  model->code = dlsym(model->library, MOERT_CODE_SYMBOL);
  if (!loaded || !model->code || !model->code->entry)
    return moert_error_set(error, MOERT_ERROR_INPUT, "%s: the library lacks the model's code",
                           path);
  if (memcmp(loaded, model->descriptor, model->descriptor->total_bytes))
    return moert_error_set(error, MOERT_ERROR_INPUT, "%s: the file changed while it was opened",
                           path);
  return MOERT_OK;
}

// For each slot the last variant that this CPU runs and that is not above `limit`.
static moert_status choose_kernels(const char *path, moert_model *model, int limit,
                                   moert_error *error) {
  const moert_descriptor *d = model->descriptor;
  const char *base = (const char *)d;
  const moert_descriptor_kernel *kernels = (const void *)(base + d->kernels_offset);
  const moert_descriptor_variant *variants = (const void *)(base + d->variants_offset);
  uint32_t features = moert_cpu_features();
  int best = 0;
  for (uint32_t slot = 0; slot < d->kernels; ++slot) {
    uint32_t first = kernels[slot].first_variant, end = first + kernels[slot].variants;
    for (uint32_t i = first; i < end; ++i) {
      const char *isa = moert_descriptor_text(d, variants[i].isa);
      int rank = moert_isa_rank(isa);
      if (!rank || rank > limit || variants[i].cpu & ~features)
        continue;
      model->kernels[slot] = model->code->variants[i];
      model->kernel_isa[slot] = isa;
      if (rank > best) {
        best = rank;
        model->isa = isa;
      }
    }
    if (!model->kernels[slot])
      return moert_error_set(error, MOERT_ERROR_UNSUPPORTED,
                             "%s: unsupported CPU: kernel \"%s\" has no variant for it", path,
                             moert_descriptor_text(d, kernels[slot].spec));
  }
  return MOERT_OK;
}

static moert_status isa_limit(const moert_model_options *options, int *limit, moert_error *error) {
  const char *isa = options->isa, *from = "the option isa";
  if (!isa) {
    isa = getenv("MOERT_ISA");
    from = "MOERT_ISA";
  }
  *limit = 1 << 30;
  if (!isa || !*isa)
    return MOERT_OK;
  *limit = moert_isa_rank(isa);
  if (*limit)
    return MOERT_OK;
  return moert_error_set(error, MOERT_ERROR_USAGE, "%s is \"%s\", which is none of avx2, avx512",
                         from, isa);
}

static moert_status read_hooks(moert_model *model, moert_error *error) {
  const moert_descriptor *d = model->descriptor;
  const moert_descriptor_hook *hooks = (const void *)((const char *)d + d->hooks_offset);
  model->hooks = calloc(d->hooks + 1u, sizeof *model->hooks);
  if (!model->hooks)
    return moert_error_set(error, MOERT_ERROR_RESOURCE, "out of memory");
  for (uint32_t i = 0; i < d->hooks; ++i)
    model->hooks[i] = (moert_hook_info){moert_descriptor_text(d, hooks[i].layer),
                                        hooks[i].experts, hooks[i].k};
  return MOERT_OK;
}

// Everything that is read from the file without running it. The descriptor is copied, so that the
// file need not stay mapped.
static moert_status read_library(const char *path, moert_model *model, moert_error *error) {
  moert_file file;
  moert_status status = moert_file_map(path, &file, error);
  if (status)
    return status;
  const moert_descriptor *d;
  status = moert_descriptor_find(path, &file, &d, error);
  if (!status) {
    model->descriptor_copy = malloc(d->total_bytes);
    model->kernels = calloc(d->kernels + 1u, sizeof *model->kernels);
    model->kernel_isa = calloc(d->kernels + 1u, sizeof *model->kernel_isa);
    if (model->descriptor_copy && model->kernels && model->kernel_isa)
      model->descriptor = memcpy(model->descriptor_copy, d, d->total_bytes);
    else
      status = moert_error_set(error, MOERT_ERROR_RESOURCE, "out of memory");
  }
  moert_file_unmap(&file);
  if (!status)
    status = read_hooks(model, error);
  return status ? status : moert_signature_read(model, error);
}

static moert_status open_weights(const char *path, const moert_model_options *options,
                                 moert_model *model, moert_error *error) {
  char *own = options->weights_path ? NULL : beside(path);
  const char *weights = options->weights_path ? options->weights_path : own;
  if (!weights)
    return moert_error_set(error, MOERT_ERROR_RESOURCE, "out of memory");
  moert_status status = moert_weights_open(weights, model->descriptor, options->verify_weights,
                                           options->copy_weights, &model->weights, error);
  free(own);
  return status;
}

moert_status moert_model_open(const char *path, const moert_model_options *options,
                              moert_model **result, moert_error *error) {
  if (!path || !result)
    return moert_error_set(error, MOERT_ERROR_USAGE, "moert_model_open: null path or result");
  *result = NULL;
  const moert_model_options defaults = {0};
  if (!options)
    options = &defaults;
  int limit;
  moert_status status = isa_limit(options, &limit, error);
  if (status)
    return status;
  moert_model *model = calloc(1, sizeof *model);
  if (!model)
    return moert_error_set(error, MOERT_ERROR_RESOURCE, "out of memory");
  model->references = 1;
  model->isa = "x86-64-v3"; // of the host program; kernels may raise it
  status = read_library(path, model, error);
  if (!status)
    status = open_weights(path, options, model, error);
  if (!status)
    status = load_code(path, model, error);
  if (!status)
    status = choose_kernels(path, model, limit, error);
  if (status)
    moert_model_release(model);
  else
    *result = model;
  return status;
}

void moert_model_release(moert_model *model) {
  if (!model || atomic_fetch_sub_explicit(&model->references, 1, memory_order_acq_rel) > 1)
    return;
  if (model->library)
    dlclose(model->library);
  moert_weights_close(&model->weights);
  for (int i = 0; i < model->symbol_count; ++i)
    free(model->symbols[i]);
  free(model->symbols);
  free(model->ports);
  free(model->hooks);
  free(model->kernels);
  free(model->kernel_isa);
  free(model->descriptor_copy);
  free(model);
}

void moert_model_get_info(const moert_model *model, moert_model_info *info) {
  const moert_descriptor *d = model->descriptor;
  *info = (moert_model_info){.abi = d->abi,
                             .compiler_version = moert_descriptor_text(d, d->compiler_version),
                             .isa = model->isa,
                             .inputs = d->inputs,
                             .outputs = d->outputs,
                             .kernels = d->kernels,
                             .weights = d->weights,
                             .weight_bytes = model->weights.file.bytes,
                             .hooks = d->hooks};
}

const moert_tensor_info *moert_model_input(const moert_model *model, size_t index) {
  return index < model->descriptor->inputs ? &model->ports[index].info : NULL;
}

const moert_tensor_info *moert_model_output(const moert_model *model, size_t index) {
  size_t inputs = model->descriptor->inputs;
  return index < model->descriptor->outputs ? &model->ports[inputs + index].info : NULL;
}

const moert_hook_info *moert_model_hook(const moert_model *model, size_t index) {
  return index < model->descriptor->hooks ? &model->hooks[index] : NULL;
}

const char *moert_model_kernel(const moert_model *model, size_t index, const char **isa) {
  const moert_descriptor *d = model->descriptor;
  if (index >= d->kernels)
    return NULL;
  const moert_descriptor_kernel *kernels = (const void *)((const char *)d + d->kernels_offset);
  if (isa)
    *isa = model->kernel_isa[index];
  return moert_descriptor_text(d, kernels[index].spec);
}
