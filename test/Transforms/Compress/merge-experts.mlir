// Slabs of groups as weights of the file; the ids stay, or the first members' columns of the router.
// RUN: rm -rf %t && mkdir -p %t && %python %S/Inputs/merge.py %t
// RUN: moe-opt %s --merge-experts="groups=bank=3,0 weights=uniform align=none router=alias" 2>&1 | FileCheck %s --check-prefix=ALIAS
// RUN: moe-opt %s --merge-experts="groups=bank=3,0 weights=uniform folder=%t router=drop" 2>&1 | FileCheck %s --check-prefix=DROP
// RUN: moe-opt %s --merge-experts="groups=bank=3,0 weights=uniform align=none router=alias combine=subspace rank=0.5 folder=%t" 2>&1 | FileCheck %s --check-prefix=BASIS
// RUN: moe-opt %s --merge-experts="profile=%t/p.moep folder=%t budget=2 preset=m-smoe max-group=2" 2>&1 | FileCheck %s --check-prefix=FOUND
// RUN: moe-opt %s --merge-experts="profile=%t/p.moep folder=%t drop=2 preset=m-smoe weights=saliency criterion=soft max-group=2" 2>&1 | FileCheck %s --check-prefix=FOUND
// RUN: not moe-opt %s --merge-experts="profile=%t/p.moep drop=1 preset=m-smoe weights=saliency" 2>&1 | FileCheck %s --check-prefix=SCORES
// RUN: not moe-opt %s --merge-experts="profile=%t/p.moep drop=4 preset=m-smoe" 2>&1 | FileCheck %s --check-prefix=ALL
// RUN: not moe-opt %s --merge-experts="profile=%t/p.moep drop=3 preset=m-smoe router=drop" 2>&1 | FileCheck %s --check-prefix=SLOTS
// RUN: not moe-opt %s --merge-experts="profile=%t/p.moep drop=3 preset=m-smoe max-group=2" 2>&1 | FileCheck %s --check-prefix=ROOM
// RUN: not moe-opt %s --merge-experts="profile=%t/p.moep drop=1 preset=hc-smoe" 2>&1 | FileCheck %s --check-prefix=TIER

// ALIAS: remark: {{.*}}merge-experts: layer 'bank': 4 slabs become 3: (3, 0); router alias
// ALIAS: %[[A:.*]] = moe.weight.gather %[[UP:.*]] axis 0 [3] : tensor<4x3x4xf16> -> tensor<1x3x4xf16>
// ALIAS: %[[B:.*]] = moe.weight.gather %[[UP]] axis 0 [0] : tensor<4x3x4xf16> -> tensor<1x3x4xf16>
// ALIAS: moe.weight.combine %[[A]], %[[B]] [5.000000e-01, 5.000000e-01] : (tensor<1x3x4xf16>
// ALIAS: moe.weight.concat {{.*}} axis 0 : (tensor<2x3x4xf16>, tensor<1x3x4xf16>) -> tensor<3x3x4xf16>
// ALIAS: moe.weight.cast {{.*}} : tensor<3x3x4xf16> -> tensor<3x3x4xf32>
// ALIAS: moe.bank @bank experts(4) {{.*}} slabs([2, 0, 1, 2])
// ALIAS: moe.route{{.*}} : (tensor<?x4xf32>)

// Neuron 2 of expert 3 is neuron 0 of expert 0, and so on.
// DROP: merge-experts: layer 'bank': 4 slabs become 3: (3, 0); router drop; 3 of 3 neurons moved
// DROP: moe.weight.gather {{.*}} axis 1 [1, 2, 0] : tensor<1x3x4xf16>
// DROP: moe.weight.gather {{.*}} axis 2 [1, 2, 0] : tensor<1x4x3xf16>
// DROP: moe.bank @bank experts(3)
// DROP-NOT: slabs
// DROP: moe.route{{.*}} : (tensor<?x3xf32>)

// BASIS: moe.weight.literal dense_resource<up.merged> : tensor<1x3x4xf16>
// BASIS: moe.weight.literal dense_resource<down.merged> : tensor<1x4x3xf16>

// FOUND: merge-experts: layer 'bank': 4 slabs become 2: ({{[0-3], [0-3]}}), ({{[0-3], [0-3]}}); router alias

// ALL: error: merge-experts: layer 'bank': cannot drop 4 of 4 experts; 3 may go, as 1 have to stay
// SLOTS: error: merge-experts: layer 'bank': cannot drop 3 of 4 experts; 2 may go, as 2 have to stay
// ROOM: error: merge-experts: layer 'bank': 4 experts do not fit into 1 groups of at most 2; raise max-group
// SCORES: error: merge-experts: layer 'bank': the profile has no gated_norm_sum; profile with --tier 1
// TIER: error: merge-experts: layer 'bank': the profile has no all_output_sum; profile with --tier 2

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4x4xf16>
  %1 = moe.weight.cast %0 : tensor<4x4xf16> -> tensor<4x4xf32>
  moe.weight.bind @router %1 : tensor<4x4xf32>
  %2 = moe.weight.load "w.bin" at 32 : tensor<4x3x4xf16>
  %3 = moe.weight.cast %2 : tensor<4x3x4xf16> -> tensor<4x3x4xf32>
  moe.weight.bind @up %3 : tensor<4x3x4xf32>
  %4 = moe.weight.load "w.bin" at 128 : tensor<4x4x3xf16>
  %5 = moe.weight.cast %4 : tensor<4x4x3xf16> -> tensor<4x4x3xf32>
  moe.weight.bind @down %5 : tensor<4x4x3xf32>
}
moe.bank @bank experts(4) hidden(4) inter(3)
    body(#moe.ffn<gated = false, activation = "relu">) up(@up) down(@down)
func.func @main(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %r = moe.weight.use @router : tensor<4x4xf32>
  %z = onnx.MatMul(%x, %r) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
  %i, %w = moe.route(%z) router<score = softmax, k = 2, renorm = sum>
      : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %y = moe.experts @bank(%x, %i, %w)
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}
