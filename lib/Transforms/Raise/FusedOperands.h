// A com.microsoft.MoE or QMoE node by the names of its operands, inside the raise of such nodes.
#pragma once

#include "FusedNode.h"
#include "OnnxAccess.h"

namespace moec::raise {

// Operands and attributes by the operators' contract. Projections are counted 1, 2, 3: the first
// of the expert (gate, or gate and up), the last (down), and up where it stands apart.
struct FusedNode {
  mlir::Operation *op;
  mlir::DictionaryAttr attributes;
  bool quantised;
  Semantics semantics;

  mlir::Value in(unsigned i) const {
    return i < op->getNumOperands() && !isAbsent(op->getOperand(i)) ? op->getOperand(i)
                                                                    : mlir::Value();
  }
  mlir::Value x() const { return in(0); }
  mlir::Value logits() const { return in(1); }
  mlir::Value matrix(int p) const { return in(quantised ? 3 * p - 1 : 2 * p); }
  mlir::Value bias(int p) const { return in(quantised ? 3 * p + 1 : 2 * p + 1); }
  mlir::Value scales(int p) const { return quantised ? in(3 * p) : mlir::Value(); }
  mlir::Value zeros(int p) const { return quantised ? in(10 + p) : mlir::Value(); }
  mlir::Value globalScale(int p) const { return quantised && p < 3 ? in(14 + p) : mlir::Value(); }
  mlir::Value routerWeights() const { return quantised ? in(14) : mlir::Value(); }

  mlir::Attribute attr(llvm::StringRef name) const {
    return attributes ? attributes.get(name) : mlir::Attribute();
  }
  int64_t number(llvm::StringRef name, int64_t otherwise) const {
    auto i = mlir::dyn_cast_or_null<mlir::IntegerAttr>(attr(name));
    return i ? i.getInt() : otherwise;
  }
  double real(llvm::StringRef name, double otherwise) const {
    auto f = mlir::dyn_cast_or_null<mlir::FloatAttr>(attr(name));
    return f ? f.getValueAsDouble() : otherwise;
  }
  std::string text(llvm::StringRef name, llvm::StringRef otherwise) const {
    auto s = mlir::dyn_cast_or_null<mlir::StringAttr>(attr(name));
    return (s ? s.getValue() : otherwise).str();
  }
};

// How the numbers of a projection are stored.
struct Packing {
  enum Kind { floats, integers, mxfp4, nvfp4, fp8, fp8Blocks } kind = floats;
  int bits[4] = {0, 0, 0, 0}; // of one number, by projection
  int64_t block = 0;          // 0: a scale for each row
  // Elements of the operand times this over 8 are numbers.
  int64_t perElement(int p) const { return kind == floats ? 1 : 8 / bits[p]; }
};
// Nullopt with the reason when the node's numbers are stored in a way not known here.
std::optional<Packing> packingOf(const FusedNode &node, std::string &why);

// A projection's matrix [experts, rows, depth] as a weight; null with the reason when an operand
// is no weight or has another size.
mlir::Value matrixOf(const FusedNode &node, const Packing &packing, int p, int64_t experts,
                     int64_t rows, int64_t depth, WeightSteps &steps, std::string &why);

struct Routed {
  mlir::Value ids, weights; // [T, k] i32 and f32
};
// The router that the node computes from its logits [T, experts].
Routed routeNode(const FusedNode &node, OnnxBuilder &b, int64_t experts);
// False with the reason when that router is not known here.
bool checkRouter(const FusedNode &node, int64_t experts, std::string &why);

// The layer with a bank of a region, for parameters that are no weights: x and the result are
// [T, hidden].
mlir::Value regionExperts(const FusedNode &node, OnnxBuilder &b, const Ffn &ffn, bool fused,
                          bool interleaved, const BankShape &shape, mlir::Value x,
                          const Routed &routed, WeightSteps &steps);

} // namespace moec::raise
