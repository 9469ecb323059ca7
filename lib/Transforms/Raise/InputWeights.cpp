// Weights that multiply the experts' tokens instead of their results (Llama 4):
//   y[t] = sum over slots of expert(w * x[t])
// and scores scattered into -inf, of which a sigmoid or softmax makes weights.
#include "InputWeights.h"

using namespace mlir;

namespace moec::raise {

// sigmoid or softmax of chosen scores beside -inf: weights beside 0.
Analysis::Result Analysis::ofFilled(Operation *op, const Fact &in) {
  if (in.expr->kind != Expr::FilledW)
    return std::nullopt;
  StringRef n = onnxName(op);
  if (n == "Softmax") {
    auto rank = static_cast<int64_t>(in.layout.size());
    int64_t axis = intAttr(op, "axis", -1);
    axis += axis < 0 ? rank : 0;
    if (axis < 0 || axis >= rank || !isAtom(in.layout[axis], Atom::Expert))
      return std::nullopt;
  } else if (n != "Sigmoid") {
    return std::nullopt;
  }
  Expr *weight = make(Expr::Unary);
  weight->name = n.str();
  weight->a = in.expr->b;
  Expr *out = make(Expr::DenseW);
  out->ids = in.expr->ids;
  out->b = weight;
  return Fact{out, in.layout};
}

namespace {

void factorsOf(Expr *e, SmallVectorImpl<Expr *> &out) {
  if (e->kind == Expr::Binary && e->name == "Mul") {
    factorsOf(e->a, out);
    factorsOf(e->b, out);
  } else {
    out.push_back(e);
  }
}

// The expert gives 0 for a token of zeros.
bool keepsZero(const Ffn &ffn) {
  if (ffn.up.bias || ffn.gate.bias || ffn.down.bias)
    return false;
  return ffn.gated ? ffn.upOffset == 0 : ffn.activation != "sigmoid";
}

} // namespace

bool readsWeighed(const Expr *e, int depth) {
  if (!e || depth > 16)
    return false;
  if (e->kind == Expr::Linear && e->a->kind == Expr::Binary && e->a->ids) {
    SmallVector<Expr *> fs;
    factorsOf(e->a, fs);
    if (llvm::any_of(fs, [](const Expr *f) { return f->kind == Expr::DenseW; }))
      return true;
  }
  return readsWeighed(e->a, depth + 1) || readsWeighed(e->b, depth + 1);
}

bool splitInput(Ffn &ffn, llvm::function_ref<bool(Expr *)> isTokens,
                SmallVectorImpl<Expr *> &weights, std::string &why) {
  if (isTokens(ffn.x))
    return true;
  SmallVector<Expr *> fs;
  factorsOf(ffn.x, fs);
  auto *tokens = llvm::find_if(fs, isTokens);
  if (fs.size() < 2 || tokens == fs.end())
    return true; // whatever it is, no product of tokens and weights
  for (Expr *&f : fs) {
    if (&f == tokens)
      continue;
    // The experts that a token did not choose read zeros.
    if (f->kind == Expr::DenseW && !keepsZero(ffn)) {
      why = "an expert that was not chosen adds something to its token";
      return false;
    }
    weights.push_back(f->kind == Expr::DenseW ? f->b : f);
  }
  ffn.x = *tokens;
  return true;
}

Weighed weighTokens(OnnxBuilder &b, Weighed layer, Value by, int64_t k) {
  auto x = rankedType(layer.tokens);
  by = b.cast(by, x.getElementType());
  if (k == 1) {
    layer.tokens = b.binary("Mul", layer.tokens, by);
    return layer;
  }
  Value each = b.binary("Mul", b.unsqueeze(layer.tokens, {1}), b.unsqueeze(by, {2}));
  layer.tokens = b.reshape(each, {-1, x.getShape().back()});
  layer.ids = b.reshape(layer.ids, {-1, 1});
  layer.weights = b.reshape(layer.weights, {-1, 1});
  return layer;
}

Value sumOfSlots(OnnxBuilder &b, Value y, int64_t k) {
  auto type = rankedType(y);
  Value each = b.reshape(y, {-1, k, type.getShape().back()});
  Value sum = b.reduce("ReduceSum", each, {1});
  return b.reshape(sum, {-1, type.getShape().back()});
}

} // namespace moec::raise
