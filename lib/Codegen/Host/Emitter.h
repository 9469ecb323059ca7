// The state of one lowering and the building blocks that all op groups share.
#pragma once
#include "Tensor.h"
#include "moec/Codegen/Host/Host.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringMap.h"
#include "mlir/IR/Operation.h"
#include <functional>
#include <map>

namespace moec::host {

class Emitter {
public:
  Emitter(mlir::ModuleOp source, HostResult &result);

  mlir::ModuleOp source;
  HostResult &result;
  llvm::Module &module;
  llvm::LLVMContext &context;
  llvm::IRBuilder<> b; ///< at the end of moe_main, which is one chain of blocks
  llvm::Function *main = nullptr;
  mlir::Operation *op = nullptr; ///< being lowered
  llvm::Value *ctx = nullptr, *api = nullptr, *weightTable = nullptr;

  // Types and constants.
  llvm::Type *storageType(DType type); ///< in memory
  llvm::Type *computeType(DType type); ///< in registers: f32 for f16/bf16, i1 for bool
  llvm::Value *i64(int64_t value);
  llvm::Value *i32(int32_t value);
  llvm::Constant *cstring(llvm::StringRef text);
  llvm::Constant *constantData(llvm::ArrayRef<char> bytes);
  llvm::Value *null();
  std::string nodeName();

  // Integer arithmetic on i64 with folding and value numbering, so that equal sizes are one Value.
  llvm::Value *add(llvm::Value *x, llvm::Value *y) { return arith("add", x, y); }
  llvm::Value *sub(llvm::Value *x, llvm::Value *y) { return arith("sub", x, y); }
  llvm::Value *mul(llvm::Value *x, llvm::Value *y) { return arith("mul", x, y); }
  llvm::Value *arith(llvm::StringRef op, llvm::Value *x, llvm::Value *y);
  llvm::Value *select(llvm::Value *c, llvm::Value *x, llvm::Value *y); ///< c: i64, 0 or 1
  llvm::Value *product(llvm::ArrayRef<llvm::Value *> values);

  // Run-time facts.
  void check(llvm::Value *condition, const llvm::Twine &message); ///< i1
  /// Fails at run time unless x == y; returns the one that is a constant, if any.
  llvm::Value *checkEqual(llvm::Value *x, llvm::Value *y, const llvm::Twine &message);

  // Memory.
  llvm::CallInst *call(llvm::StringRef function, llvm::ArrayRef<llvm::Value *> args);
  llvm::Value *stackSlot(llvm::Type *type, uint64_t count); ///< in the entry block
  Tensor allocate(DType type, Values dims);
  void release(llvm::Value *memory);
  Values rowMajor(llvm::ArrayRef<llvm::Value *> dims);
  bool contiguous(const Tensor &tensor);
  llvm::Value *elementPointer(const Tensor &tensor, llvm::Value *offset);
  llvm::Value *weightPointer(unsigned slot);

  // Forms of a tensor. All keep its shape and ONNX type.
  Tensor inMemory(Tensor tensor);   ///< a strided view; lazies computed, weights placed plain
  Tensor dense(Tensor tensor);      ///< contiguous, storage == dtype
  Tensor denseAs(Tensor tensor, DType type); ///< dense, converted
  llvm::Value *view(const Tensor &denseTensor); ///< moert_view on the stack
  mlir::FailureOr<Values> integers(const Tensor &tensor); ///< the elements of a small tensor
  mlir::FailureOr<Values> integersOf(const Tensor &tensor, int64_t count);
  Tensor fromIntegers(DType type, Values values, bool scalar);
  Tensor constant(mlir::ElementsAttr attr);

  // Results.
  Tensor lazy(llvm::StringRef op, DType type, std::vector<Tensor> args,
              std::vector<double> numbers = {});
  Tensor cast(Tensor tensor, DType to);
  Values broadcast(llvm::ArrayRef<Values> shapes);
  Tensor expand(Tensor view, const Values &dims); ///< stride 0 where it broadcasts
  Tensor reshape(Tensor tensor, Values dims);     ///< same element count, checked by the caller

  // Loop nests (Nest.cpp); the destination is a view.
  void store(const Tensor &source, const Tensor &destination);
  void reduce(llvm::StringRef kind, const Tensor &source, llvm::ArrayRef<bool> reduced,
              const Tensor &destination);
  void softmax(const Tensor &source, bool log, const Tensor &destination);

  // Weights and kernels.
  unsigned weightSlot(WeightEntry entry);
  unsigned kernelSlot(const std::string &spec);
  mlir::LogicalResult error(const llvm::Twine &message); ///< at `op`

  llvm::StringMap<llvm::Function *> nests; ///< by structure
private:
  std::map<std::tuple<std::string, llvm::Value *, llvm::Value *>, llvm::Value *> numbered;
  llvm::StringMap<llvm::Constant *> strings;
  llvm::StringMap<std::pair<unsigned, llvm::FunctionType *>> functions;
};

/// Attributes by ONNX name.
int64_t intAttr(mlir::Operation *op, llvm::StringRef name, int64_t fallback);
double floatAttr(mlir::Operation *op, llvm::StringRef name, double fallback);
std::string stringAttr(mlir::Operation *op, llvm::StringRef name, llvm::StringRef fallback);
std::optional<std::vector<int64_t>> intsAttr(mlir::Operation *op, llvm::StringRef name);
DType resultType(mlir::Operation *op, unsigned index = 0);
std::optional<int64_t> known(llvm::Value *value); ///< a constant's value

/// Lowers one op; results are appended in order.
using Handler = mlir::LogicalResult (*)(Emitter &, mlir::Operation *, std::vector<Tensor> &,
                                        std::vector<Tensor> &);
using Handlers = llvm::StringMap<Handler>;
void addElementwise(Handlers &handlers);
void addShapeOps(Handlers &handlers);
void addMovement(Handlers &handlers);
void addReductions(Handlers &handlers);
void addMatMul(Handlers &handlers);
void addIrregular(Handlers &handlers);
void addMoe(Handlers &handlers);
const Handlers &allHandlers();

/// Scalar code of an elementwise op (ScalarOps.cpp). Arguments and result in compute types.
llvm::Value *emitScalar(Emitter &e, llvm::IRBuilder<> &b, const Expr &expr,
                        llvm::ArrayRef<llvm::Value *> args);
llvm::Value *emitExp(llvm::IRBuilder<> &b, llvm::Value *x);
llvm::Value *loadElement(Emitter &e, llvm::IRBuilder<> &b, DType storage, DType type,
                         llvm::Value *pointer);
llvm::Value *convert(Emitter &e, llvm::IRBuilder<> &b, llvm::Value *x, DType from, DType to);
void storeElement(Emitter &e, llvm::IRBuilder<> &b, DType type, DType storage, llvm::Value *x,
                  llvm::Value *pointer);
/// Rounds a computed value to what the type can hold (f16 and bf16 computed in f32).
llvm::Value *roundTo(Emitter &e, llvm::IRBuilder<> &b, llvm::Value *x, DType type);
/// True if emitScalar knows the op.
bool isScalarOp(llvm::StringRef op);

/// LLVM's pipeline and code generator (Emit.cpp).
mlir::LogicalResult emitObject(mlir::ModuleOp source, HostResult &result,
                               const HostOptions &options);

} // namespace moec::host
