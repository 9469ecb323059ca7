// Repairs of compressed layers without gradients: least squares on tokens of a profile.
#ifndef MOEC_TRANSFORMS_COMPRESS_REPAIR_TD
#define MOEC_TRANSFORMS_COMPRESS_REPAIR_TD

include "mlir/Pass/PassBase.td"

class RepairPass<string name, list<Option> more> : Pass<name, "::mlir::ModuleOp"> {
  let options = !listconcat([
    Option<"profile", "profile", "std::string", "\"\"",
           "Profile of the original model, with tokens kept (moec profile)">,
    Option<"currentProfile", "current-profile", "std::string", "\"\"",
           "Profile of the model as it is now, over the same data: says what its layers get and "
           "choose; without it they are taken to get what the original's got">,
    Option<"folder", "folder", "std::string", "\".\"", "What weight files are relative to">,
    Option<"holdOut", "hold-out", "double", "0.1",
           "Share of the tokens that nothing is fitted to, but that decides">,
    Option<"tokens", "tokens", "int64_t", "0", "Tokens of a layer, at most (0: all)">,
    ListOption<"layers", "layers", "std::string",
               "Only these layers, by name or number, from 0 in the order of the program">,
    Option<"labels", "labels", "std::string", "\"\"",
           "How much tokens of each label count, \"github:1,c4:0.5\"; others count nothing">,
    Option<"remarks", "remarks", "bool", "true", "Emit a remark for each layer">
  ], more);
  let statistics = [
    Statistic<"numRepaired", "repaired", "Layers repaired">,
    Statistic<"numLeft", "left", "Layers left as they were">
  ];
  let dependentDialects = ["::moec::moe::MoEDialect"];
}

def RepairDown : RepairPass<"repair-down", [
    ListOption<"ridge", "ridge", "double",
               "Strength of the pull towards the old weights, relative to the mean diagonal of the "
               "normal equations; of several the one that does best on the tokens held out, sought "
               "from the middle one on as long as that falls (default: 0.3, 0.1, 0.03, 0.01)">,
    Option<"maxUnknowns", "max-unknowns", "int64_t", "4096",
           "Columns of down projections that are solved for at once (memory: 8 bytes times the "
           "square); more are solved in groups">,
    Option<"sweeps", "sweeps", "int64_t", "3", "Sweeps over the groups, when there are several">,
    Option<"addBiases", "add-biases", "bool", "false",
           "Give the experts down biases when they have none">]> {
  let summary = "Refit the down projections of a compressed layer by least squares";
  let description = [{
    After experts were dropped, merged or replaced, the down projections (and down biases) of the
    experts that are left are fitted together, so that the layer's output comes as near as it can to
    that of the original layer on the tokens of the profile:

        minimise over W'  sum over tokens |y - sum_j g_j W'_slab(j) h_j(x)|^2 + ridge |W' - W|^2

    with y the original routed output, h_j the expert's intermediate result and g_j its weight, both
    as the layer is now. Experts that share a slab share its unknowns; experts without a slab stay.
    It is one linear system of slabs * inter unknowns, solved by Cholesky factorisation of the
    normal equations. This is the correction of MergeMoE for all experts of a layer at once.

    How the layer routes now is read from `current-profile`, or computed by the router's weights, or
    from the original logits (`moe.origin` of the bank says which expert was which). New weights that do worse on the tokens
    held out are not taken. The new numbers keep the type in which the old ones are stored; weights
    that are stored quantised are left.

    With `current-profile` the layer gets what the layers in front of it give by now: repair one
    layer after the other (`layers`) with a new profile each.

    Before:
    ```mlir
    %down = moe.weight.load "model.onnx.data" at 4096 : tensor<24x256x128xf32>
    moe.weight.bind @layer0.down %down : tensor<24x256x128xf32>
    ```
    After:
    ```mlir
    %down = moe.weight.literal dense_resource<layer0.down> : tensor<24x256x128xf32>
    moe.weight.bind @layer0.down %down : tensor<24x256x128xf32>
    ```
  }];
}

