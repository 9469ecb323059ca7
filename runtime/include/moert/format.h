/* The two file formats of a compiled model, as the linker writes them and libmoert reads them.
 *
 * model.so holds a descriptor: plain data without relocations in the section MOERT_SECTION, so
 * that it can be read from the file before any code is loaded. It exports two symbols: the
 * descriptor, and the table of its code. model.moew is data only: header, manifest, slabs.
 *
 * All numbers are little-endian. Strings are zero-terminated and lie inside the block that refers
 * to them by a byte offset from the block's start (the descriptor, or the manifest); offset 0 of a
 * string means "none".
 */
#ifndef MOERT_FORMAT_H
#define MOERT_FORMAT_H
#include "moert/abi.h"
#include <stdint.h>

/* ---- model.so -------------------------------------------------------------------------------- */

#define MOERT_SECTION ".moert"
#define MOERT_DESCRIPTOR_SYMBOL "moert_descriptor"
#define MOERT_CODE_SYMBOL "moert_code"
#define MOERT_DESCRIPTOR_MAGIC "MOERTLIB" /* 8 bytes, without the zero */

/* CPU levels that code may require; bits. */
enum {
  MOERT_CPU_X86_64_V3 = 1, /* AVX2, FMA, F16C, BMI1, BMI2, LZCNT, MOVBE */
  MOERT_CPU_X86_64_V4 = 2, /* AVX-512 F, BW, CD, DQ, VL */
};

/* The descriptor's start. Tables are at their offsets, 8-byte aligned. */
typedef struct moert_descriptor {
  char magic[8];
  uint32_t abi;              /* MOERT_ABI */
  uint32_t header_bytes;     /* sizeof(moert_descriptor) */
  uint64_t total_bytes;      /* of the whole descriptor */
  uint32_t crc;              /* CRC-32 of the whole descriptor with this field zero */
  uint32_t cpu;              /* required by the host program: MOERT_CPU_* bits */
  uint8_t manifest_hash[32]; /* SHA-256 of the .moew's header and manifest */
  uint32_t compiler_version; /* string */
  uint32_t inputs, outputs;  /* moert_descriptor_tensor: inputs, then outputs */
  uint32_t tensors_offset;
  uint32_t kernels; /* moert_descriptor_kernel by slot */
  uint32_t kernels_offset;
  uint32_t variants; /* moert_descriptor_variant, grouped by slot */
  uint32_t variants_offset;
  uint32_t weights; /* number of weight slots = entries of the manifest */
  uint32_t hooks;   /* moert_descriptor_hook by number */
  uint32_t hooks_offset;
  uint32_t reserved;
} moert_descriptor;

typedef struct moert_descriptor_tensor {
  uint32_t name;                 /* string */
  uint32_t dtype;                /* ONNX TensorProto code */
  uint32_t rank;                 /* at most MOERT_MAX_RANK */
  uint32_t dims[MOERT_MAX_RANK]; /* strings */
} moert_descriptor_tensor;

typedef struct moert_descriptor_kernel {
  uint32_t spec; /* string: text of the kernel spec */
  uint32_t first_variant, variants;
} moert_descriptor_kernel;

typedef struct moert_descriptor_variant {
  uint32_t isa; /* string: "avx2", "avx512" */
  uint32_t cpu; /* MOERT_CPU_* bits */
} moert_descriptor_variant;

/* A routed layer whose logits a session may change. */
typedef struct moert_descriptor_hook {
  uint32_t layer; /* string; no two are equal */
  uint32_t experts, k;
} moert_descriptor_hook;

/* What MOERT_CODE_SYMBOL names: the entry, then the functions of all variants. */
typedef struct moert_code {
  moert_entry entry;
  moert_kernel variants[];
} moert_code;

/* ---- model.moew ------------------------------------------------------------------------------ */

#define MOEW_MAGIC "MOEWDATA" /* 8 bytes, without the zero */
#define MOEW_VERSION 1
#define MOEW_ALIGNMENT 4096 /* of slabs in the file */

typedef struct moew_header {
  char magic[8];
  uint32_t version;      /* MOEW_VERSION */
  uint32_t header_bytes; /* sizeof(moew_header); the manifest follows */
  uint64_t file_bytes;
  uint64_t manifest_bytes; /* entries, then their strings */
  uint32_t entries;
  uint32_t reserved[7];
} moew_header;

/* A packed weight. Entries may share a slab. */
typedef struct moew_entry {
  uint64_t offset;               /* in the file, a multiple of MOEW_ALIGNMENT */
  uint64_t length;               /* bytes */
  int64_t shape[MOERT_MAX_RANK]; /* logical, before packing */
  uint32_t rank;
  uint32_t dtype;  /* stored element type, ONNX TensorProto code */
  uint32_t crc;    /* CRC-32 of the slab */
  uint32_t name;   /* string: symbol of the weight */
  uint32_t name2;  /* string: second weight of a joined layout, or 0 */
  uint32_t layout; /* string: "plain", "panel16", ... */
} moew_entry;

/* CRC-32 is zlib's (polynomial 0xEDB88320, initial value and final xor 0xFFFFFFFF). */

#endif
