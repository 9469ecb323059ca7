/* Reads a library's descriptor from its ELF file, before any of its code is loaded. */
#include "internal.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

moert_status moert_file_map(const char *path, moert_file *file, moert_error *error) {
  *file = (moert_file){0};
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    moert_status status =
        errno == ENOENT || errno == ENOTDIR ? MOERT_ERROR_INPUT : MOERT_ERROR_RESOURCE;
    return moert_error_set(error, status, "%s: %s", path, strerror(errno));
  }
  struct stat info;
  moert_status status = MOERT_OK;
  if (fstat(fd, &info))
    status = moert_error_set(error, MOERT_ERROR_RESOURCE, "%s: %s", path, strerror(errno));
  else if (!S_ISREG(info.st_mode))
    status = moert_error_set(error, MOERT_ERROR_INPUT, "%s: not a regular file", path);
  else if (info.st_size == 0)
    status = moert_error_set(error, MOERT_ERROR_INPUT, "%s: the file is empty", path);
  if (!status) {
    void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
      status = moert_error_set(error, MOERT_ERROR_RESOURCE, "%s: cannot be mapped: %s", path,
                               strerror(errno));
    else
      *file = (moert_file){data, (size_t)info.st_size};
  }
  close(fd);
  return status;
}

void moert_file_unmap(moert_file *file) {
  if (file->data)
    munmap((void *)file->data, file->bytes);
  *file = (moert_file){0};
}

// [offset, offset + bytes) lies within `total`.
static bool within(uint64_t offset, uint64_t bytes, uint64_t total) {
  return offset <= total && bytes <= total - offset;
}

static const char *elf_problem(const moert_file *file) {
  const Elf64_Ehdr *h = (const void *)file->data;
  if (file->bytes < sizeof *h || memcmp(h->e_ident, ELFMAG, SELFMAG))
    return "not a shared library (ELF)";
  if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB ||
      h->e_machine != EM_X86_64 || h->e_type != ET_DYN)
    return "not a shared library for x86-64";
  if (h->e_shentsize != sizeof(Elf64_Shdr) || h->e_shoff % 8 || !h->e_shnum ||
      !within(h->e_shoff, (uint64_t)h->e_shnum * sizeof(Elf64_Shdr), file->bytes) ||
      h->e_shstrndx >= h->e_shnum)
    return "the library is truncated or damaged (section headers)";
  if (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phoff % 8 ||
      !within(h->e_phoff, (uint64_t)h->e_phnum * sizeof(Elf64_Phdr), file->bytes))
    return "the library is truncated or damaged (program headers)";
  const Elf64_Phdr *segments = (const void *)(file->data + h->e_phoff);
  for (int i = 0; i < h->e_phnum; ++i)
    if (!within(segments[i].p_offset, segments[i].p_filesz, file->bytes))
      return "the library is truncated or damaged (segments)";
  return NULL;
}

static const Elf64_Shdr *find_section(const moert_file *file) {
  const Elf64_Ehdr *h = (const void *)file->data;
  const Elf64_Shdr *sections = (const void *)(file->data + h->e_shoff);
  const Elf64_Shdr *names = &sections[h->e_shstrndx];
  if (!within(names->sh_offset, names->sh_size, file->bytes))
    return NULL;
  for (int i = 0; i < h->e_shnum; ++i) {
    const Elf64_Shdr *s = &sections[i];
    if (s->sh_name < names->sh_size && names->sh_size - s->sh_name >= sizeof MOERT_SECTION &&
        !memcmp(file->data + names->sh_offset + s->sh_name, MOERT_SECTION, sizeof MOERT_SECTION) &&
        s->sh_type == SHT_PROGBITS && within(s->sh_offset, s->sh_size, file->bytes) &&
        s->sh_offset % 8 == 0)
      return s;
  }
  return NULL;
}

const char *moert_descriptor_text(const moert_descriptor *d, uint32_t offset) {
  return (const char *)d + offset;
}

// A string of the descriptor that ends within it.
static bool text_ok(const moert_descriptor *d, uint32_t offset) {
  return offset >= sizeof *d && offset < d->total_bytes &&
         memchr((const char *)d + offset, 0, d->total_bytes - offset);
}

static bool table_ok(const moert_descriptor *d, uint32_t offset, uint64_t count, size_t size) {
  return offset % 4 == 0 && offset >= sizeof *d && within(offset, count * size, d->total_bytes);
}

