// The state of one lowering and the building blocks that all op groups share.
#pragma once
#include "Nest.h"
#include "Tensor.h"
#include "mlir/IR/Operation.h"
#include "mlir/IR/Value.h"
#include "moec/Codegen/Host/Host.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Error.h"
#include <functional>
#include <map>

namespace moec::host {

/// The end of one path through an op, and the op's results there.
struct Ending {
  llvm::BasicBlock *end;
  std::vector<Tensor> values;
};

class Emitter {
public:
  Emitter(mlir::ModuleOp source, HostResult &result);

  mlir::ModuleOp source;
  HostResult &result;
  llvm::Module &module;
  llvm::LLVMContext &context;
  llvm::IRBuilder<> b; ///< at the end of what has been written of moe_main
  llvm::Function *main = nullptr;
  mlir::Operation *op = nullptr; ///< being lowered
  llvm::Value *ctx = nullptr, *api = nullptr, *weightTable = nullptr;
  Nests nests;
  std::vector<std::pair<mlir::Operation *, std::string>> errors; ///< in program order
  llvm::StringMap<mlir::Value> binds;                            ///< weights by name
  llvm::StringMap<mlir::Operation *> banks;                      ///< moe.bank by name
  unsigned depth = 0;                                            ///< of open Scopes
  llvm::DenseSet<llvm::Value *>
      joinedIntegers; ///< elements of tensors: as a size they may be 0 or -1

  /// Lowers a region of one block at the builder's place; the operands of its terminator. Set by
  /// the walk.
  std::function<mlir::FailureOr<std::vector<Tensor>>(mlir::Region &, std::vector<Tensor>)> region;
  /// Lowers what follows the op in @main once for each path, with the op's results on it. False
  /// when that cannot be done here. Set by the walk.
  std::function<bool(mlir::Operation *, std::vector<Ending> &)> fork;

  // Types and constants.
  llvm::Type *storageType(DType type); ///< in memory
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
  /// Fails when a tensor of that size cannot be.
  void checkSize(DType type, llvm::ArrayRef<llvm::Value *> dims);
  void check(llvm::Value *condition, const llvm::Twine &message); ///< i1
  /// Fails at run time unless x == y; returns the one that is a constant, if any.
  llvm::Value *checkEqual(llvm::Value *x, llvm::Value *y, const llvm::Twine &message);

  // Memory.
  llvm::CallInst *call(llvm::StringRef function, llvm::ArrayRef<llvm::Value *> args);
  llvm::Value *stackSlot(llvm::Type *type, uint64_t count); ///< in the entry block
  Tensor allocate(DType type, Values dims);
  void release(llvm::Value *memory, bool sequence);
  Values rowMajor(llvm::ArrayRef<llvm::Value *> dims);
  bool contiguous(const Tensor &tensor);
  llvm::Value *elementPointer(const Tensor &tensor, llvm::Value *offset);
  llvm::Value *weightPointer(unsigned slot);

  // Forms of a tensor. All keep its shape and ONNX type.
  Tensor inMemory(Tensor tensor); ///< a strided view; lazies computed, weights placed plain
  Tensor dense(Tensor tensor);    ///< contiguous, storage == dtype
  Tensor denseAs(Tensor tensor, DType type);              ///< dense, converted
  llvm::Value *view(const Tensor &denseTensor);           ///< moert_view on the stack
  mlir::FailureOr<Values> integers(const Tensor &tensor); ///< the elements of a small tensor
  mlir::FailureOr<Values> integersOf(const Tensor &tensor, int64_t count);
  Tensor fromIntegers(DType type, Values values, bool scalar);
  mlir::FailureOr<Tensor> constant(mlir::ElementsAttr attr);
  Tensor placed(Tensor weight, DType storage); ///< a weight in the plain layout
  Tensor floats(const Tensor &tensor);         ///< a strided view of f32 in memory
  // Sequences (Sequences.cpp).
  Tensor runtimeSequence(const Tensor &sequence); ///< as an object of the runtime
  /// Whether the tensor is all of memory that only it owns; if so it is not freed here any more.
  bool passOn(const Tensor &tensor);
  /// Adds to the end of a list that nobody else has; memory that only the tensor owns goes with it.
  void append(const Tensor &list, Tensor tensor);
  /// The elements along an axis: concatenated (0), stacked (1) or stacked backwards (2). `empty` is
  /// the result without elements, and tells type and rank.
  Tensor joined(const Tensor &list, size_t axis, int form, const Tensor &empty);

