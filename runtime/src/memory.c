/* Run-time memory: blocks by size class, kept from run to run, so that a steady state does not
 * call the system's allocator.
 *
 * A block is on one of four lists: live (allocated in this run), free (by class), returned
 * (outputs that their owner released; any thread pushes, the session takes all), or none (an output
 * that its owner still has). Each block that is out holds a reference on the memory. */
#include "internal.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef struct block {
  struct block *next, *previous; /* `previous` in the live list only */
  struct moert_memory *memory;
  size_t bytes; /* of the data */
  uint32_t class;
  uint32_t last_run;
} block;

enum {
  HEADER = 64, /* bytes before the data, which stays 64-byte aligned */
  SMALLEST_BITS = 6,
  LARGEST_BITS = 46,
  CLASSES = (LARGEST_BITS - SMALLEST_BITS) * 4 + 1,
  TRIM_RUNS = 16, /* a large block that this many runs did not use goes back */
};
#define TRIM_BYTES ((size_t)64 << 10)
#define HUGE_PAGE ((size_t)2 << 20)
_Static_assert(sizeof(block) <= HEADER, "a block's header fits before its data");

struct moert_memory {
  _Atomic int references; /* the session's and one for each block that is out */
  _Atomic int closed;
  _Atomic(block *) returned;
  block *live;
  block *free[CLASSES];
  uint32_t run;
  size_t bytes, peak;
  uint64_t allocations;
};

static void *data_of(block *b) { return (char *)b + HEADER; }
static block *block_of(void *data) { return (block *)((char *)data - HEADER); }

// Four classes between powers of two: at most a quarter of a block is unused.
static uint32_t class_of(size_t bytes) {
  if (bytes <= (size_t)1 << SMALLEST_BITS)
    return 0;
  int top = 63 - __builtin_clzll(bytes - 1); // 2^top < bytes <= 2^(top + 1)
  uint32_t quarter = (uint32_t)((bytes - 1) >> (top - 2)) & 3;
  return (uint32_t)(top - SMALLEST_BITS) * 4 + quarter + 1;
}

static size_t class_bytes(uint32_t class) {
  if (!class)
    return (size_t)1 << SMALLEST_BITS;
  int top = (int)(class - 1) / 4 + SMALLEST_BITS;
  size_t quarter = ((size_t)1 << top) / 4;
  size_t bytes = ((size_t)1 << top) + ((class - 1) % 4 + 1) * quarter;
  return (bytes + 63) & ~(size_t)63;
}

struct moert_memory *moert_memory_create(void) {
  struct moert_memory *memory = calloc(1, sizeof *memory);
  if (memory)
    memory->references = 1;
  return memory;
}

static void free_list(struct moert_memory *memory, block *list) {
  while (list) {
    block *next = list->next;
    memory->bytes -= list->bytes + HEADER;
    free(list);
    list = next;
  }
}

static void release(struct moert_memory *memory) {
  if (atomic_fetch_sub_explicit(&memory->references, 1, memory_order_acq_rel) > 1)
    return;
  free_list(memory, atomic_load_explicit(&memory->returned, memory_order_acquire));
  free(memory);
}

static void take_returned(struct moert_memory *memory) {
  block *list = atomic_exchange_explicit(&memory->returned, NULL, memory_order_acquire);
  while (list) {
    block *next = list->next;
    list->last_run = memory->run;
    list->next = memory->free[list->class];
    memory->free[list->class] = list;
    list = next;
  }
}

void moert_memory_close(struct moert_memory *memory) {
  if (!memory)
    return;
  atomic_store_explicit(&memory->closed, 1, memory_order_release);
  moert_memory_end_run(memory);
  take_returned(memory);
  for (int i = 0; i < CLASSES; ++i) {
    free_list(memory, memory->free[i]);
    memory->free[i] = NULL;
  }
  release(memory);
}