static bool hooks_ok(const moert_descriptor *d) {
  if (!table_ok(d, d->hooks_offset, d->hooks, sizeof(moert_descriptor_hook)))
    return false;
  const moert_descriptor_hook *hooks = (const void *)((const char *)d + d->hooks_offset);
  for (uint32_t i = 0; i < d->hooks; ++i)
    if (!text_ok(d, hooks[i].layer) || !hooks[i].k || hooks[i].k > hooks[i].experts)
      return false;
  return true;
}

static bool contents_ok(const moert_descriptor *d) {
  uint64_t ports = (uint64_t)d->inputs + d->outputs;
  if (!text_ok(d, d->compiler_version) ||
      !table_ok(d, d->tensors_offset, ports, sizeof(moert_descriptor_tensor)) ||
      !table_ok(d, d->kernels_offset, d->kernels, sizeof(moert_descriptor_kernel)) ||
      !table_ok(d, d->variants_offset, d->variants, sizeof(moert_descriptor_variant)))
    return false;
  const char *base = (const char *)d;
  const moert_descriptor_tensor *tensors = (const void *)(base + d->tensors_offset);
  for (uint64_t i = 0; i < ports; ++i) {
    if (!text_ok(d, tensors[i].name) || tensors[i].rank > MOERT_MAX_RANK ||
        !moert_dtype_bytes(tensors[i].dtype))
      return false;
    for (uint32_t k = 0; k < tensors[i].rank; ++k)
      if (!text_ok(d, tensors[i].dims[k]))
        return false;
  }
  const moert_descriptor_kernel *kernels = (const void *)(base + d->kernels_offset);
  for (uint32_t i = 0; i < d->kernels; ++i)
    if (!text_ok(d, kernels[i].spec) ||
        !within(kernels[i].first_variant, kernels[i].variants, d->variants))
      return false;
  const moert_descriptor_variant *variants = (const void *)(base + d->variants_offset);
  for (uint32_t i = 0; i < d->variants; ++i)
    if (!text_ok(d, variants[i].isa))
      return false;
  return hooks_ok(d);
}

static uint32_t descriptor_crc(const moert_descriptor *d) {
  moert_descriptor head = *d;
  head.crc = 0;
  uint32_t crc = moert_crc32(0, &head, sizeof head);
  return moert_crc32(crc, d + 1, d->total_bytes - sizeof head);
}

moert_status moert_descriptor_find(const char *path, const moert_file *file,
                                   const moert_descriptor **descriptor, moert_error *error) {
  const char *problem = elf_problem(file);
  if (problem)
    return moert_error_set(error, MOERT_ERROR_INPUT, "%s: %s", path, problem);
  const Elf64_Shdr *section = find_section(file);
  if (!section)
    return moert_error_set(error, MOERT_ERROR_INPUT,
                           "%s: no model (the library has no " MOERT_SECTION " section)", path);
  const moert_descriptor *d = (const void *)(file->data + section->sh_offset);
  if (section->sh_size < 16 || memcmp(d->magic, MOERT_DESCRIPTOR_MAGIC, sizeof d->magic))
    return moert_error_set(error, MOERT_ERROR_INPUT,
                           "%s: the model's descriptor is damaged (magic)", path);
  if (d->abi != MOERT_ABI)
    return moert_error_set(error, MOERT_ERROR_UNSUPPORTED,
                           "%s: unsupported ABI %u (this libmoert has %u): compile the model again",
                           path, d->abi, MOERT_ABI);
  if (section->sh_size < sizeof *d || d->header_bytes != sizeof *d || d->total_bytes < sizeof *d ||
      d->total_bytes > section->sh_size || d->crc != descriptor_crc(d) || !contents_ok(d))
    return moert_error_set(error, MOERT_ERROR_INPUT, "%s: the model's descriptor is damaged", path);
  uint32_t missing = d->cpu & ~moert_cpu_features();
  if (missing)
    return moert_error_set(error, MOERT_ERROR_UNSUPPORTED,
                           "%s: unsupported CPU: the model needs %s", path,
                           missing & MOERT_CPU_X86_64_V4   ? "AVX-512 (x86-64-v4)"
                           : missing & MOERT_CPU_X86_64_V3 ? "AVX2 and FMA (x86-64-v3)"
                                                           : "features unknown to this libmoert");
  *descriptor = d;
  return MOERT_OK;
}
