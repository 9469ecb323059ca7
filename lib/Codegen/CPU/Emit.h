// From Halide modules and a table to one object.
#pragma once
#include "Isa.h"
#include "llvm/Support/Error.h"
#include <string>
#include <variant>
#include <vector>

namespace moec::cpu {

/// One field of a kernel's table: a 32-bit number, a float, or the address of a function by name
/// (empty: null). The table's layout is that of the C structure with the same fields.
using TableField = std::variant<uint32_t, float, std::string>;

struct KernelParts {
  std::vector<Halide::Module> functions;
  std::vector<TableField> table;
};

/// The parts of a spec's kernel for an instruction set. Halide's errors are thrown.
KernelParts makeParts(const KernelSpec &spec, const Isa &isa);

/// An ELF object that exports only `symbol`, the table. The file is position independent.
llvm::Expected<std::string> emitObject(const KernelParts &parts, const Isa &isa,
                                       const std::string &symbol);

} // namespace moec::cpu
