/* Sequences: counted lists of counted tensors. A change makes a copy of the list unless the caller
 * gives away the only reference; elements are shared. All memory is the run's, so that a run that
 * fails leaves nothing behind. */
#include "elements.h"

typedef struct {
  moert_buffer buffer; /* first: generated code reads it */
  int64_t references;
  int32_t rank, dtype;
} element;

typedef struct {
  int64_t references, count, capacity;
  element **at;
} sequence;

static void release_element(moert_ctx *ctx, element *e) {
  if (--e->references)
    return;
  moert_free(ctx, e->buffer.data);
  moert_free(ctx, e);
}

static sequence *with_capacity(moert_ctx *ctx, int64_t capacity) {
  sequence *s = moert_alloc(ctx, (int64_t)sizeof *s);
  *s = (sequence){.references = 1, .capacity = capacity > 4 ? capacity : 4};
  s->at = moert_alloc(ctx, s->capacity * (int64_t)sizeof *s->at);
  return s;
}

void *moert_sequence_new(moert_ctx *ctx, int64_t capacity) { return with_capacity(ctx, capacity); }

void moert_sequence_retain(moert_ctx *ctx, void *handle) {
  (void)ctx;
  ++((sequence *)handle)->references;
}

void moert_sequence_free(moert_ctx *ctx, void *handle) {
  sequence *s = handle;
  if (--s->references)
    return;
  for (int64_t i = 0; i < s->count; ++i)
    release_element(ctx, s->at[i]);
  moert_free(ctx, s->at);
  moert_free(ctx, s);
}

int64_t moert_sequence_length(moert_ctx *ctx, void *handle) {
  (void)ctx;
  return ((sequence *)handle)->count;
}

/* An element of given sizes; without data (null) for the caller to fill. */
static element *make_element(moert_ctx *ctx, int32_t rank, int32_t dtype, const int64_t *dims,
                             int64_t bytes, void *data) {
  element *e = moert_alloc(ctx, (int64_t)sizeof *e);
  e->references = 1;
  e->rank = rank;
  e->dtype = dtype;
  memcpy(e->buffer.dims, dims, (size_t)rank * sizeof *dims);
  e->buffer.data = data ? data : moert_alloc(ctx, bytes);
  return e;
}

static element *element_of(moert_ctx *ctx, const moert_view *v, int32_t owned) {
  check_rank(ctx, v, "a sequence");
  int64_t bytes = view_count(v) * element_bytes(ctx, v);
  element *e = make_element(ctx, v->rank, v->dtype, v->dims, bytes, owned ? v->data : NULL);
  if (!owned)
    memcpy(e->buffer.data, v->data, (size_t)bytes);
  return e;
}

/* Room for one more. */
static void grow(moert_ctx *ctx, sequence *s) {
  if (s->count < s->capacity)
    return;
  element **at = moert_alloc(ctx, 2 * s->capacity * (int64_t)sizeof *at);
  memcpy(at, s->at, (size_t)s->count * sizeof *at);
  moert_free(ctx, s->at);
  s->at = at;
  s->capacity *= 2;
}

/* The list to change, with room for one more: itself if the caller had the only reference. */
static sequence *for_change(moert_ctx *ctx, sequence *s, int32_t consume) {
  if (consume && s->references == 1) {
    grow(ctx, s);
    return s;
  }
  sequence *copy = with_capacity(ctx, s->count + 1);
  for (int64_t i = 0; i < s->count; ++i) {
    copy->at[i] = s->at[i];
    ++s->at[i]->references;
  }
  copy->count = s->count;
  if (consume)
    --s->references;
  return copy;
}

void moert_sequence_append(moert_ctx *ctx, void *handle, const moert_view *tensor, int32_t owned) {
  sequence *s = handle;
  grow(ctx, s);
  s->at[s->count++] = element_of(ctx, tensor, owned);
}

void *moert_sequence_insert(moert_ctx *ctx, void *handle, int32_t consume, int64_t position,
                            int32_t at_end, const moert_view *tensor, int32_t owned,
                            const char *node) {
  sequence *s = handle;
  int64_t count = s->count;
  if (at_end)
    position = count;
  if (position != count)
    position = wrap_index(ctx, position, count, node, "SequenceInsert");
  s = for_change(ctx, s, consume);
  memmove(s->at + position + 1, s->at + position, (size_t)(count - position) * sizeof *s->at);
  s->at[position] = element_of(ctx, tensor, owned);
  ++s->count;
  return s;
}

void *moert_sequence_erase(moert_ctx *ctx, void *handle, int32_t consume, int64_t position,
                           const char *node) {
  sequence *s = handle;
  position = wrap_index(ctx, position, s->count, node, "SequenceErase");
  s = for_change(ctx, s, consume);
  release_element(ctx, s->at[position]);
  --s->count;
  memmove(s->at + position, s->at + position + 1, (size_t)(s->count - position) * sizeof *s->at);
  return s;
}

