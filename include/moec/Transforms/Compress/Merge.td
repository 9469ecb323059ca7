// Passes that make one expert of several, or move neurons between experts.
#ifndef MOEC_TRANSFORMS_COMPRESS_MERGE_TD
#define MOEC_TRANSFORMS_COMPRESS_MERGE_TD

include "mlir/Pass/PassBase.td"

def MergeExperts : Pass<"merge-experts", "::mlir::ModuleOp"> {
  let summary = "Merge the experts that are most alike into one";
  let description = [{
    Groups the experts of each routed layer and makes one slab of each group. `drop` (or `keep`) and
    `budget` say how many slabs go, as in `prune-experts`. A preset is a choice for each of six
    parts; each part can be given by itself as well:

    | preset | feature | group | align | weights | combine | router |
    | --- | --- | --- | --- | --- | --- | --- |
    | `ream` | gated-output | pseudo-prune | weights | saliency | average | drop |
    | `hc-smoe` | mean-output | agglomerative | none | frequency | average | alias |
    | `m-smoe` | router-logits | dominant | weights | frequency | average | alias |
    | `sub-moe` | output-cosine | kmeans | none | frequency | subspace | alias |
    | `mergemoe` | weights | dominant | none | frequency | lstsq-down | alias |

    REAM (Samsung, 2026), HC-SMoE (arXiv:2410.08589), M-SMoE (arXiv:2310.01334), Sub-MoE
    (arXiv:2506.23266), MergeMoE (2025).

    - `feature`, what makes two experts alike: `router-logits`: the cosine of their logits over
      tokens; `mean-output`: the distance of their mean outputs on all tokens; `output-cosine`: the
      mean cosine of their outputs for a token; `weights`: the cosine of their gate and up weights;
      `gated-output`: half the cosine of the sums of g f, half the nearness of their columns of the
      scores (REAM).
    - `group`: `dominant`: the others join the most similar of those that matter most;
      `pseudo-prune`: those that matter most take, one after the other, as many of the most similar
      others as `max-group` lets them; `agglomerative`: average linkage; `kmeans`: from `seed` (for
      features that are no vectors, on the rows of the matrix of similarities).
    - `align`: `weights`: the neurons of each member are put into the order in which its weights
      resemble those of the group's first most (a linear assignment; by itself this changes no
      result).
    - `weights`, of members in the average and of who matters: `frequency` (tokens that chose it),
      `saliency` (by `criterion`; 0 counts as the least that is not), `uniform`.
    - `combine`: `average`; `subspace`: the average in the basis of left singular vectors that the
      members share, cut to the part `rank` of it (at 1, all of it, this is the average itself);
      `lstsq-down`: the average, then down projections by least squares on the profile's tokens, as
      `repair-down` does it, of merged slabs only.
    - `router`: `alias`: the ids stay, those of one group share a slab, so that their weights add
      up; `drop`: only the columns of the groups' first members stay.

    Averages stay weights of the file, by `moe.weight.combine` of slabs; only `subspace` and
    `lstsq-down` make new numbers. Slabs keep the type in which they are stored. Protected experts
    and experts without parameters stay by themselves. `align` needs memory of 4 bytes times the
    square of an expert's inner size, and time by its third power.

    `groups` gives the groups instead, for the layers that it names: `layer0=0,3|1,5;layer2=4,7`.
    The first id of a group is the one that others are aligned to and whose column of the router
    stays.

    Before:
    ```mlir
    moe.weight.bind @layer0.up %0 : tensor<4x96x32xf32>
    moe.bank @layer0 experts(4) hidden(32) inter(96)
        body(#moe.ffn<gated = false, activation = "relu">) up(@layer0.up) down(@layer0.down)
    ```
    After `--merge-experts="groups=layer0=0,2 weights=uniform router=alias align=none"`:
    ```mlir
    %1 = moe.weight.gather %0 axis 0 [0] : tensor<4x96x32xf32> -> tensor<1x96x32xf32>
    %2 = moe.weight.gather %0 axis 0 [2] : tensor<4x96x32xf32> -> tensor<1x96x32xf32>
    %3 = moe.weight.combine %1, %2 [0.5, 0.5] ...
    %4 = moe.weight.gather %0 axis 0 [1, 3] : tensor<4x96x32xf32> -> tensor<2x96x32xf32>
    %5 = moe.weight.concat %3, %4 axis 0 ...
    moe.weight.bind @layer0.up %5 : tensor<3x96x32xf32>
    moe.bank @layer0 experts(4) hidden(32) inter(96)
        body(#moe.ffn<gated = false, activation = "relu">) up(@layer0.up) down(@layer0.down)
        slabs([0, 1, 0, 2])
    ```
  }];
  let options = [
    Option<"profile", "profile", "std::string", /*default=*/"",
           "Profile of the model; of tier 1 for gated-output and saliency, of tier 2 for "
           "mean-output and output-cosine">,
    Option<"folder", "folder", "std::string", /*default=*/"\".\"",
           "What weight files are relative to">,
    Option<"preset", "preset", "std::string", /*default=*/"\"ream\"",
           "ream, hc-smoe, m-smoe, sub-moe or mergemoe">,
    Option<"feature", "feature", "std::string", /*default=*/"",
           "router-logits, mean-output, output-cosine, weights or gated-output">,
    Option<"group", "group", "std::string", /*default=*/"",
           "dominant, pseudo-prune, agglomerative or kmeans">,
    Option<"align", "align", "std::string", /*default=*/"", "none or weights">,
    Option<"weights", "weights", "std::string", /*default=*/"",
           "frequency, saliency or uniform">,
    Option<"criterion", "criterion", "std::string", /*default=*/"\"reap\"",
           "Of the weights `saliency`: how experts are scored, as in prune-experts">,
    Option<"combine", "combine", "std::string", /*default=*/"",
           "average, subspace or lstsq-down">,
    Option<"router", "router", "std::string", /*default=*/"", "alias or drop">,
    Option<"drop", "drop", "std::string", /*default=*/"",
           "Slabs that go in each layer: a number (8) or a part (0.25, 25%)">,
    Option<"keep", "keep", "std::string", /*default=*/"",
           "Slabs that stay in each layer, in place of `drop`">,
    Option<"budget", "budget", "std::string", /*default=*/"\"uniform\"",
           "How the total is spread: uniform, global, share, mass; or what each layer loses, in place "
           "of `drop`: 8,4,10,10">,
    Option<"groups", "groups", "std::string", /*default=*/"",
           "The groups themselves: layer0=0,3|1,5;layer2=4,7">,
    Option<"maxGroup", "max-group", "int64_t", /*default=*/"16", "Experts of a group, at most">,
    Option<"rank", "rank", "double", /*default=*/"1",
           "Of `subspace`: part of the shared basis that stays">,
    Option<"seed", "seed", "uint64_t", /*default=*/"0", "Of `kmeans`">,
    Option<"labels", "labels", "std::string", /*default=*/"",
           "Labels of the profile that count, with weights: github:1,c4:0.5; without it all">,
    Option<"remarks", "remarks", "bool", /*default=*/"true",
           "Emit a remark for each layer">
  ];
  let statistics = [
    Statistic<"numLayers", "layers", "Layers with fewer slabs">,
    Statistic<"numMerged", "merged", "Slabs that became part of another">,
    Statistic<"numMoved", "moved", "Neurons that alignment put elsewhere">
  ];
  let dependentDialects = ["::moec::moe::MoEDialect", "::moec::onnx::OnnxDialect"];
}

