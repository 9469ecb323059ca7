// Contributed operators (com.microsoft) as standard ones, by family.
#pragma once

#include "Decompose.h"
#include "moec/Transforms/Prepare/WeightSteps.h"
#include "llvm/ADT/StringMap.h"

namespace moec::prepare {

// One onnx.custom op: operands by position, attributes by ONNX name.
struct Custom {
  mlir::Operation *op;
  mlir::DictionaryAttr attributes;
  WeightSteps &steps;
  std::string &why; // of a refusal

  mlir::Value in(unsigned i) const {
    return i < op->getNumOperands() && !absent(op->getOperand(i)) ? op->getOperand(i)
                                                                  : mlir::Value();
  }
  bool wants(unsigned i) const { return i < op->getNumResults() && !op->getResult(i).use_empty(); }
  mlir::Attribute attr(llvm::StringRef name) const {
    return attributes ? attributes.get(name) : mlir::Attribute();
  }
  int64_t number(llvm::StringRef name, int64_t otherwise) const {
    return intAttr(attr(name), otherwise);
  }
  double real(llvm::StringRef name, double otherwise) const {
    return floatAttr(attr(name), otherwise);
  }
  llvm::StringRef text(llvm::StringRef name, llvm::StringRef otherwise) const {
    auto s = mlir::dyn_cast_or_null<mlir::StringAttr>(attr(name));
    return s ? s.getValue() : otherwise;
  }
  bool refuse(const llvm::Twine &reason) const {
    why = reason.str();
    return false;
  }
  // An input or output that has no place in the formula.
  bool hasNone(llvm::ArrayRef<unsigned> inputs, llvm::ArrayRef<unsigned> outputs) const;
  // Refuses unless these inputs are there, ranked and of floats.
  bool areFloats(llvm::ArrayRef<unsigned> inputs) const;
  // `v` stands for result `i`, in its type where a function or region ends with it.
  void replace(unsigned i, mlir::Value v) const;
};

inline bool isFloatTensor(mlir::Value v) {
  auto type = rankedType(v);
  return type && mlir::isa<mlir::FloatType>(type.getElementType());
}

// Replaces all results of the op, or says why not and leaves it.
using ContribFn = bool (*)(const Custom &, OnnxBuilder &);
using ContribTable = llvm::StringMap<ContribFn>;
void addContribNorms(ContribTable &table);
void addContribActivations(ContribTable &table);
void addContribMatMuls(ContribTable &table);
void addContribRotary(ContribTable &table);
void addContribAttention(ContribTable &table); // MultiHeadAttention, GroupQueryAttention
void addContribRecurrent(ContribTable &table);
void addContribRouters(ContribTable &table);
void addContribQuantised(ContribTable &table);
void addContribQLinear(ContribTable &table);

// Rotated heads of x: cos and sin [B, S, dim / 2] are rows of the caches.
bool rotated(const Custom &c, OnnxBuilder &b, mlir::Value x, mlir::Value cos, mlir::Value sin,
             const Rotary &options, mlir::Value &result);
// Over the last axis, in f32; beta may be null.
mlir::Value layerNorm(OnnxBuilder &b, mlir::Value x, mlir::Value gamma, mlir::Value beta,
                      double epsilon);
// A scalar i64, the size of axis `axis`.
mlir::Value sizeOf(OnnxBuilder &b, mlir::Value x, int64_t axis);
// 0, 1, .. below a scalar i64; `count` where it is known.
mlir::Value countTo(OnnxBuilder &b, mlir::Value end, int64_t count);

} // namespace moec::prepare
