// Passes that make experts narrower. See Passes.td.
#ifndef MOEC_TRANSFORMS_COMPRESS_NARROW_TD
#define MOEC_TRANSFORMS_COMPRESS_NARROW_TD

include "mlir/Pass/PassBase.td"

def NarrowExperts : Pass<"narrow-experts", "::mlir::ModuleOp"> {
  let summary = "Keep of every expert only the neurons that matter most";
  let description = [{
    All experts and the router stay; each expert loses the same number of neurons (rows of gate
    and up, columns of down), so that bytes and arithmetic fall alike. Which neurons go is each
    expert's own: those that matter least on the tokens of the profile that chose it.

    With h_i(x) what neuron i computes, W_i its column of the down projection, g the token's
    weight:

    - `magnitude`: sum over tokens (g h_i)^2 times |W_i|^2 (HEAPr, ICLR 2026, without gradients:
      with the identity in the place of the outputs' Hessian; ENP);
    - `obs`: C = sum over tokens of phi phi^T with phi = g h; the neuron with the least |W_i|^2
      / (C^-1)_ii goes, the others' columns are corrected for it, and so on (optimal brain
      surgeon, Hassibi and Stork, NIPS 1992). That is the rise of the expert's squared error
      when the neurons that stay do what they can. `ridge` times the mean of C's diagonal is
      added to the diagonal first.

    Both say only which neurons go: weights that stay are as they were. `repair-down` fits them.

    An expert of fewer than `min-tokens` tokens is ranked by |gate_i| |up_i| |W_i|, from its
    weights alone, and a layer of more than `max-neurons` by `magnitude`. Experts that share a
    slab are ranked together. Protected experts are narrowed like all others. Banks whose
    experts are no #moe.ffn and down weights that are quantised in blocks of several neurons are
    left.

    Before:
    ```mlir
    moe.weight.bind @up %up : tensor<2x128x32xf32>
    moe.weight.bind @down %down : tensor<2x32x128xf32>
    moe.bank @layer0 experts(2) hidden(32) inter(128)
        body(#moe.ffn<gated = false, activation = "relu">) up(@up) down(@down)
    ```
    After `--narrow-experts="profile=model.moep drop=0.25"`:
    ```mlir
    %u0 = moe.weight.gather %up0 axis 1 [0, 1, 4, ...] : tensor<1x128x32xf32> -> tensor<1x96x32xf32>
    %u1 = moe.weight.gather %up1 axis 1 [2, 3, 4, ...] : tensor<1x128x32xf32> -> tensor<1x96x32xf32>
    %u = moe.weight.concat %u0, %u1 axis 0 : ... -> tensor<2x96x32xf32>
    ...
    moe.bank @layer0 experts(2) hidden(32) inter(96)
        body(#moe.ffn<gated = false, activation = "relu">) up(@up) down(@down)
    ```
  }];
  let options = [
    Option<"profile", "profile", "std::string", /*default=*/"",
           "Profile of the model, with tokens kept (moec profile --reservoir)">,
    Option<"folder", "folder", "std::string", "\".\"", "What weight files are relative to">,
    Option<"criterion", "criterion", "std::string", /*default=*/"\"obs\"",
           "How neurons are ranked: obs or magnitude">,
    Option<"drop", "drop", "std::string", /*default=*/"",
           "Neurons of each expert that go: a number (32) or a part (0.25, 25%)">,
    Option<"budget", "budget", "std::string", /*default=*/"\"uniform\"",
           "uniform: `drop` of each layer; or, without `drop`, for each layer as many neurons as hold "
           "the bytes of so many experts: 8,4,10,10">,
    Option<"multiple", "multiple", "int64_t", /*default=*/"16",
           "Widths become multiples of it, rounded down (kernels compute panels of 16), or of its half, "
           "quarter and so on where more than a 32nd of a width would be lost">,
    Option<"labels", "labels", "std::string", /*default=*/"",
           "How much tokens of each label count, github:1,c4:0.5; others count nothing">,
    Option<"tokens", "tokens", "int64_t", "0", "Tokens of a layer, at most (0: all)">,
    Option<"ridge", "ridge", "double", /*default=*/"0.01",
           "Of obs: added to the diagonal, relative to its mean">,
    Option<"minTokens", "min-tokens", "int64_t", /*default=*/"32",
           "Experts of fewer tokens are ranked by their weights">,
    Option<"maxNeurons", "max-neurons", "int64_t", /*default=*/"4096",
           "Wider experts are ranked by magnitude (obs: memory 60 bytes times the square)">,
    Option<"remarks", "remarks", "bool", /*default=*/"true",
           "Emit a remark for each layer">
  ];
  let statistics = [
    Statistic<"numNarrowed", "narrowed", "Layers with narrower experts">,
    Statistic<"numLeft", "left", "Layers left as they were">,
    Statistic<"numNeurons", "neurons", "Neurons that went, of all slabs">
  ];
  let dependentDialects = ["::moec::moe::MoEDialect"];
}

#endif
