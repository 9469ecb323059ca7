#ifndef MOEC_TRANSFORMS_RAISE_PASSES_TD
#define MOEC_TRANSFORMS_RAISE_PASSES_TD

include "mlir/Pass/PassBase.td"

def RaiseMoE : Pass<"raise-moe", "::mlir::ModuleOp"> {
  let summary = "Prove that subgraphs are MoE layers and raise them";
  let description = [{
    Finds every top-k over expert scores and follows what is computed from its
    ids: which slot, token or expert stands at each position, and which
    expression of the expert's parameters. Gathered weights (P3), sort and
    grouped products (P4), loops over experts with scatters (P1, P2), masks (P7)
    and products with all experts (P6) meet in one form, the sum over slots of
    weight times expert, from which the layer is raised:

    - the top-k becomes `moe.select`,
    - the experts' parameters become a `moe.bank` in canonical layouts,
    - the combine becomes `moe.experts`.

    Experts are also chosen by an argmax, by a top-k among the best groups of
    experts (`grouped_top_k`, when the mask of the others provably leaves the choice
    inside the kept groups as it is), by integers from anywhere that are read as
    ids (an input, a table by token id, two argmaxes side by side, a part of a
    top-k, one id for a whole sequence), or by dense weights `[T, E]`. Ids from the
    number of experts on may name no expert, or one that gives its token back.
    Weights may multiply the experts' tokens instead of their results.

    Loops over a known number of experts and branches around an expert are walked
    like the rest of the graph, with the loop's number as a constant. A mask or
    weights that come from code nobody knows are dense weights. So are those of
    capacities (P8), when it is proven that no two tokens share a place of an
    expert: a token's place is the number of tokens before it with the same choice,
    behind all that chose the expert first.

    Three designs have proofs of their own. Experts over the slots of Soft MoE own
    fixed rows: `moe.experts` gets the id of each row's owner, and the mixtures of
    one sequence become `moe.soft_dispatch` and `moe.soft_combine`. Experts that
    choose tokens by a top-k over the tokens, with their results added up, become
    `moe.choose`, dense weights and `moe.experts`. Matrices that are sums of all
    experts' under weights become `moe.merge_weights`.

    The weights' renormalisation stays onnx until `fuse-gating`. The nodes
    `com.microsoft.MoE` and `QMoE` (P0) are raised directly, quantised parameters
    as weights that are dequantised when the model is linked. Where the kernels of
    ONNX Runtime differ from the operators' schema, `semantics` says whom to follow:

    - `ort-cpu`: among equal logits the higher expert comes first; there is no
      sparse mixer; QMoE without `router_weights` always normalises; weights of at
      most 1e-8 (QMoE) or 0 (MoE) are dropped; `weights_prepacked` is not read;
    - `ort-cuda`: QMoE does not read `router_weights`, and swiglu without a layout
      is interleaved.

    Under all of them gelu is the form with tanh, and matrices are read as
    `[E, N, K]` also where their shape declares `[E, K, N]`.

    Proof obligations, each named in the remark when it fails: every expert
    0..E-1 is present once and reached by its own id; the experts read one source
    of tokens and compute one function; one routing weight multiplies each
    result; no other operation uses an intermediate result of an expert; the
    bank has as many experts as the router has columns; k is a constant.

    Experts of several dense gates may read tokens of several tensors, as in
    progressive layered extraction, where a task's own experts read what the level
    above gave the task and shared experts read what it gave them. Then the gates
    must explain it: some expert is weighed by several gates, and experts that the
    same gates weigh read the same tokens. The tensors are contexts of rows. The
    remark of a refusal has a kind, its diagnostic's metadata: `missing-experts`
    or `not-raised`.

    Before:
    ```mlir
    %v, %i = onnx.TopK(%p, %k) ...
    %w = moe.weight.use @gate_up : tensor<8x96x32xf32>
    %g = onnx.GatherND(%w, %iu) ...
    ...
    %y = onnx.ReduceSum(%weighted, %axis) ...
    ```
    After:
    ```mlir
    %ids, %v = moe.select %p {k = 2} ...
    %y = moe.experts @layer0(%x, %ids, %w) ...
    ```
  }];
  let options = [
    Option<"nodesOnly", "nodes-only", "bool", /*default=*/"false",
           "Raise only com.microsoft.MoE and QMoE nodes, which have no other form here">,
    Option<"semantics", "semantics", "std::string", /*default=*/"\"schema\"",
           "Whose meaning these nodes have: schema, ort-cpu or ort-cuda">,
    Option<"remarks", "remarks", "bool", /*default=*/"true",
           "Emit a remark for each layer raised or refused">
  ];
  let statistics = [
    Statistic<"numRaised", "raised", "MoE layers raised">,
    Statistic<"numRefused", "refused", "Routings whose proof failed">
  ];
  let dependentDialects = ["::moec::moe::MoEDialect",
                           "::moec::onnx::OnnxDialect"];
}

def ShareExperts : Pass<"share-experts", "::mlir::ModuleOp"> {
  let summary = "Run experts that several gates weigh once";
  let description = [{
    Multi-gate models (MMoE, PLE) sum the results of the same experts under the dense
    weights of several gates. Such `moe.experts` ops over the same tokens become one
    that keeps the results apart, and a product with each gate's weights; experts that
    only some of the gates weigh are joined in one bank. Experts of several kinds, or
    that read tokens of several tensors, are told apart by their regions, their
    parameters and what they read; the joined bank is given all that they read. Banks
    that hold the same experts become one bank, whoever uses them.

    Before:
    ```mlir
    %a = moe.experts @layer0(%x, %gate_a) ...
    %b = moe.experts @layer1(%x, %gate_b) ...
    ```
    After:
    ```mlir
    %all = moe.experts @layer0(%x, %ones) {combine = "none"} ...
    %a = onnx.MatMul(%gate_a, %all) ...
    %b = onnx.MatMul(%gate_b, %all) ...
    ```
  }];
  let options = [
    Option<"banksOnly", "banks-only", "bool", /*default=*/"false",
           "Only make one bank of equal ones; gates stay apart, as they are to be exported">
  ];
  let statistics = [
    Statistic<"numShared", "shared", "Groups of gates over the same experts">,
    Statistic<"numBanks", "banks", "Banks that were another's">
  ];
  let dependentDialects = ["::moec::moe::MoEDialect",
                           "::moec::onnx::OnnxDialect"];
}

#endif // MOEC_TRANSFORMS_RAISE_PASSES_TD
