// Passes that drop whole experts. See Passes.td.
#ifndef MOEC_TRANSFORMS_COMPRESS_PRUNE_TD
#define MOEC_TRANSFORMS_COMPRESS_PRUNE_TD

include "mlir/Pass/PassBase.td"

def ProtectExperts : Pass<"protect-experts", "::mlir::ModuleOp"> {
  let summary = "Mark the super experts, which no other pass may drop";
  let description = [{
    A few experts make the massive activations that the rest of the model relies on; without them it
    collapses (Su et al., "Unveiling Super Experts in Mixture-of-Experts Large Language Models",
    arXiv:2507.23279). An expert is one when the largest output it ever gave, in absolute value over
    all channels (`output_max` of a profile of tier 1), is above the percentile `percentile` of all
    experts' and above `share` of the largest of all, in the first `depth` of the layers.

    Their ids stand in the attribute `moe.protected` of the bank, beside those that it names already.
    `prune-experts` and `subset-experts` keep them.

    Before:
    ```mlir
    moe.bank @layer0 experts(8) hidden(32) inter(96) body(#moe.ffn<gated = true, activation = "silu">)
        gate(@g) up(@u) down(@d)
    ```
    After `--protect-experts=profile=model.moep`:
    ```mlir
    moe.bank @layer0 experts(8) hidden(32) inter(96) body(#moe.ffn<gated = true, activation = "silu">)
        gate(@g) up(@u) down(@d) attributes {moe.protected = array<i64: 5>}
    ```
  }];
  let options = [
    Option<"profile", "profile", "std::string", /*default=*/"",
           "Profile of the model, of tier 1 or above">,
    Option<"folder", "folder", "std::string", "\".\"", "What weight files are relative to">,
    Option<"percentile", "percentile", "double", /*default=*/"99.5",
           "Percentile of all experts' largest outputs that one has to exceed">,
    Option<"share", "share", "double", /*default=*/"0.1",
           "Part of the largest output of all that one has to exceed">,
    Option<"depth", "depth", "double", /*default=*/"0.75",
           "Part of the layers, from the first, that may have super experts">,
    Option<"remarks", "remarks", "bool", /*default=*/"true",
           "Emit a remark for each protected expert">
  ];
  let statistics = [
    Statistic<"numProtected", "protected", "Experts marked">
  ];
  let dependentDialects = ["::moec::moe::MoEDialect"];
}

