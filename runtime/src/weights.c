/* The packed weights: a .moew file, mapped read-only, checked against the library's descriptor. */
#include "internal.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static moert_status damaged(const char *path, const char *what, moert_error *error) {
  return moert_error_set(error, MOERT_ERROR_INPUT, "%s: %s", path, what);
}

static const moew_entry *entries_of(const moert_file *file) {
  return (const void *)(file->data + sizeof(moew_header));
}

// The manifest's hash is compared before its entries are believed; their ranges are checked all
// the same, since nothing else stands between them and the mapping's end.
static moert_status check(const char *path, const moert_file *file,
                          const moert_descriptor *descriptor, moert_error *error) {
  const moew_header *h = (const void *)file->data;
  if (file->bytes < sizeof *h || memcmp(h->magic, MOEW_MAGIC, sizeof h->magic))
    return damaged(path, "not a packed weights file (.moew)", error);
  if (h->version != MOEW_VERSION)
    return moert_error_set(error, MOERT_ERROR_UNSUPPORTED,
                           "%s: unsupported version %u of packed weights (this libmoert has %u)",
                           path, h->version, MOEW_VERSION);
  if (h->header_bytes != sizeof *h || h->manifest_bytes > file->bytes - sizeof *h ||
      h->entries > h->manifest_bytes / sizeof(moew_entry))
    return damaged(path, "the weights' manifest is damaged", error);
  uint8_t hash[32];
  moert_sha256(file->data, sizeof *h + h->manifest_bytes, hash);
  if (memcmp(hash, descriptor->manifest_hash, sizeof hash))
    return damaged(path, "the weights do not belong to this library, or their manifest is damaged",
                   error);
  if (h->file_bytes != file->bytes)
    return moert_error_set(error, MOERT_ERROR_INPUT,
                           "%s: the file has %zu bytes, its manifest says %llu (truncated?)", path,
                           file->bytes, (unsigned long long)h->file_bytes);
  if (h->entries != descriptor->weights)
    return damaged(path, "the manifest has another number of weights than the library", error);
  const char *manifest = (const char *)file->data + sizeof *h;
  const moew_entry *entries = entries_of(file);
  for (uint32_t i = 0; i < h->entries; ++i) {
    const moew_entry *e = &entries[i];
    if (e->offset % MOEW_ALIGNMENT || e->offset > file->bytes ||
        e->length > file->bytes - e->offset || e->rank > MOERT_MAX_RANK ||
        !moert_dtype_bytes(e->dtype) || e->name >= h->manifest_bytes ||
        !memchr(manifest + e->name, 0, h->manifest_bytes - e->name))
      return moert_error_set(error, MOERT_ERROR_INPUT,
                             "%s: entry %u of the weights' manifest is damaged", path, i);
  }
  return MOERT_OK;
}

static moert_status verify(const char *path, const moert_file *file, moert_error *error) {
  const moew_header *h = (const void *)file->data;
  const moew_entry *entries = entries_of(file);
  for (uint32_t i = 0; i < h->entries; ++i)
    if (moert_crc32(0, file->data + entries[i].offset, entries[i].length) != entries[i].crc)
      return moert_error_set(error, MOERT_ERROR_INPUT, "%s: weight \"%s\" is damaged (checksum)",
                             path, (const char *)file->data + sizeof *h + entries[i].name);
  return MOERT_OK;
}

// The whole file in anonymous memory, which may have large pages.
static moert_status copy_file(const char *path, moert_weights *weights, moert_error *error) {
  size_t page = (size_t)2 << 20, bytes = (weights->file.bytes + page - 1) & ~(page - 1);
  void *copy = aligned_alloc(page, bytes);
  if (!copy)
    return moert_error_set(error, MOERT_ERROR_RESOURCE,
                           "%s: out of memory for %zu bytes of weights", path, bytes);
  madvise(copy, bytes, MADV_HUGEPAGE); // only a hint
  memcpy(copy, weights->file.data, weights->file.bytes);
  mprotect(copy, bytes, PROT_READ);
  weights->copy = copy;
  weights->copy_bytes = bytes;
  return MOERT_OK;
}

moert_status moert_weights_open(const char *path, const moert_descriptor *descriptor, bool verified,
                                bool copy, moert_weights *weights, moert_error *error) {
  *weights = (moert_weights){0};
  moert_status status = moert_file_map(path, &weights->file, error);
  if (!status)
    status = check(path, &weights->file, descriptor, error);
  if (!status && verified)
    status = verify(path, &weights->file, error);
  if (!status && copy)
    status = copy_file(path, weights, error);
  if (!status) {
    weights->count = descriptor->weights;
    weights->slots = calloc(weights->count + 1, sizeof *weights->slots);
    if (!weights->slots)
      status = moert_error_set(error, MOERT_ERROR_RESOURCE, "out of memory");
  }
  if (status) {
    moert_weights_close(weights);
    return status;
  }
  char *base = copy ? weights->copy : (char *)weights->file.data;
  for (size_t i = 0; i < weights->count; ++i)
    weights->slots[i] = base + entries_of(&weights->file)[i].offset;
  return MOERT_OK;
}

void moert_weights_close(moert_weights *weights) {
  if (weights->copy) {
    mprotect(weights->copy, weights->copy_bytes, PROT_READ | PROT_WRITE);
    free(weights->copy);
  }
  free(weights->slots);
  moert_file_unmap(&weights->file);
  *weights = (moert_weights){0};
}
