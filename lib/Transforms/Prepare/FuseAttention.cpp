// fuse-attention: see Passes.td.
#include "AttentionMatch.h"
#include "Decompose.h"
#include "moec/Transforms/Prepare/Passes.h"
#include "llvm/ADT/SetVector.h"
#include <cmath>

using namespace mlir;

namespace moec {
#define GEN_PASS_DEF_FUSEATTENTION
#include "moec/Transforms/Prepare/Passes.h.inc"

namespace {

using prepare::AttentionMatch;
using prepare::MaskTerm;

// A condition that hides keys for good is a boolean mask; one that only lowers
// scores (so that a row without keys is their mean) is added.
Value maskOf(OnnxBuilder &b, const MaskTerm &term, Type element, bool alone) {
  if (!term.conditional)
    return b.cast(term.tensor, element);
  Value condition = term.tensor;
  if (alone && std::isinf(term.low)) {
    if (!term.inverted)
      return condition;
    return b.op("Not", condition, condition.getType());
  }
  Value zero = b.scalar(element, 0), low = b.scalar(element, term.low);
  auto type = rankedType(condition).clone(element);
  return term.inverted ? b.op("Where", {condition, low, zero}, type)
                       : b.op("Where", {condition, zero, low}, type);
}

struct FuseAttention : impl::FuseAttentionBase<FuseAttention> {
  using FuseAttentionBase::FuseAttentionBase;

  void runOnOperation() override {
    SmallVector<Operation *> products;
    getOperation()->walk([&](Operation *op) {
      if (op->getName().getStringRef() == "onnx.MatMul")
        products.push_back(op);
    });
    SetVector<Block *> blocks;
    for (Operation *product : products)
      blocks.insert(product->getBlock());
    prepare::SymbolicSizes sizes;
    for (Block *block : blocks)
      sizes.visit(*block);
    for (Operation *product : products) {
      std::string why;
      auto match = prepare::matchAttention(product, sizes, why);
      if (match) {
        fuse(product, *match);
        continue;
      }
      if (why.empty())
        continue;
      ++numLeft;
      if (remarks)
        product->emitRemark() << "moe-attention: left because " << why;
    }
    for (Block *block : blocks)
      eraseDeadOps(*block);
  }

private:
  void fuse(Operation *product, const AttentionMatch &m) {
    OpBuilder builder(product);
    OnnxBuilder b(builder, product->getLoc());
    Type element = rankedType(m.q).getElementType();
    Value k = m.kPerm.empty() ? m.k : b.transpose(m.k, m.kPerm);
    Value mask;
    for (const MaskTerm &term : m.masks) {
      Value next = maskOf(b, term, element, m.masks.size() == 1);
      mask = mask ? b.binary("Add", mask, next) : next;
    }
    prepare::Scores scores;
    scores.scale = m.scale;
    scores.mask = mask ? prepare::kernelMask(b, mask, m.q, k) : mask;
    Value y = prepare::attentionOp(b, m.q, k, m.v, scores);
    if (m.guarded) {
      auto flags = rankedType(y).clone(builder.getI1Type());
      y = b.op("Where",
               {b.op("IsNaN", y, flags), b.scalar(element, 0), y}, y.getType());
    }
    auto type = rankedType(product->getResult(0));
    y = b.cast(y, type.getElementType());
    if (y.getType() != type)
      y = b.op("Identity", y, type);
    product->getResult(0).replaceAllUsesWith(y);
    ++numFused;
    if (remarks)
      product->emitRemark() << "moe-attention: fused "
                            << rankedType(m.q).getDimSize(1) << " heads over "
                            << rankedType(k).getDimSize(1) << " of keys"
                            << (mask ? ", masked" : "");
  }
};

} // namespace
} // namespace moec