def RepairBias : RepairPass<"repair-bias", []> {
  let summary = "Add the mean of what a compressed layer lacks to its output";
  let description = [{
    Bias compensation: the mean over the tokens of the profile of the original layer's output minus
    the layer's output now becomes a vector that is added to each token's output. Costs hidden
    numbers a layer. A vector that does worse on the tokens held out is not added.

    Before:
    ```mlir
    %y = moe.experts @layer0(%x, %ids, %weights) ...
    ```
    After:
    ```mlir
    %y = moe.experts @layer0(%x, %ids, %weights) {moe.repaired = "bias"} ...
    %b = moe.weight.use @layer0.repair_bias : tensor<256xf32>
    %z = onnx.Add(%y, %b) ...
    ```

    Layers whose output is corrected already are left; refit weights first.
  }];
}

def RepairLinear : RepairPass<"repair-linear", [
    ListOption<"ridge", "ridge", "double",
               "Strength of the pull towards zero, relative to the mean diagonal of the normal "
               "equations; of several the one that does best on the tokens held out (default: 1, "
               "0.1, 0.01, 0.001)">]> {
  let summary = "Add a linear map of the input to a compressed layer's output";
  let description = [{
    Fits M and b, so that the layer's output plus `x M + b` comes near to the original layer's on
    the tokens of the profile (ridge regression), and adds it. Costs hidden * (hidden + 1) numbers a
    layer, in the type in which the down projections are stored, and as much arithmetic for each
    token as a small expert; the remark says how many bytes. A map that does worse on the tokens
    held out is not added.

    Before:
    ```mlir
    %y = moe.experts @layer0(%x, %ids, %weights) ...
    ```
    After:
    ```mlir
    %y = moe.experts @layer0(%x, %ids, %weights) {moe.repaired = "linear"} ...
    %m = moe.weight.use @layer0.repair_map : tensor<256x256xf32>
    %b = moe.weight.use @layer0.repair_bias : tensor<256xf32>
    %c = onnx.MatMul(%x, %m) ...
    %d = onnx.Add(%y, %c) ...
    %z = onnx.Add(%d, %b) ...
    ```

    Layers whose output is corrected already are left; refit weights first.
  }];
}

def RefitRouter : RepairPass<"refit-router", [
    ListOption<"ridge", "ridge", "double",
               "Strength of the pull towards the old rows, relative to the mean diagonal of the "
               "normal equations; of several the one that does best on the tokens held out "
               "(default: 1, 0.1, 0.01, 0.001)">,
    Option<"mapDropped", "map-dropped", "bool", "false",
           "Logits of dropped experts go to the kept expert whose outputs are most like theirs "
           "(needs output_cosine in the profile)">]> {
  let summary = "Refit the rows of a compressed layer's router by ridge regression";
  let description = [{
    Fits the router's linear map by ridge regression, as DUME does for experts of different models,
    so that its logits on what the layer gets now come near to the logits that the original router
    gave to the same experts on the same tokens. What a layer gets changes when the layers in front
    of it were compressed: give `current-profile`. With `map-dropped` the aim for a kept expert is
    the logarithm of the summed exponentials of its logit and of those of the dropped experts that
    it stands for, so that (for a softmax) it gets their probability too.

    Needs a `moe.route` whose logits are a matrix product of the experts' input with a weight. Rows
    with which the layer's output does worse on the tokens held out are not taken.

    Before:
    ```mlir
    %r = moe.weight.use @router : tensor<256x24xf32>
    %z = onnx.MatMul(%x, %r) ...
    %ids, %weights = moe.route(%z) router<score = softmax, k = 4, renorm = sum> ...
    ```
    After:
    ```mlir
    %r = moe.weight.use @layer0.router : tensor<256x24xf32>
    %z = onnx.MatMul(%x, %r) ...
    %ids, %weights = moe.route(%z) router<score = softmax, k = 4, renorm = sum> ...
    ```
  }];
}

#endif
