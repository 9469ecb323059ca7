// The parameters of com.microsoft.MoE and QMoE nodes as weights. Formats and formulas: the
// operators' schemas in ONNX Runtime (docs/ContribOperators.md); MXFP4: OCP Microscaling Formats
// 1.0.
#include "FusedOperands.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace moec::raise {

namespace {

using Ints64 = SmallVector<int64_t>;

int64_t elementsOf(Value v) { return cast<RankedTensorType>(v.getType()).getNumElements(); }
Type elementOf(Value v) { return cast<RankedTensorType>(v.getType()).getElementType(); }

std::string projection(int p, StringRef what) { return ("fc" + Twine(p) + "_" + what).str(); }

// One projection: its operands as weights, and the reason when one does not fit.
class Projected {
public:
  Projected(const FusedNode &node, const Packing &packing, int p, WeightSteps &steps,
            std::string &why)
      : node(node), packing(packing), p(p), steps(steps), why(why) {}

  Value matrix(int64_t e, int64_t n, int64_t k) {
    experts = e, rows = n, depth = k;
    switch (packing.kind) {
    case Packing::floats:
      return tensor(node.matrix(p), "experts_weights", {e, n, k});
    case Packing::integers:
      return integers();
    case Packing::mxfp4:
      return fours(32);
    case Packing::nvfp4:
      return fours(16);
    case Packing::fp8:
    case Packing::fp8Blocks:
      return eights();
    }
    return {};
  }

private:
  // An operand with as many elements as `shape`, in that shape.
  Value tensor(Value operand, StringRef what, ArrayRef<int64_t> shape) {
    Value v = operand ? steps.of(operand) : Value();
    if (!v) {
      why = projection(p, what) + (operand ? " is not constant" : " is missing");
      return {};
    }
    int64_t count = 1;
    for (int64_t d : shape)
      count *= d;
    if (elementsOf(v) == count)
      return steps.reshape(v, shape);
    std::string wanted;
    for (int64_t d : shape)
      wanted += (wanted.empty() ? "[" : ", ") + std::to_string(d);
    why = projection(p, what) + " has " + std::to_string(elementsOf(v)) + " elements where " +
          wanted + "] are needed";
    return {};
  }

  // Packed rows: `count` numbers of `bits` bits for each row, padded to whole bytes.
  Value packed(Value operand, StringRef what, ArrayRef<int64_t> outer, int64_t count, int bits,
               Type element) {
    int64_t perByte = 8 / bits, bytes = llvm::divideCeil(count, perByte);
    Ints64 shape(outer);
    shape.push_back(bytes);
    Value v = tensor(operand, what, shape);
    if (!v)
      return {};
    if (!elementOf(v).isUnsignedInteger(8) && elementOf(v) != element) {
      why = projection(p, what) + " is not made of bytes";
      return {};
    }
    if (elementOf(v) != element)
      v = steps.unpack(v, element);
    return steps.part(v, outer.size(), 0, count);
  }

  Value integers() {
    int bits = packing.bits[p];
    MLIRContext *context = node.op->getContext();
    Type element = IntegerType::get(context, bits, IntegerType::Unsigned);
    if (depth * bits % 8 != 0) {
      why = "a row of " + std::to_string(depth) + " numbers of " + std::to_string(bits) +
            " bits is no whole number of bytes";
      return {};
    }
    Value q = packed(node.matrix(p), "experts_weights", {experts, rows}, depth, bits, element);
    int64_t blocks = packing.block ? llvm::divideCeil(depth, packing.block) : 1;
    Value scale = q ? tensor(node.scales(p), "scales", {experts, rows, blocks}) : Value();
    if (!scale)
      return {};
    Value zero;
    if (!node.zeros(p)) {
      auto type = RankedTensorType::get({1, 1, 1}, IntegerType::get(context, 32));
      zero = steps.literal(DenseElementsAttr::get(type, 1 << (bits - 1)));
    } else if (packing.block) {
      zero = packed(node.zeros(p), "zero_points", {experts, rows}, blocks, bits, element);
    } else {
      zero = packed(node.zeros(p), "zero_points", {experts}, rows, bits, element);
      zero = zero ? steps.reshape(zero, {experts, rows, 1}) : zero;
    }
    if (!zero)
      return {};
    return steps.dequantize(q, scale, zero, {1, 1, packing.block ? packing.block : depth},
                            Float32Type::get(context));
  }

  // One scale for each expert.
  Value global() {
    if (p == 3) {
      why = "fc3 has no global scale";
      return {};
    }
    return tensor(node.globalScale(p), "global_scale", {experts, 1, 1});
  }

