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

#endif // MOEC_TRANSFORMS_ROUTING_PASSES_TD
