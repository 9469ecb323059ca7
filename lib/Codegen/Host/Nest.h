// Loop nests: `func.func @nest_N` over linalg.generic in an MLIR module of their own. moe_main
// calls them. Nests of equal structure are one function.
#pragma once
#include "Tensor.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Error.h"
#include <functional>

namespace moec::host {

/// One step of a nest's body, in evaluation order; the last is the result.
struct BodyNode {
  std::string op;     ///< an elementwise op, or "leaf", "arg", "const", "Iota"
  DType type;         ///< of the result
  int64_t number = 0; ///< leaf: operand; arg: scalar argument; Iota: loop; const: integer value
  std::vector<double> numbers;
  std::vector<unsigned> args;
};
using Body = std::vector<BodyNode>;

/// Memory that a nest reads or writes, with one stride for each loop.
struct Operand {
  DType storage;
  llvm::Value *data;
  Values strides;
  std::vector<bool> reversed; ///< loops that walk backwards; empty: none
};

/// One call of a nest. What is constant here and worth it becomes part of the nest's structure.
struct Plan {
  Values dims;
  std::vector<bool> reduced;     ///< by loop
  std::vector<Operand> operands; ///< written ones first
  unsigned written = 1;
  Values args; ///< i64
  Body body;
  std::vector<bool> everywhere; ///< by operand: takes part in every loop, even with stride 0
};

/// How Cast treats values outside of a narrow float's range, and which way it rounds to f8E8M0.
struct Narrowing {
  bool saturate = true;
  enum Round { Up, Down, Nearest } round = Up;
};

/// Scalar code of elementwise ops in arith and math (ScalarOps.cpp). f16 and bf16 are computed in
/// f32 and rounded after each op; bool is i1; memory holds bf16 as i16 and bool as i8.
class ScalarWriter {
public:
  ScalarWriter(mlir::OpBuilder &b, mlir::Location loc) : b(b), loc(loc) {}
  mlir::OpBuilder &b;
  mlir::Location loc;

  mlir::Type storageType(DType type);
  mlir::Type computeType(DType type);
  mlir::Value constant(DType type, double value, int64_t integer);
  mlir::Value load(mlir::Value stored, DType storage, DType type);
  mlir::Value store(mlir::Value x, DType type, DType storage);
  mlir::Value convert(mlir::Value x, DType from, DType to, Narrowing how = {});
  mlir::Value round(mlir::Value x, DType type, Narrowing how = {});
  /// A narrow float's byte as f32 and back (NarrowFloats.cpp).
  mlir::Value decode(mlir::Value byte, DType type);
  mlir::Value encode(mlir::Value x, DType type, Narrowing how);
  mlir::Value apply(const BodyNode &node, llvm::ArrayRef<mlir::Value> args,
                    llvm::ArrayRef<DType> types);
  /// A step of a reduction; reassociation is allowed.
  mlir::Value combine(llvm::StringRef kind, DType type, mlir::Value x, mlir::Value y);
  mlir::Value identity(llvm::StringRef kind, DType type);
};

/// True if ScalarWriter::apply knows the op.
bool isScalarOp(llvm::StringRef op);

/// The functions written so far.
class Nests {
public:
  Nests();
  Nests(const Nests &) = delete;

  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  llvm::StringMap<std::string> names; ///< structure -> function

  /// Lowers everything to one LLVM module in `target` (NestLowering.cpp).
  llvm::Expected<std::unique_ptr<llvm::Module>> lower(llvm::LLVMContext &target);
};

} // namespace moec::host
