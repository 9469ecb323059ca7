#ifndef MOEC_TRANSFORMS_PREPARE_PASSES_TD
#define MOEC_TRANSFORMS_PREPARE_PASSES_TD

include "mlir/Pass/PassBase.td"

def FoldWeights : Pass<"fold-weights", "::mlir::ModuleOp"> {
  let summary = "Move constant reshaping of parameters into weight steps";
  let description = [{
    Exporters leave operations between a parameter and its use: a widening
    `Cast`, `Transpose`, `Reshape` to a constant shape, `Squeeze`, `Unsqueeze`,
    `Flatten`, `Split`, `Slice`, `Gather` with constant indices along one axis,
    `Concat` of parameters, `Identity`. Each becomes a step of the weight (a
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

def DecomposeContrib : Pass<"decompose-contrib"> {
  let summary = "com.microsoft operators as standard onnx operators";
  let description = [{
    `onnx.custom` operators of the domain `com.microsoft` (and
    `SimplifiedLayerNormalization` in the default domain) become standard ops:
    `SimplifiedLayerNormalization`, `SkipSimplifiedLayerNormalization`,
    `RotaryEmbedding`, `MultiHeadAttention`. A node that uses an input or output
    the formula does not cover stays as it is and is reported by code
    generation. `com.microsoft.MoE` is left to `raise-moe`.

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
    `Attention`, `RotaryEmbedding`, `RMSNormalization`, `LayerNormalization`,
    `Gelu` and `Swish` are written out by the function bodies of the ONNX
    standard. `Attention` with `nonpad_kv_seqlen` or with its score output used
    stays.

    Before:
    ```mlir
    %y = onnx.Gelu(%x) {approximate = "none"} : (tensor<?x8xf32>) -> tensor<?x8xf32>
    ```
    After: `Mul`, `Erf`, `Add`, `Mul`, `Mul`.
  }];
  let statistics = [
    Statistic<"numDecomposed", "decomposed", "Operators written out">,
    Statistic<"numKept", "kept", "Operators with unsupported inputs, kept">
  ];
  let dependentDialects = ["::moec::onnx::OnnxDialect"];
}

#endif // MOEC_TRANSFORMS_PREPARE_PASSES_TD
