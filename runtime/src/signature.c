/* The signature: from the descriptor, and the checks of inputs against it. */
#include "internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

// The number of a symbol, new or known; -1 when out of memory.
static int symbol_number(moert_model *model, const char *text, size_t length) {
  for (int i = 0; i < model->symbol_count; ++i)
    if (strlen(model->symbols[i]) == length && !memcmp(model->symbols[i], text, length))
      return i;
  char **grown = realloc(model->symbols, (size_t)(model->symbol_count + 1) * sizeof *grown);
  if (!grown)
    return -1;
  model->symbols = grown;
  char *copy = strndup(text, length);
  if (!copy)
    return -1;
  model->symbols[model->symbol_count] = copy;
  return model->symbol_count++;
}

// "8", "batch", "past_sequence + sequence", "?". Other expressions stand for themselves, as
// symbols.
static bool parse_size(moert_model *model, const char *text, moert_size *size) {
  *size = (moert_size){0};
  while (*text) {
    while (*text == ' ')
      ++text;
    size_t length = strcspn(text, "+"), used = length;
    while (used && text[used - 1] == ' ')
      --used;
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (used == 0 || (used == 1 && *text == '?')) {
      size->unknown = true;
    } else if (end == text + used && !errno && number >= 0) {
      if (__builtin_add_overflow(size->constant, (int64_t)number, &size->constant))
        size->unknown = true;
    } else {
      int symbol = symbol_number(model, text, used);
      if (symbol < 0)
        return false;
      if (size->symbols < (int)(sizeof size->symbol / sizeof *size->symbol))
        size->symbol[size->symbols++] = symbol;
      else
        size->unknown = true;
    }
    text += length;
    text += *text == '+';
  }
  return true;
}

moert_status moert_signature_read(moert_model *model, moert_error *error) {
  const moert_descriptor *d = model->descriptor;
  size_t count = (size_t)d->inputs + d->outputs;
  const moert_descriptor_tensor *tensors = (const void *)((const char *)d + d->tensors_offset);
  model->ports = calloc(count + 1, sizeof *model->ports);
  bool ok = model->ports;
  for (size_t i = 0; ok && i < count; ++i) {
    moert_port *port = &model->ports[i];
    port->onnx = tensors[i].dtype;
    for (uint32_t k = 0; ok && k < tensors[i].rank; ++k) {
      port->names[k] = moert_descriptor_text(d, tensors[i].dims[k]);
      moert_size *size = &port->sizes[k];
      ok = parse_size(model, port->names[k], size);
      if (!*port->names[k])
        size->unknown = true;
      port->dims[k] = size->unknown || size->symbols ? -1 : size->constant;
    }
    port->info = (moert_tensor_info){.name = moert_descriptor_text(d, tensors[i].name),
                                     .dtype = moert_dtype_dl(port->onnx),
                                     .dtype_name = moert_dtype_name(port->onnx),
                                     .rank = (int32_t)tensors[i].rank,
                                     .dims = port->dims,
                                     .dim_names = port->names};
  }
  return ok ? MOERT_OK : moert_error_set(error, MOERT_ERROR_RESOURCE, "out of memory");
}

static const char *dl_name(DLDataType type) {
  static const uint32_t kCodes[] = {1,  2,  3,  4,  5,  6,  7,  9,  10, 11, 12, 13,
                                    16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26};
  for (size_t i = 0; i < sizeof kCodes / sizeof *kCodes; ++i) {
    DLDataType known = moert_dtype_dl(kCodes[i]);
    if (known.code == type.code && known.bits == type.bits && known.lanes == type.lanes)
      return moert_dtype_name(kCodes[i]);
  }
  return "another type";
}

static moert_status check_memory(const moert_port *port, const DLTensor *t, moert_error *error) {
  const char *name = port->info.name;
  size_t size = moert_dtype_bytes(port->onnx);
  int64_t bytes = (int64_t)size;
  for (int i = 0; i < t->ndim; ++i) {
    if (t->shape[i] < 0)
      return moert_error_set(error, MOERT_ERROR_INPUT, "input \"%s\": dimension %d is %lld", name,
                             i, (long long)t->shape[i]);
    if (__builtin_mul_overflow(bytes, t->shape[i], &bytes))
      return moert_error_set(error, MOERT_ERROR_INPUT, "input \"%s\": its size overflows", name);
  }
  if (!bytes)
    return MOERT_OK;
  if (!t->data)
    return moert_error_set(error, MOERT_ERROR_USAGE, "input \"%s\": no data", name);
  if (((uintptr_t)t->data + t->byte_offset) % size)
    return moert_error_set(error, MOERT_ERROR_USAGE,
                           "input \"%s\": the data is not aligned to its %zu-byte elements", name,
                           size);
  int64_t stride = 1;
  for (int i = t->ndim; t->strides && i-- > 0; stride *= t->shape[i])
    if (t->shape[i] != 1 && t->strides[i] != stride)
      return moert_error_set(error, MOERT_ERROR_USAGE,
                             "input \"%s\": not compact row-major (stride %lld of dimension %d)",
                             name, (long long)t->strides[i], i);
  return MOERT_OK;
}