  // Numbers of four bits in blocks, with the rows as the last axis or the depth.
  Value fours(int64_t block) {
    MLIRContext *context = node.op->getContext();
    Type f32 = Float32Type::get(context), four = Float4E2M1FNType::get(context);
    bool nvfp4 = packing.kind == Packing::nvfp4;
    bool byDepth = nvfp4 && node.number("weights_prepacked", -1) == 1;
    Type scaleType =
        nvfp4 ? Type(Float8E4M3FNType::get(context)) : Type(Float8E8M0FNUType::get(context));
    if (depth % block != 0 || (!byDepth && rows % 2 != 0)) {
      why = "a matrix of " + std::to_string(rows) + " x " + std::to_string(depth) +
            " has no whole number of blocks of " + std::to_string(block);
      return {};
    }
    Value q = byDepth ? packed(node.matrix(p), "experts_weights", {experts, rows}, depth, 4, four)
                      : packed(node.matrix(p), "experts_weights", {experts, depth}, rows, 4, four);
    if (!q)
      return {};
    if (!byDepth)
      q = steps.transpose(q, {0, 2, 1});
    int64_t blocks = depth / block;
    Value scale = packed(node.scales(p), "scales", {experts, rows}, blocks, 8, scaleType);
    Value all = scale ? global() : Value();
    if (!all)
      return {};
    scale = steps.dequantize(scale, all, {}, {1, rows, blocks}, f32);
    return steps.dequantize(q, scale, {}, {1, 1, block}, f32);
  }

  Value eights() {
    MLIRContext *context = node.op->getContext();
    Value q = packed(node.matrix(p), "experts_weights", {experts, rows}, depth, 8,
                     Float8E4M3FNType::get(context));
    bool square = packing.kind == Packing::fp8Blocks;
    Value scale;
    if (q && square)
      scale = tensor(node.scales(p), "scales",
                     {experts, int64_t(llvm::divideCeil(rows, packing.block)),
                      int64_t(llvm::divideCeil(depth, packing.block))});
    else if (q)
      scale = global();
    if (!scale)
      return {};
    Ints64 blocks = square ? Ints64{1, packing.block, packing.block} : Ints64{1, rows, depth};
    return steps.dequantize(q, scale, {}, blocks, Float32Type::get(context));
  }

  const FusedNode &node;
  const Packing &packing;
  int p;
  WeightSteps &steps;
  std::string &why;
  int64_t experts = 0, rows = 0, depth = 0;
};

// The layout in which CUDA kernels read integers is not the one that the operator describes.
bool isRaw(const FusedNode &node, std::string &why) {
  auto given = dyn_cast_or_null<IntegerAttr>(node.attr("weights_prepacked"));
  int64_t prepacked = given ? given.getInt() : -1;
  if (prepacked == 0 || node.semantics == Semantics::ortCpu ||
      (!given && node.semantics == Semantics::schema))
    return true;
  why = "weights_prepacked = " + std::to_string(prepacked) + (given ? "" : " (its default)") +
        ", the layout of one execution provider, is unsupported: export the model with "
        "weights_prepacked = 0" +
        (prepacked == -1 ? ", or say --moe-semantics=ort-cpu if the bytes are in plain order" : "");
  return false;
}

} // namespace

std::optional<Packing> packingOf(const FusedNode &node, std::string &why) {
  Packing packing;
  if (!node.quantised)
    return packing;
  packing.block = std::max<int64_t>(0, node.number("block_size", 0));
  std::string type = node.text("quant_type", "int");
  for (unsigned i = 17; i <= 20; ++i)
    if (node.in(i)) {
      why = "quantised activations (input " + std::to_string(i) + ") are unsupported";
      return std::nullopt;
    }
  if (type == "fp4" || type == "nvfp4" || type == "fp8") {
    packing.kind = type == "fp4"     ? Packing::mxfp4
                   : type == "nvfp4" ? Packing::nvfp4
                   : packing.block   ? Packing::fp8Blocks
                                     : Packing::fp8;
    for (int p : {1, 2, 3})
      packing.bits[p] = type == "fp8" ? 8 : 4;
    for (int p : {1, 2, 3})
      if (node.zeros(p)) {
        why = "quant_type \"" + type + "\" has no zero points";
        return std::nullopt;
      }
    return packing;
  }
  if (type != "int") {
    why = "quant_type \"" + type + "\" is unsupported";
    return std::nullopt;
  }
  packing.kind = Packing::integers;
  int64_t bits = node.number("expert_weight_bits", 4);
  for (int p : {1, 2, 3}) {
    int64_t own = node.number("fc" + std::to_string(p) + "_expert_weight_bits", bits);
    if (own != 2 && own != 4 && own != 8) {
      why = "weights of " + std::to_string(own) + " bits are unsupported";
      return std::nullopt;
    }
    packing.bits[p] = static_cast<int>(own);
  }
  if (!isRaw(node, why))
    return std::nullopt;
  return packing;
}

Value matrixOf(const FusedNode &node, const Packing &packing, int p, int64_t experts, int64_t rows,
               int64_t depth, WeightSteps &steps, std::string &why) {
  return Projected(node, packing, p, steps, why).matrix(experts, rows, depth);
}

} // namespace moec::raise