const void *moert_sequence_at(moert_ctx *ctx, void *handle, int64_t position, int32_t rank,
                              const char *node) {
  sequence *s = handle;
  element *e = s->at[wrap_index(ctx, position, s->count, node, "SequenceAt")];
  if (e->rank != rank)
    moert_failf(ctx, MOERT_ERROR_INPUT,
                "node \"%s\" (SequenceAt): an element of rank %d where the model says %d", node,
                e->rank, rank);
  return &e->buffer;
}

/* The sizes of the joined tensor; `stack` adds an axis, else that axis is summed up. */
static void joined_dims(moert_ctx *ctx, const sequence *s, int axis, int stack, int64_t *dims,
                        const char *node) {
  const element *first = s->at[0];
  int rank = first->rank;
  for (int from = 0, to = 0; to < rank + stack; ++to)
    dims[to] = stack && to == axis ? s->count : first->buffer.dims[from++];
  for (int64_t i = 1; i < s->count; ++i) {
    const element *e = s->at[i];
    int fits = e->rank == rank;
    for (int d = 0; fits && d < rank; ++d)
      fits = (!stack && d == axis) || e->buffer.dims[d] == first->buffer.dims[d];
    if (!fits)
      moert_failf(ctx, MOERT_ERROR_INPUT,
                  "node \"%s\": the tensors that are joined differ in shape", node);
    if (!stack)
      dims[axis] += e->buffer.dims[axis];
  }
}

void moert_sequence_join(moert_ctx *ctx, void *handle, int64_t axis, int32_t form,
                         const moert_view *empty, void *result, const char *node) {
  sequence *s = handle;
  moert_buffer *out = result;
  int stack = form != 0, at = (int)axis, rank = empty->rank;
  if (s->count && s->at[0]->rank + stack != rank)
    moert_failf(ctx, MOERT_ERROR_INPUT, "node \"%s\": a tensor of rank %d where the model says %d",
                node, s->at[0]->rank, rank - stack);
  if (s->count)
    joined_dims(ctx, s, at, stack, out->dims, node);
  else
    memcpy(out->dims, empty->dims, (size_t)rank * sizeof *out->dims);
  if (!s->count && rank && empty->dims[0] < 0)
    moert_failf(ctx, MOERT_ERROR_INPUT, "node \"%s\": an empty sequence cannot be joined", node);
  moert_view all = {.dims = out->dims, .rank = rank, .dtype = empty->dtype};
  int64_t bytes = element_bytes(ctx, empty);
  out->data = moert_alloc(ctx, view_count(&all) * bytes);
  int64_t outer = dims_product(&all, 0, at), inner = dims_product(&all, at + 1, rank) * bytes;
  int64_t row = all.dims[at] * inner;
  char *to = out->data;
  for (int64_t i = 0; i < s->count; ++i) {
    const element *e = s->at[form == 2 ? s->count - 1 - i : i];
    int64_t part = (stack ? 1 : e->buffer.dims[at]) * inner;
    const char *from = e->buffer.data;
    for (int64_t o = 0; o < outer && part; ++o)
      memcpy(to + o * row, from + o * part, (size_t)part);
    to += part;
  }
}

/* sizes: one chunk size (rank 0), all sizes (rank 1), or null for chunks of 1. */
void *moert_sequence_split(moert_ctx *ctx, const moert_view *x, int64_t axis,
                           const moert_view *sizes, int32_t squeeze, const char *node) {
  check_rank(ctx, x, "SplitToSequence");
  int at = (int)axis;
  int64_t bytes = element_bytes(ctx, x), whole = x->dims[at];
  int64_t outer = dims_product(x, 0, at), inner = dims_product(x, at + 1, x->rank) * bytes;
  const int64_t *given = sizes ? sizes->data : NULL;
  int chunks = !sizes || sizes->rank == 0;
  int64_t chunk = chunks && given ? *given : 1, count = chunks ? INT64_MAX : sizes->dims[0];
  if (chunk < 1)
    moert_failf(ctx, MOERT_ERROR_INPUT, "node \"%s\" (SplitToSequence): parts of size %lld", node,
                (long long)chunk);
  sequence *s = with_capacity(ctx, 8);
  int64_t start = 0;
  for (int64_t i = 0; chunks ? start < whole : i < count; ++i) {
    int64_t size = chunks ? chunk : given[i];
    if (chunks && size > whole - start)
      size = whole - start;
    if (size < 0 || size > whole - start)
      moert_failf(ctx, MOERT_ERROR_INPUT,
                  "node \"%s\" (SplitToSequence): the parts do not add up to the dimension", node);
    int64_t dims[MOERT_MAX_RANK];
    int rank = 0;
    for (int d = 0; d < x->rank; ++d)
      if (d != at || !squeeze)
        dims[rank++] = d == at ? size : x->dims[d];
    grow(ctx, s);
    element *e = make_element(ctx, rank, x->dtype, dims, outer * size * inner, NULL);
    for (int64_t o = 0; o < outer && size; ++o)
      memcpy((char *)e->buffer.data + o * size * inner,
             (const char *)x->data + (o * whole + start) * inner, (size_t)(size * inner));
    s->at[s->count++] = e;
    start += size;
  }
  if (start != whole)
    moert_failf(ctx, MOERT_ERROR_INPUT,
                "node \"%s\" (SplitToSequence): the parts do not add up to the dimension", node);
  return s;
}
