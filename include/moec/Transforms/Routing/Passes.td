#ifndef MOEC_TRANSFORMS_ROUTING_PASSES_TD
#define MOEC_TRANSFORMS_ROUTING_PASSES_TD

include "mlir/Pass/PassBase.td"

def FuseGating : Pass<"fuse-gating"> {
  let summary = "Fuse score, selection and renormalisation into moe.route";
  let description = [{
    A `moe.select` whose scores are `Softmax` or `Sigmoid` of logits (or the
    logits themselves), together with the formula that turns its weights into
    the mixing weights (nothing, division by their sum with or without a small
    constant, softmax over the chosen, a constant factor), becomes one
    `moe.route`. A selection bias is recognised where the scores are
    `score(logits) + bias` and the weights are gathered from the unbiased scores.
    Scores may be of any origin (then `identity`), or a softmax or sigmoid that is
    spelled out; a selection in groups becomes a router over groups; the norm of
    degree one counts as the sum where no score is negative. What is not recognised
    of a formula stays as it is behind the router.

    A top-k whose slots fall out where the probabilities before them sum up to p, or
    where their score is below a threshold, becomes a `moe.select` of that kind.

    Before:
    ```mlir
    %p = onnx.Softmax(%z) {axis = -1 : i64} ...
    %i, %v = moe.select %p {k = 2} ...
    %s = onnx.ReduceSum(%v, %axis) ...
    %w = onnx.Div(%v, %s) ...
    ```
    After:
    ```mlir
    %i, %w = moe.route(%z) router<score = softmax, k = 2, renorm = sum> ...
    ```
  }];
  let options = [
    Option<"remarks", "remarks", "bool", /*default=*/"true",
           "Emit a remark for each router fused or left">
  ];
  let statistics = [
    Statistic<"numFused", "fused", "Routers fused">,
    Statistic<"numLeft", "left", "Routers whose formula is not recognised">
  ];
  let dependentDialects = ["::moec::moe::MoEDialect"];
}

def InsertProbes : Pass<"insert-probes", "::mlir::ModuleOp"> {
  let summary = "Add a moe.probe to every routed layer";
  let description = [{
    Every layer of moec/Dialect/MoE/RoutedLayers.h gets a `moe.probe`, so that compiled code can
    collect a profile. Values stay the same up to the rounding of sums. Ops that only lead to the
    logits behind a softmax or sigmoid are looked through; dense weights count as one slot for each
    expert.

    - `tier=0`: a probe of kind `routing`;
    - `tier=1`: of kind `experts`. The layer's slots are kept apart (`combine = "none"`) and summed
      behind it. The residual stream is the other side of the `Add` that the layer's result goes
      to, the first one whose other side also leads to the layer's tokens (so a shared expert is
      passed over); the tokens themselves when there is none. Layers whose tokens are not `[T, H]`,
      or whose results are not as large as they, get tier 0 and a remark;
    - `tier=2`: also one of kind `all`: every expert runs on every `sample-every`-th token.

    Before:
    ```mlir
    %i, %w = moe.route(%z) router<score = softmax, k = 2> ...
    %y = moe.experts @layer0(%x, %i, %w) ...
    ```
    After, with `tier=1`:
    ```mlir
    %i, %w = moe.route(%z) router<score = softmax, k = 2> ...
    %slots = moe.experts @layer0(%x, %i, %w) {combine = "none"} ...
    %y = onnx.ReduceSum(%slots, %axis) ...
    moe.probe "experts"(%i, %w, %x, %residual, %slots, %y, %z) {experts = 8 : i64, layer = "layer0"}
    ```
  }];
  let options = [
    Option<"tier", "tier", "int64_t", /*default=*/"0", "0: routing, 1: chosen experts, 2: all experts">,
    Option<"sampleEvery", "sample-every", "int64_t", /*default=*/"8",
           "With tier 2, all experts run on every such token">
  ];
  let statistics = [
    Statistic<"numProbes", "probes", "Probes inserted">,
    Statistic<"numLowered", "lowered", "Layers that got a lower tier">
  ];
  let dependentDialects = ["::moec::moe::MoEDialect", "::moec::onnx::OnnxDialect"];
}

def InsertLogitHooks : Pass<"insert-logit-hooks", "::mlir::ModuleOp"> {
  let summary = "Let sessions change the logits of routers";
  let description = [{
    The logits of every router of a routed layer (moec/Dialect/MoE/RoutedLayers.h) go through a
    `moe.logit_hook` with the layer's name, and the bias of a `moe.route` through one that only masks.
    In front of a `moe.select` it is what goes into the softmax or sigmoid that its scores are, or
    its weight scores (then the scores are masked too), or else the scores. A masked expert then
    counts as if it did not exist.

    Left, with a remark: layers without a router (dense weights, given ids), kinds of selection that
    choose without logits, a `top_p` whose scores are of unknown origin, routers that another layer
    has hooked, and numbers of experts that are not known.

    Before:
    ```mlir
    %i, %w = moe.route(%z, %b) router<score = sigmoid, k = 2> ...
    %y = moe.experts @layer0(%x, %i, %w) ...
    ```
    After:
    ```mlir
    %hooked = moe.logit_hook %z {k = 2 : i64, layer = "layer0"} ...
    %bias = moe.logit_hook %b {k = 2 : i64, layer = "layer0", mask_only} ...
    %i, %w = moe.route(%hooked, %bias) router<score = sigmoid, k = 2> ...
    %y = moe.experts @layer0(%x, %i, %w) ...
    ```
  }];
  let statistics = [
    Statistic<"numHooks", "hooks", "Layers that sessions can change">,
    Statistic<"numLeft", "left", "Layers without a hook">
  ];
  let dependentDialects = ["::moec::moe::MoEDialect"];
}

#endif // MOEC_TRANSFORMS_ROUTING_PASSES_TD