static moert_status check_form(const moert_port *port, const DLTensor *t, moert_error *error) {
  const char *name = port->info.name;
  if (t->device.device_type != kDLCPU && t->device.device_type != kDLCUDAHost)
    return moert_error_set(error, MOERT_ERROR_USAGE, "input \"%s\": not in the CPU's memory", name);
  DLDataType want = port->info.dtype;
  if (t->dtype.code != want.code || t->dtype.bits != want.bits || t->dtype.lanes != want.lanes)
    return moert_error_set(error, MOERT_ERROR_INPUT, "input \"%s\": the type is %s, not %s", name,
                           dl_name(t->dtype), port->info.dtype_name);
  if (t->ndim != port->info.rank)
    return moert_error_set(error, MOERT_ERROR_INPUT, "input \"%s\": the rank is %d, not %d", name,
                           t->ndim, port->info.rank);
  if (t->ndim && !t->shape)
    return moert_error_set(error, MOERT_ERROR_USAGE, "input \"%s\": no shape", name);
  for (int i = 0; i < t->ndim; ++i)
    if (port->dims[i] >= 0 && t->shape[i] != port->dims[i])
      return moert_error_set(error, MOERT_ERROR_INPUT,
                             "input \"%s\": dimension %d is %lld, not %lld", name, i,
                             (long long)t->shape[i], (long long)port->dims[i]);
  return check_memory(port, t, error);
}

// What a pass over the inputs works on: symbols' sizes and the inputs that said so.
typedef struct {
  const moert_model *model;
  int64_t *sizes;
  int *origins;
} bindings;

// Binds or compares one size. `sums`: the pass that looks at sums of several terms.
static moert_status check_size(bindings *b, int input, int axis, int64_t actual, bool sums,
                               moert_error *error) {
  const moert_port *port = &b->model->ports[input];
  const moert_size *size = &port->sizes[axis];
  bool sum = size->symbols > 1 || size->constant != 0;
  if (size->unknown || !size->symbols || sum != sums)
    return MOERT_OK;
  int64_t known = size->constant;
  int open = -1, opens = 0, last = -1;
  for (int i = 0; i < size->symbols; ++i) {
    int symbol = size->symbol[i];
    if (b->sizes[symbol] < 0) {
      open = symbol;
      ++opens;
    } else {
      known += b->sizes[symbol];
      last = symbol;
    }
  }
  const char *name = port->info.name, *text = port->names[axis];
  if (opens == 1 && actual >= known) {
    b->sizes[open] = actual - known;
    b->origins[open] = input;
    return MOERT_OK;
  }
  if (opens > 1 || (!opens && actual == known))
    return MOERT_OK;
  if (last < 0 || opens)
    return moert_error_set(error, MOERT_ERROR_INPUT,
                           "input \"%s\": dimension %d (%s) is %lld, less than %lld", name, axis,
                           text, (long long)actual, (long long)known);
  return moert_error_set(error, MOERT_ERROR_INPUT,
                         "input \"%s\": dimension %d (%s) is %lld, but %lld by input \"%s\"", name,
                         axis, text, (long long)actual, (long long)known,
                         b->model->ports[b->origins[last]].info.name);
}

moert_status moert_signature_check(const moert_model *model, const DLTensor *inputs, int64_t *sizes,
                                   int *origins, moert_error *error) {
  for (int i = 0; i < model->symbol_count; ++i)
    sizes[i] = -1;
  int count = (int)model->descriptor->inputs;
  for (int i = 0; i < count; ++i) {
    moert_status status = check_form(&model->ports[i], &inputs[i], error);
    if (status)
      return status;
  }
  bindings b = {model, sizes, origins};
  for (int sums = 0; sums < 2; ++sums)
    for (int i = 0; i < count; ++i)
      for (int axis = 0; axis < inputs[i].ndim; ++axis) {
        moert_status status = check_size(&b, i, axis, inputs[i].shape[axis], sums, error);
        if (status)
          return status;
      }
  return MOERT_OK;
}