  // Results.
  Tensor lazy(llvm::StringRef op, DType type, std::vector<Tensor> args,
              std::vector<double> numbers = {});
  Tensor cast(Tensor tensor, DType to);
  Tensor iota(Values dims, size_t axis);   ///< i64: the index along `axis`
  Tensor scalar(DType type, double value); ///< a constant of rank 0
  Values broadcast(llvm::ArrayRef<Values> shapes);
  Tensor expand(Tensor view, const Values &dims);    ///< stride 0 where it broadcasts
  Tensor reshape(const Tensor &tensor, Values dims); ///< same element count, checked by the caller
  /// Known sizes of the result's type take the place of computed ones (checked at run time).
  Values refine(Values dims, unsigned result = 0);

  // Loop nests (Nest.cpp); the destination is a view.
  void store(const Tensor &source, const Tensor &destination);
  /// kind: sum, prod, min or max. The destination has the source's rank, 1 where `reduced`.
  void reduce(llvm::StringRef kind, const Tensor &source, const std::vector<bool> &reduced,
              const Tensor &destination);
  /// Over the last dimension.
  void softmax(const Tensor &source, bool log, const Tensor &destination);

  /// The product of two tensors of rank >= 2, in f32 for half precision (MatMul.cpp).
  Tensor matrixProduct(Tensor a, Tensor b);

  // Weights and kernels.
  unsigned weightSlot(WeightEntry entry);
  unsigned kernelSlot(const std::string &spec);
  /// Nothing when the layer has another number of experts or slots elsewhere.
  std::optional<unsigned> hookNumber(HookEntry hook);
  /// Records why `op` is unsupported; always a failure.
  mlir::LogicalResult error(const llvm::Twine &message);

  /// Numbered values since `count` are no longer used.
  void forgetNumbers(size_t count);
  size_t numberedCount() const { return numberedOrder.size(); }

private:
  using Number = std::tuple<std::string, llvm::Value *, llvm::Value *>;
  std::map<Number, llvm::Value *> numbered;
  std::vector<Number> numberedOrder; ///< keys of `numbered` as they came
  llvm::StringMap<llvm::Constant *> strings;
  llvm::StringMap<std::pair<unsigned, llvm::FunctionType *>> functions;
};

/// A part of moe_main that does not always run: a branch, the body of a loop. Numbered values that
/// it computes are forgotten at its end, as they do not reach what follows.
class Scope {
public:
  explicit Scope(Emitter &e) : e(e), mark(e.numberedCount()) { ++e.depth; }
  Scope(const Scope &) = delete;
  ~Scope() {
    e.forgetNumbers(mark);
    --e.depth;
  }

private:
  Emitter &e;
  size_t mark;
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
void addAttention(Handlers &handlers);
void addGenerators(Handlers &handlers);
void addIrregular(Handlers &handlers);
void addConvolutions(Handlers &handlers);
void addPools(Handlers &handlers);
void addNormalisation(Handlers &handlers);
void addRecurrent(Handlers &handlers);
void addResampling(Handlers &handlers);
void addDetection(Handlers &handlers);
void addSignal(Handlers &handlers);
void addStateful(Handlers &handlers);
void addMoe(Handlers &handlers);
void addControlFlow(Handlers &handlers);
void addLoops(Handlers &handlers); ///< called by addControlFlow
void addSequences(Handlers &handlers);
void addSoft(Handlers &handlers);
void addSelect(Handlers &handlers);
void addProbe(Handlers &handlers);
void addLogitHook(Handlers &handlers);
void addQuantisation(Handlers &handlers);
void addUnique(Handlers &handlers);
void addTrees(Handlers &handlers); ///< operators of other domains as "domain::op_type"
const Handlers &allHandlers();

/// Numpy's rule for negative axes; nothing if out of range.
std::optional<size_t> normalAxis(int64_t axis, size_t rank);

/// LLVM's pipeline and code generator (Emit.cpp). Errors are one line.
llvm::Error emitObject(HostResult &result, const HostOptions &options);

} // namespace moec::host
