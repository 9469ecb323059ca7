#ifndef MOEC_TRANSFORMS_PREPARE_PASSES_TD
#define MOEC_TRANSFORMS_PREPARE_PASSES_TD

include "mlir/Pass/PassBase.td"

def FoldWeights : Pass<"fold-weights", "::mlir::ModuleOp"> {
  let summary = "Move constant reshaping of parameters into weight steps";
  let description = [{
    Exporters leave operations between a parameter and its use: a widening
    `Cast`, `Transpose`, `Reshape` to a constant shape, `Squeeze`, `Unsqueeze`,
    `Flatten`, `Split`, `Slice`, `Gather` with constant indices along one axis,
    `Concat` of parameters, `Identity`, `DequantizeLinear` with constant scales.
    Each becomes a step of the weight (a
    value of `moe.weights`, evaluated when the model is linked) with a bind of
    its own; binds without a use are erased. Casts that narrow stay: they round.

    Before:
    ```mlir
    %0 = moe.weight.use @w : tensor<8x96x32xf16>
    %1 = onnx.Cast(%0) {to = 1 : i64} : (tensor<8x96x32xf16>) -> tensor<8x96x32xf32>
    ```
    After:
    ```mlir
    %0 = moe.weight.use @w.0 : tensor<8x96x32xf32>
    ```
  }];
  let statistics = [
    Statistic<"numFolded", "folded", "Operations turned into weight steps">,
    Statistic<"numBindsErased", "binds-erased", "Weights without a use">
  ];
  let dependentDialects = ["::moec::moe::MoEDialect"];
}

def DecomposeContrib : Pass<"decompose-contrib", "::mlir::ModuleOp"> {
  let summary = "com.microsoft operators as standard onnx operators";
  let description = [{
    `onnx.custom` operators of the domain `com.microsoft` (and
    `SimplifiedLayerNormalization` in the default domain) become standard ops:

    - norms: `SimplifiedLayerNormalization`, `SkipSimplifiedLayerNormalization`,
      `SkipLayerNormalization`, `EmbedLayerNormalization`, `GatedRMSNorm`; `GatedAdd`;
    - activations: `Gelu`, `BiasGelu`, `FastGelu`, `QuickGelu`;
    - routers and gates: `MoEGroupRouter`, `RouterGateUpProj`, `SwiGLU`;
    - quantised: `QLinearAdd`, `QLinearMul`, `QLinearSigmoid`, `QLinearLeakyRelu`,
      `QLinearSoftmax`, `QLinearConcat`, `QLinearWhere`, `QLinearReduceMean`, `QGemm`,
      `DynamicQuantizeMatMul`, `MatMulIntegerToFloat`, `QuantizeLinear`,
      `DequantizeLinear`, and with constant operands `GatherBlockQuantized` and
      `MatMulBlockQuantizedFp8Weight`;
    - products: `FusedMatMul`, `FusedGemm`, `FusedConv`, and `MatMulNBits` with constant
      weights of 2, 4 or 8 bits, which are dequantised when the model is linked
      (`moe.weight.dequantize`) and multiplied exactly, whatever `accuracy_level`
      allows;
    - attention: `Attention`, `MultiHeadAttention`, `GroupQueryAttention` with its cache, rotary
      embedding, window, bias, soft cap and sinks; `RotaryEmbedding`,
      `MRotaryEmbedding`;
    - recurrences: `CausalConvWithState`, `LinearAttention` and `GatedDeltaNet` (a
      `Scan` over time), `LinearAttentionGate`.

    A node that uses an input or attribute the formula does not cover stays as it
    is, with a remark, and is reported by code generation. `com.microsoft.MoE` and
    `QMoE` are left to `raise-moe`.

    Before:
    ```mlir
    %y = onnx.custom(%x, %g) {domain = "com.microsoft", op_type = "SimplifiedLayerNormalization", attributes = {epsilon = 1.0e-5 : f32}} : ...
    ```
    After: `Mul`, `ReduceMean`, `Add`, `Sqrt`, `Div`, `Mul`.
  }];
  let statistics = [
    Statistic<"numDecomposed", "decomposed", "Operators written out">,
    Statistic<"numKept", "kept", "Operators with unsupported inputs, kept">
  ];
  let dependentDialects = ["::moec::onnx::OnnxDialect"];
}