def RecombineNeurons : Pass<"recombine-neurons", "::mlir::ModuleOp"> {
  let summary = "Drop experts and give their neurons to experts that have such neurons (DERN)";
  let description = [{
    Drops experts as `prune-experts` does, but not all that they have learnt (DERN, EMNLP 2025
    Findings). A neuron is a gate row, an up row and a down column. Each neuron of a dropped expert
    goes to the expert that has the most similar neuron, by the cosine of up rows and down columns
    together, if that is above `alpha`; others are lost. An expert that got some is made anew of its
    own neurons and of those: weighted spherical k-means into as many as it had, where a neuron
    weighs as much as its expert matters (`criterion`), and the new neurons are the means of the
    groups, of members brought to one length. It starts from the expert's own neurons; with
    `start=largest`, as published, from those with the largest numbers in their gate rows, which
    loses neurons where two are the same. Router columns of dropped experts go.

    The new slabs are literals in the type in which the old ones are stored; experts that get
    nothing stay weights of the file. Protected experts are not dropped. The time grows by dropped
    times kept experts times the square of their inner size.

    Before:
    ```mlir
    moe.weight.bind @layer0.up %up : tensor<8x96x32xf32>
    %y = moe.experts @layer0(%x, %i, %g) ...  // experts(8)
    ```
    After `--recombine-neurons="profile=model.moep drop=0.25"`, where two experts got neurons:
    ```mlir
    %new = moe.weight.literal dense_resource<layer0.up.recombined> : tensor<2x96x32xf32>
    %all = moe.weight.concat ... // slabs of %up and %new
    moe.weight.bind @layer0.up %all : tensor<6x96x32xf32>
    %y = moe.experts @layer0(%x, %i, %g) ...  // experts(6)
    ```
  }];
  let options = [
    Option<"profile", "profile", "std::string", /*default=*/"", "Profile of the model">,
    Option<"folder", "folder", "std::string", /*default=*/"\".\"",
           "What weight files are relative to">,
    Option<"alpha", "alpha", "double", /*default=*/"0.6",
           "Cosine above which a neuron goes to another expert">,
    Option<"criterion", "criterion", "std::string", /*default=*/"\"soft\"",
           "How experts are scored, as in prune-experts">,
    Option<"drop", "drop", "std::string", /*default=*/"",
           "Experts to drop in each layer: a number (8) or a part (0.25, 25%)">,
    Option<"keep", "keep", "std::string", /*default=*/"",
           "Experts to keep in each layer, in place of `drop`">,
    Option<"budget", "budget", "std::string", /*default=*/"\"uniform\"",
           "How the total is spread: uniform, global, share, mass; or what each layer loses, in place "
           "of `drop`: 8,4,10,10">,
    Option<"start", "start", "std::string", /*default=*/"\"own\"",
           "The first centres of k-means: own or largest">,
    Option<"rounds", "rounds", "int64_t", /*default=*/"50", "Rounds of k-means, at most">,
    Option<"labels", "labels", "std::string", /*default=*/"",
           "Labels of the profile that count, with weights: github:1,c4:0.5; without it all">,
    Option<"remarks", "remarks", "bool", /*default=*/"true",
           "Emit a remark for each layer">
  ];
  let statistics = [
    Statistic<"numDropped", "dropped", "Experts dropped">,
    Statistic<"numMoved", "moved", "Neurons that went to another expert">
  ];
  let dependentDialects = ["::moec::moe::MoEDialect", "::moec::onnx::OnnxDialect"];
}

#endif
