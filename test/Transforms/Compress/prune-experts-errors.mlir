// What cannot be pruned is one line that names the layer, and leaves no file behind.
// RUN: %python %S/Inputs/write_profile.py %s %t.moep
// RUN: not moe-opt %s --prune-experts="drop=1" 2>&1 | FileCheck %s --check-prefix=PROFILE
// RUN: not moe-opt %s --prune-experts="profile=%t.none drop=1" 2>&1 | FileCheck %s --check-prefix=FILE
// RUN: not moe-opt %s --prune-experts="profile=%t.moep" 2>&1 | FileCheck %s --check-prefix=DROP
// RUN: not moe-opt %s --prune-experts="profile=%t.moep drop=1 keep=1" 2>&1 | FileCheck %s --check-prefix=DROP
// RUN: not moe-opt %s --prune-experts="profile=%t.moep criterion=frequency budget=2 drop=1" 2>&1 | FileCheck %s --check-prefix=TOTAL
// RUN: not moe-opt %s --prune-experts="profile=%t.moep criterion=frequency budget=2,1" 2>&1 | FileCheck %s --check-prefix=LIST
// RUN: moe-opt %s --prune-experts="profile=%t.moep criterion=frequency budget=2 keep=2" 2>&1 | FileCheck %s --check-prefix=SAME
// RUN: not moe-opt %s --prune-experts="profile=%t.moep drop=1" 2>&1 | FileCheck %s --check-prefix=TIER
// RUN: not moe-opt %s --prune-experts="profile=%t.moep drop=3 criterion=frequency" 2>&1 | FileCheck %s --check-prefix=FEW
// RUN: not moe-opt %s --prune-experts="profile=%t.moep drop=1 criterion=frequency min-experts=4" 2>&1 | FileCheck %s --check-prefix=LEAST
// RUN: not moe-opt %s --prune-experts="profile=%t.moep drop=1 criterion=frequency replace=half" 2>&1 | FileCheck %s --check-prefix=REPLACE
// RUN: not moe-opt %s --prune-experts="profile=%t.moep drop=1 criterion=frequency labels=c" 2>&1 | FileCheck %s --check-prefix=LABEL
// RUN: not moe-opt %s --prune-experts="profile=%t.moep drop=1 criterion=frequency replace=constant" 2>&1 | FileCheck %s --check-prefix=MEAN
// RUN: not moe-opt %s --protect-experts="profile=%t.moep" 2>&1 | FileCheck %s --check-prefix=MAX
// RUN: sed 's/@layer0/@other/' %s > %t.mlir && not moe-opt %t.mlir --prune-experts="profile=%t.moep drop=1 criterion=frequency" 2>&1 | FileCheck %s --check-prefix=OTHER
// RUN: sed 's/(%x, %i, %g)/(%x, %j, %g)/' %s > %t.mlir && not moe-opt %t.mlir --prune-experts="profile=%t.moep drop=1 criterion=frequency" 2>&1 | FileCheck %s --check-prefix=IDS

// PROFILE: error: prune-experts: needs a profile
// FILE: error: prune-experts: {{.*}}.none
// DROP: error: prune-experts: needs one of `drop` and `keep`{{.*}}; or `budget` with what each layer loses
// TOTAL: error: prune-experts: budget = 2 drops 2 experts, drop = 1 means 1; give the list alone
// LIST: error: prune-experts: budget "2,1" has 2 numbers for 1 layers
// SAME: layer 'layer0': 2 of 4 experts go
// TIER: error: prune-experts: layer 'layer0': the profile has no gated_norm_sum; profile with --tier 1
// FEW: error: prune-experts: layer 'layer0': cannot drop 3 of 4 experts; 2 may go, as 2 have to stay
// LEAST: error: prune-experts: layer 'layer0': cannot drop 1 of 4 experts; 0 may go, as 4 have to stay
// REPLACE: error: prune-experts: replace = "half"
// LABEL: error: prune-experts: "c" is no label of the profile
// MEAN: error: layer 'layer0': the profile has no output_sum
// MAX: error: protect-experts: layer 'layer0': the profile has no output_max
// OTHER: error: prune-experts: layer 'other': the profile has no such layer; profile this model
// IDS: error: 'moe.experts' op layer 'layer0': unsupported: its ids come from no router

// LABELS: a b
// MEASURED: layer0 2 4 tokens [10, 10]
// MEASURED: layer0 2 4 count [[5, 5, 5, 5], [1, 2, 7, 10]]

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4x3x4xf32>
  moe.weight.bind @up %0 : tensor<4x3x4xf32>
  %1 = moe.weight.load "w.bin" at 192 : tensor<4x4x3xf32>
  moe.weight.bind @down %1 : tensor<4x4x3xf32>
}
moe.bank @layer0 experts(4) hidden(4) inter(3) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@down)
func.func @main(%x: tensor<?x4xf32>, %z: tensor<?x4xf32>, %j: tensor<?x2xi32>) -> tensor<?x4xf32> {
  %i, %g = moe.route(%z) router<score = softmax, k = 2>
      : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %y = moe.experts @layer0(%x, %i, %g)
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}
