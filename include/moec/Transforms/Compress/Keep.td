#ifndef MOEC_TRANSFORMS_COMPRESS_KEEP_TD
#define MOEC_TRANSFORMS_COMPRESS_KEEP_TD

include "mlir/Pass/PassBase.td"

def KeepExperts : Pass<"keep-experts", "::mlir::ModuleOp"> {
  let summary = "Drop all experts but those that a file lists";
  let description = [{
    Makes a choice of experts permanent: `masks` is a file of the form that `moec run --expert-mask`
    applies to a running model and that `subset-experts` writes,
    `{"layers": {"layer0": {"keep": [0, 2, 5]}}}`. The layers that it names keep these experts, their
    routers score no others; further layers stay. What happens to routers and weights is that of
    `prune-experts` with `replace=drop`.

    Before:
    ```mlir
    %y = moe.experts @layer0(%x, %i, %g) ...  // experts(8)
    ```
    After `--keep-experts=masks=masks.json`:
    ```mlir
    %y = moe.experts @layer0(%x, %i, %g) ...  // experts(3)
    ```
  }];
  let options = [
    Option<"masks", "masks", "std::string", /*default=*/"", "File of the experts to keep">,
    Option<"remarks", "remarks", "bool", /*default=*/"true", "Emit a remark for each layer">
  ];
  let statistics = [
    Statistic<"numLayers", "layers", "Layers with fewer experts">,
    Statistic<"numDropped", "dropped", "Experts dropped">
  ];
  let dependentDialects = ["::moec::moe::MoEDialect", "::moec::onnx::OnnxDialect"];
}

#endif