static block *new_block(struct moert_memory *memory, uint32_t class) {
  size_t bytes = class_bytes(class), total = bytes + HEADER;
  bool large = total >= 2 * HUGE_PAGE;
  size_t alignment = large ? HUGE_PAGE : 64;
  total = (total + alignment - 1) & ~(alignment - 1);
  block *b = aligned_alloc(alignment, total);
  if (!b)
    return NULL;
  if (large)
    madvise(b, total, MADV_HUGEPAGE); // only a hint
  b->memory = memory;
  b->bytes = bytes;
  b->class = class;
  memory->bytes += bytes + HEADER;
  if (memory->bytes > memory->peak)
    memory->peak = memory->bytes;
  ++memory->allocations;
  return b;
}

void *moert_memory_alloc(struct moert_memory *memory, size_t bytes) {
  if (bytes > (size_t)1 << LARGEST_BITS)
    return NULL;
  uint32_t class = class_of(bytes);
  block *b = memory->free[class];
  if (!b && atomic_load_explicit(&memory->returned, memory_order_relaxed)) {
    take_returned(memory);
    b = memory->free[class];
  }
  if (b)
    memory->free[class] = b->next;
  else if (!(b = new_block(memory, class)))
    return NULL;
  b->previous = NULL;
  b->next = memory->live;
  if (b->next)
    b->next->previous = b;
  memory->live = b;
  return data_of(b);
}

static void unlink_live(struct moert_memory *memory, block *b) {
  if (b->previous)
    b->previous->next = b->next;
  else
    memory->live = b->next;
  if (b->next)
    b->next->previous = b->previous;
}

static void push_free(struct moert_memory *memory, block *b) {
  b->last_run = memory->run;
  b->next = memory->free[b->class];
  memory->free[b->class] = b;
}

void moert_memory_free(struct moert_memory *memory, void *data) {
  if (!data)
    return;
  block *b = block_of(data);
  unlink_live(memory, b);
  push_free(memory, b);
}

bool moert_memory_detach(struct moert_memory *memory, void *data) {
  for (block *b = memory->live; b; b = b->next) {
    if (data_of(b) != data)
      continue;
    unlink_live(memory, b);
    atomic_fetch_add_explicit(&memory->references, 1, memory_order_relaxed);
    return true;
  }
  return false;
}

void moert_memory_return(void *data) {
  block *b = block_of(data);
  struct moert_memory *memory = b->memory;
  if (atomic_load_explicit(&memory->closed, memory_order_acquire)) {
    free(b); // nobody would take it
  } else {
    b->next = atomic_load_explicit(&memory->returned, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&memory->returned, &b->next, b,
                                                  memory_order_release, memory_order_relaxed)) {
    }
  }
  release(memory);
}

static void trim(struct moert_memory *memory) {
  for (uint32_t i = class_of(TRIM_BYTES); i < CLASSES; ++i) {
    for (block **at = &memory->free[i]; *at;) {
      block *b = *at;
      if (memory->run - b->last_run < TRIM_RUNS) {
        at = &b->next;
        continue;
      }
      *at = b->next;
      b->next = NULL;
      free_list(memory, b);
    }
  }
}

void moert_memory_end_run(struct moert_memory *memory) {
  while (memory->live)
    moert_memory_free(memory, data_of(memory->live));
  if (++memory->run % TRIM_RUNS == 0) {
    take_returned(memory);
    trim(memory);
  }
}

void moert_memory_counters(const struct moert_memory *memory, moert_counters *counters) {
  counters->memory_bytes = memory->bytes;
  counters->peak_memory_bytes = memory->peak;
  counters->system_allocations = memory->allocations;
}

void *moert_alloc(moert_ctx *ctx, int64_t bytes) {
  if (bytes < 0)
    moert_failf(ctx, MOERT_ERROR_INTERNAL, "internal: a buffer of %lld bytes was asked for",
                (long long)bytes);
  void *data = moert_memory_alloc(ctx->memory, (size_t)bytes);
  if (!data)
    moert_failf(ctx, MOERT_ERROR_RESOURCE, "out of memory: %lld bytes for a tensor",
                (long long)bytes);
  return data;
}

void moert_free(moert_ctx *ctx, void *memory) { moert_memory_free(ctx->memory, memory); }