def DecomposeOnnx : Pass<"decompose-onnx"> {
  let summary = "Composed standard operators as primitive ones";
  let description = [{
    `RotaryEmbedding`, `RMSNormalization`, `LayerNormalization`, `Gelu`, `Swish`,
    `SwiGLU`, `NegativeLogLikelihoodLoss` and `SoftmaxCrossEntropyLoss` are
    written out by the function bodies of the ONNX standard.

    `Einsum` over numbers becomes `MatMul` (`Mul` when nothing is contracted) with
    `Transpose`, `Unsqueeze` and `ReduceSum` around it, operands joined from the
    left: shared labels that the result shows are batch axes, and so are all but
    the last of the labels that one operand has alone. Several contracted labels
    become one axis by `Reshape`. An ellipsis stands for axes with labels of their
    own; a label twice in one operand first becomes its diagonal, if its size is
    known; an axis of size one that broadcasts is dropped.

    Experts that stand last, products `[tokens, H, E]` that gates `[tokens, 1, E]` weigh
    and sum over the last axis (Keras' layers for many tasks), come first: `[E, tokens, H]`.

    `Attention` takes the form of the attention kernel: queries, keys and values
    of f32 or f16 with heads as an axis, `[batch, heads, length, size]`, the past
    joined to keys and values in front, a mask of four axes, no other options.
    Nodes outside of it (bf16, a soft cap) and, with `attention`, all of them are
    written out. `Attention` with `nonpad_kv_seqlen`, a window, or its score
    output used stays and is counted.

    Before:
    ```mlir
    %y = onnx.Gelu(%x) {approximate = "none"} : (tensor<?x8xf32>) -> tensor<?x8xf32>
    ```
    After:
    ```mlir
    %0 = onnx.Mul(%x, %root) : (tensor<?x8xf32>, tensor<f32>) -> tensor<?x8xf32>
    %1 = onnx.Erf(%0) : (tensor<?x8xf32>) -> tensor<?x8xf32>
    %2 = onnx.Mul(%x, %half) : (tensor<?x8xf32>, tensor<f32>) -> tensor<?x8xf32>
    %3 = onnx.Add(%1, %one) : (tensor<?x8xf32>, tensor<f32>) -> tensor<?x8xf32>
    %y = onnx.Mul(%2, %3) : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
    ```
  }];
  let options = [
    Option<"writeOutAttention", "attention", "bool", /*default=*/"false",
           "Write out every Attention, also those the kernel computes">
  ];
  let statistics = [
    Statistic<"numDecomposed", "decomposed", "Operators written out">,
    Statistic<"numKept", "kept", "Operators with unsupported inputs, kept">
  ];
  let dependentDialects = ["::moec::onnx::OnnxDialect"];
}

def DecomposeMl : Pass<"decompose-ml"> {
  let summary = "ai.onnx.ml operators on numbers as standard onnx operators";
  let description = [{
    `ArrayFeatureExtractor`, `Binarizer`, `FeatureVectorizer`, `Imputer`,
    `LabelEncoder`, `LinearClassifier`, `LinearRegressor`, `Normalizer`,
    `OneHotEncoder`, `Scaler` and `SVMRegressor` of the domain `ai.onnx.ml` become standard ops where keys, values and
    elements are numbers. Decision trees stay: code generation and the
    interpreter know them.

    Before:
    ```mlir
    %y = onnx.custom(%x) {domain = "ai.onnx.ml", op_type = "Binarizer", attributes = {threshold = 1.0 : f32}} : (tensor<?x4xf32>) -> tensor<?x4xf32>
    ```
    After:
    ```mlir
    %0 = onnx.Greater(%x, %one) : (tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xi1>
    %y = onnx.Cast(%0) {to = 1 : i64} : (tensor<?x4xi1>) -> tensor<?x4xf32>
    ```
  }];
  let statistics = [
    Statistic<"numDecomposed", "decomposed", "Operators written out">,
    Statistic<"numKept", "kept", "Operators with types or attributes not covered">
  ];
  let dependentDialects = ["::moec::onnx::OnnxDialect"];
}

def DecomposeQuantised : Pass<"decompose-quantised"> {
  let summary = "Products of quantised tensors as DequantizeLinear and MatMul";
  let description = [{
    `MatMulInteger` and `QLinearMatMul` of 8-bit tensors multiply what
    `DequantizeLinear` with the scale 1 makes of their operands, so that
    `fold-weights` can turn a quantised parameter into one of whole numbers in
    bf16. The product is exact: the inner dimension is cut into parts of 256
    terms, whose sums f32 holds, and the parts are added in i32. A row or column
    of zero points is allowed. `QLinearConv` becomes a `Conv` likewise, whose sums
    f32 holds exactly up to 2^24. `DynamicQuantizeLinear` is written out by the
    formula of the standard. The pass runs after `raise-moe`, which sees the
    operators as they are.

    Before:
    ```mlir
    %y = onnx.MatMulInteger(%x, %w, %zx, %zw) : (tensor<?x64xui8>, tensor<64x8xi8>, tensor<ui8>, tensor<i8>) -> tensor<?x8xi32>
    ```
    After:
    ```mlir
    %0 = onnx.DequantizeLinear(%x, %one, %zx) : ... -> tensor<?x64xf32>
    %1 = onnx.DequantizeLinear(%w, %one, %zw) : ... -> tensor<64x8xf32>
    %2 = onnx.MatMul(%0, %1) : ... -> tensor<?x8xf32>
    %y = onnx.Cast(%2) {to = 6 : i64} : (tensor<?x8xf32>) -> tensor<?x8xi32>
    ```
  }];
  let statistics = [
    Statistic<"numDecomposed", "decomposed", "Operators written out">,
    Statistic<"numKept", "kept", "Operators with types or zero points not covered">
  ];
  let dependentDialects = ["::moec::onnx::OnnxDialect"];
}

def RefineShapes : Pass<"refine-shapes", "::mlir::ModuleOp"> {
  let summary = "Put sizes that shape computations fix into the types";
  let description = [{
    Shape inference of ONNX leaves a dimension open when it depends on a reshape
    to a computed shape, such as `[batch, length, -1, 32]`. Here sizes are traced
    as symbols through the operations and through the vectors that graphs compute
    from `Shape`: batch and length stand on both sides of the reshape, so that -1
    is the width divided by 32. A reshape that joined them is looked through.
    Dimensions of inputs with one name (`onnx.dims`) are of one size, which the
    runtime checks. Types of function results stay.

    Before:
    ```mlir
    %s = onnx.Concat(%batch, %length, %minus_one, %size) {axis = 0 : i64} : ... -> tensor<4xi64>
    %h = onnx.Reshape(%x, %s) : (tensor<?x?x256xf32>, tensor<4xi64>) -> tensor<?x?x?x32xf32>
    ```
    After:
    ```mlir
    %h = onnx.Reshape(%x, %s) : (tensor<?x?x256xf32>, tensor<4xi64>) -> tensor<?x?x8x32xf32>
    ```
  }];
  let statistics = [
    Statistic<"numRefined", "refined", "Dimensions made static">
  ];
  let dependentDialects = ["::moec::onnx::OnnxDialect"];
}

def FuseAttention : Pass<"fuse-attention"> {
  let summary = "Recognise attention that is written out";
  let description = [{
    `softmax(q k^T * scale + mask) v` over four axes becomes one `Attention` node
    without past, which a kernel computes. Recognised are:

    - constant factors anywhere on `q`, `k` or their product;
    - `k` transposed by a `Transpose` or by the reshapes around one that flatten
      batch and heads;
    - masks that are added, and `Where` of a condition and a number below all
      scores (a condition with `-inf` becomes a boolean mask, other numbers an
      added one: a row without keys is then a mean, not NaN);
    - heads of `k` and `v` repeated by `Unsqueeze`, `Expand`, `Reshape` (grouped
      queries): the node reads the heads before. Batch and length must be kept
      apart by the reshape, which is proven from the shape computations;
    - `Where(IsNaN(p), 0, p)` on the probabilities, which moves to the result.

    A query that sees no key at all is NaN when written out with `-inf` and 0 as
    `Attention`. Sizes that only the run decides are taken to agree: the kernel
    checks that batches match and that a mask has a row for each query and a
    column for each key.

    What reads the probabilities otherwise, other element types than f32 and f16
    and other operations in between leave the graph as it is, with a remark.

    Before:
    ```mlir
    %s = onnx.MatMul(%q, %kt) : (tensor<?x8x?x32xf32>, tensor<?x8x32x?xf32>) -> tensor<?x8x?x?xf32>
    %m = onnx.Add(%s, %mask) : (tensor<?x8x?x?xf32>, tensor<?x1x?x?xf32>) -> tensor<?x8x?x?xf32>
    %p = onnx.Softmax(%m) {axis = -1 : i64} : (tensor<?x8x?x?xf32>) -> tensor<?x8x?x?xf32>
    %y = onnx.MatMul(%p, %v) : (tensor<?x8x?x?xf32>, tensor<?x8x?x32xf32>) -> tensor<?x8x?x32xf32>
    ```
    After:
    ```mlir
    %k = onnx.Transpose(%kt) {perm = array<i64: 0, 1, 3, 2>}
        : (tensor<?x8x32x?xf32>) -> tensor<?x8x?x32xf32>
    %y:4 = onnx.Attention(%q, %k, %v, %mask, %none, %none, %none) {scale = 1.0 : f32} : ...
    ```
  }];
  let options = [
    Option<"remarks", "remarks", "bool", /*default=*/"true",
           "Emit a remark for each attention fused or left">
  ];
  let statistics = [
    Statistic<"numFused", "fused", "Attentions fused">,
    Statistic<"numLeft", "left", "Softmax products that are no attention">
  ];
  let dependentDialects = ["::moec::onnx::OnnxDialect"];
}

#endif // MOEC_TRANSFORMS_PREPARE_PASSES_TD