def PruneExperts : Pass<"prune-experts", "::mlir::ModuleOp"> {
  let summary = "Drop the experts that matter least by a profile";
  let description = [{
    Scores the experts of each routed layer by `criterion`, from the statistics of a profile, and
    drops those with the lowest scores. An expert that no token chose goes first, whatever the
    criterion; protected experts (`protect-experts`) and experts without parameters never go; each
    layer keeps at least as many as a token takes.

    Criteria, over the tokens of the profile (n chose the expert, g is its weight, f its output, p
    the router's score, z a logit):

    - `reap`: sum g|f| / n; `reap-l2`: sqrt(sum (g|f|)^2 / n) (REAP, arXiv:2510.13999);
    - `gated-norm`: sum g|f|; `mean-norm`: sum |f| / n (EAN); `norm-sum`: sum |f|;
    - `soft`: sum g of chosen (soft count, SEER-MoE, arXiv:2404.05089); `frequency`: n;
    - `score`: sum p over all tokens; `tcess`: sum z of the tokens whose best it is (PreMoe,
      arXiv:2505.17639);
    - `easy-ep`: sum g|f| max(0, 1 - cos(r, r + y)), with the residual stream r and the layer's result
      y (EASY-EP, arXiv:2504.06792); `tenp`: sum g|f| (1 - cos(x, f));
    - `mone`: |sqrt(var f)| times the mean of g (MoNE, arXiv:2507.00390);
    - `random`, by `seed`: the baseline that every criterion has to beat;
    - `reconstruction`: the expert goes without which the layer's output, with tokens routed anew
      among the others, stays nearest to the original's on tokens that the profile keeps; then the
      next one (NAEE, arXiv:2402.14800, made greedy). Reads the weights (`folder`) and computes all
      experts on up to `tokens` tokens, fewer where that would need more than 512 MiB.

    `budget` spreads what is dropped over the layers: the same part of each (`uniform`), the lowest
    scores of all layers (`global`; `share`: after each layer's scores are divided by their sum), as
    much of each layer's sum of scores (`mass`), or a number for each layer (`8,4,10,10`), which says
    the total too.

    `replace` says what becomes of an expert:

    - `drop`: its columns of the router go too: weights, biases, tables. A softmax over the experts is
      one over those that stay, as if the others' logits were -infinity. Groups of experts that would
      become unequal are masked instead;
    - `mask`: its logit becomes -infinity; ids stay as they were;
    - `zero`, `constant`: the router stays as it is; the expert gives zero, or the mean of what it gave
      to the tokens of the profile (MoNE).

    Before:
    ```mlir
    %z = onnx.MatMul(%x, %w) : (tensor<?x32xf32>, tensor<32x8xf32>) -> tensor<?x8xf32>
    %i, %g = moe.route(%z) router<score = softmax, k = 2, renorm = sum> ...
    %y = moe.experts @layer0(%x, %i, %g) ...  // experts(8)
    ```
    After `--prune-experts="profile=model.moep drop=0.25"`:
    ```mlir
    %z = onnx.MatMul(%x, %w.0) : (tensor<?x32xf32>, tensor<32x6xf32>) -> tensor<?x6xf32>
    %i, %g = moe.route(%z) router<score = softmax, k = 2, renorm = sum> ...
    %y = moe.experts @layer0(%x, %i, %g) ...  // experts(6)
    ```
  }];
  let options = [
    Option<"profile", "profile", "std::string", /*default=*/"", "Profile of the model">,
    Option<"criterion", "criterion", "std::string", /*default=*/"\"reap\"",
           "How experts are scored">,
    Option<"drop", "drop", "std::string", /*default=*/"",
           "Experts to drop in each layer: a number (8) or a part (0.25, 25%)">,
    Option<"keep", "keep", "std::string", /*default=*/"",
           "Experts to keep in each layer, in place of `drop`">,
    Option<"budget", "budget", "std::string", /*default=*/"\"uniform\"",
           "How the total is spread: uniform, global, share, mass; or what each layer loses, in place "
           "of `drop`: 8,4,10,10">,
    Option<"labels", "labels", "std::string", /*default=*/"",
           "Labels of the profile that count, with weights: github:1,c4:0.5; without it all">,
    Option<"perLabel", "per-label", "bool", /*default=*/"false",
           "Score each label by itself, divide by its sum and add (EASY-EP)">,
    Option<"seed", "seed", "uint64_t", /*default=*/"0", "Of the criterion `random`">,
    Option<"folder", "folder", "std::string", "\".\"",
           "What weight files are relative to">,
    Option<"tokens", "tokens", "int64_t", /*default=*/"4096",
           "Tokens of a layer that the criterion reconstruction looks at, at most (0: all)">,
    Option<"replace", "replace", "std::string", /*default=*/"\"drop\"",
           "What becomes of an expert: drop, mask, zero or constant">,
    Option<"minExperts", "min-experts", "int64_t", /*default=*/"1",
           "Experts that stay in each layer, at least">,
    Option<"remarks", "remarks", "bool", /*default=*/"true",
           "Emit a remark for each layer">
  ];
  let statistics = [
    Statistic<"numLayers", "layers", "Layers with fewer experts">,
    Statistic<"numDropped", "dropped", "Experts dropped">,
    Statistic<"numKept", "kept", "Experts that stay">
  ];
  let dependentDialects = ["::moec::moe::MoEDialect", "::moec::onnx::OnnxDialect"];
}

def SubsetExperts : Pass<"subset-experts", "::mlir::ModuleOp"> {
  let summary = "Keep the experts of one domain";
  let description = [{
    Keeps the experts that matter for the texts of one label of the profile, or of a few
    (`github,book`, each scored by itself and weighed the same, as in EASY-EP): a model for that
    domain. Criteria and what may go are those of `prune-experts`.

    With `masks`, a folder, the model stays as it is: for each label a file `<label>.json` is written
    with what would be kept, for a session to switch to while it runs:
    `{"layers": {"layer0": {"keep": [0, 3, 4]}}}` (`moec run --expert-mask`).

    Without a label, `like` chooses it: a profile of other data, such as a prompt; the label whose
    experts are chosen most alike is taken, as in PreMoe's retrieval (2025), but by the shares of
    choices in all layers. `moec profile --nearest` tells the distances.

    Before:
    ```mlir
    %i, %g = moe.route(%z) router<score = softmax, k = 2> : (tensor<?x8xf32>) -> ...
    ```
    After `--subset-experts="profile=model.moep label=github keep=4"`:
    ```mlir
    %i, %g = moe.route(%z.0) router<score = softmax, k = 2> : (tensor<?x4xf32>) -> ...
    ```
  }];
  let options = [
    Option<"profile", "profile", "std::string", /*default=*/"",
           "Profile of the model, with labels">,
    Option<"folder", "folder", "std::string", "\".\"", "What weight files are relative to">,
    Option<"label", "label", "std::string", /*default=*/"",
           "Domain whose experts stay, or several: github,book">,
    Option<"like", "like", "std::string", /*default=*/"",
           "Profile of other data, in place of a label: the one whose routing is nearest is taken">,
    Option<"keep", "keep", "std::string", /*default=*/"",
           "Experts to keep in each layer: a number (8) or a part (0.25, 25%)">,
    Option<"criterion", "criterion", "std::string", /*default=*/"\"easy-ep\"",
           "How experts are scored, as in prune-experts">,
    Option<"budget", "budget", "std::string", /*default=*/"\"uniform\"",
           "How the total is spread, as in prune-experts">,
    Option<"masks", "masks", "std::string", /*default=*/"",
           "Folder for a file of masks for each label; the model stays as it is">,
    Option<"remarks", "remarks", "bool", /*default=*/"true",
           "Emit a remark for each layer">
  ];
  let statistics = [
    Statistic<"numDropped", "dropped", "Experts dropped">,
    Statistic<"numMasks", "masks", "Files of masks written">
  ];
  let dependentDialects = ["::moec::moe::MoEDialect", "::moec::onnx::OnnxDialect"];
}

#endif
