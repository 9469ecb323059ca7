// One execution of one op: its operands, attributes and results; and the table of all ops.
#pragma once
#include "Tensor.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Operation.h"
#include "llvm/ADT/StringMap.h"
#include <optional>

namespace moec::reference {

/// What ops need of the interpreter around them.
class Machine {
public:
  virtual ~Machine() = default;
  /// Runs a region's only block with the given arguments; the operands of its terminator.
  virtual std::vector<std::optional<Tensor>> region(mlir::Region &region,
                                                    llvm::ArrayRef<std::optional<Tensor>> args) = 0;
  /// A whole weight of moe.weights.
  virtual Tensor weight(llvm::StringRef bind) = 0;
  /// Row `row` of axis 0 of a weight, without that axis.
  virtual Tensor weightRow(llvm::StringRef bind, int64_t row) = 0;
  /// A symbol of the module; null when there is none.
  virtual mlir::Operation *symbol(llvm::StringRef name) = 0;
};

class Call {
public:
  Call(mlir::Operation *op, std::vector<std::optional<Tensor>> operands, Machine &machine);

  mlir::Operation *op;
  Machine &machine;

  int64_t inputs() const { return static_cast<int64_t>(operands.size()); }
  bool hasIn(int64_t i) const { return i < inputs() && operands[i].has_value(); }
  /// Fails when the operand is absent.
  const Tensor &in(int64_t i) const;
  const std::optional<Tensor> &optional(int64_t i) const;
  /// The integers of an operand, of any rank.
  std::vector<int64_t> intsIn(int64_t i) const;
  /// The only integer of an operand.
  int64_t intIn(int64_t i) const;
  /// `axis` counted from the front; fails outside [-rank, rank).
  static int64_t axis(int64_t axis, int64_t rank);

  bool has(llvm::StringRef name) const { return bool(attribute(name)); }
  mlir::Attribute attribute(llvm::StringRef name) const;
  int64_t i64(llvm::StringRef name, int64_t fallback) const;
  double f64(llvm::StringRef name, double fallback) const;
  std::string str(llvm::StringRef name, llvm::StringRef fallback) const;
  std::optional<std::vector<int64_t>> i64s(llvm::StringRef name) const;
  std::vector<double> f64s(llvm::StringRef name) const;

  int64_t outputs() const { return op->getNumResults(); }
  /// Whether anyone looks at result i.
  bool wants(int64_t i) const;
  /// The declared element type of result i.
  Elem outType(int64_t i) const;
  void set(int64_t i, Tensor t);
  /// Every wanted result; fails when one is missing.
  std::vector<std::optional<Tensor>> takeResults();

private:
  std::vector<std::optional<Tensor>> operands, results;
};

using OpFunction = void (*)(Call &);
/// Why this op cannot run although its name is known; "" when it can.
using OpCheck = std::string (*)(mlir::Operation *);

struct OpEntry {
  OpFunction run = nullptr;
  OpCheck check = nullptr;
};

/// By op name ("onnx.Add", "moe.experts"); custom ops by "domain::op_type".
class Registry {
public:
  Registry();
  const OpEntry *find(mlir::Operation *op) const;
  void add(llvm::StringRef name, OpFunction run, OpCheck check = nullptr);

private:
  llvm::StringMap<OpEntry> table;
};

void addElementwise(Registry &);
void addBinary(Registry &);
void addReductions(Registry &);
void addMovement(Registry &);
void addCreation(Registry &);
void addIndexing(Registry &);
void addScatter(Registry &);
void addSelection(Registry &);
void addMatMul(Registry &);
void addEinsum(Registry &);
void addNormalisation(Registry &);
void addQuantisation(Registry &);
void addAttention(Registry &);
void addControlFlow(Registry &);
void addSequences(Registry &);
void addContrib(Registry &);
void addTrees(Registry &);
void addLosses(Registry &);
void addConvolutions(Registry &);
void addPools(Registry &);
void addRecurrent(Registry &);
void addResampling(Registry &);
void addDetection(Registry &);
void addSignal(Registry &);
void addStateful(Registry &);
void addMoERouting(Registry &);
void addMoEExperts(Registry &);
void addMoEExchange(Registry &);

/// "node "layers.3/TopK" (TopK)".
std::string nodeName(mlir::Operation *op);

} // namespace moec::reference
