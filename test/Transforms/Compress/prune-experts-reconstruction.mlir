// The expert goes without which the output stays nearest to the profile's.
// RUN: rm -rf %t && mkdir -p %t && %python %S/Inputs/layer.py %t
// RUN: moe-opt %s --prune-experts="profile=%t/p.moep folder=%t criterion=reconstruction drop=1" 2>&1 | FileCheck %s
// RUN: not moe-opt %s --prune-experts="profile=%t/p.moep folder=%t/none criterion=reconstruction drop=1" 2>&1 | FileCheck %s --check-prefix=FOLDER
// RUN: not moe-opt %s --prune-experts="profile=%t/p.moep folder=%t criterion=reconstruction drop=1 replace=zero" 2>&1 | FileCheck %s --check-prefix=ZERO
// RUN: not moe-opt %s --prune-experts="profile=%t/p.moep folder=%t criterion=reconstruction drop=1 per-label=true" 2>&1 | FileCheck %s --check-prefix=ZERO
// RUN: not moe-opt %s --prune-experts="profile=%t/p.moep folder=%t criterion=reconstruction drop=3" 2>&1 | FileCheck %s --check-prefix=MOST
// RUN: sed 's/(%x, %i, %w)/(%x, %j, %w)/' %s > %t/ids.mlir && not moe-opt %t/ids.mlir --prune-experts="profile=%t/p.moep folder=%t criterion=reconstruction drop=1" 2>&1 | FileCheck %s --check-prefix=IDS

// CHECK: remark: prune-experts: layer 'bank': 1 of 4 experts go (2); {{[0-9.]+}} % of reconstruction stays
// CHECK: moe.bank @bank experts(3)

// FOLDER: error: prune-experts: layer 'bank': weight "{{[a-z]+}}": {{.*}}none" does not exist
// ZERO: error: prune-experts: criterion = reconstruction lets the router choose anew, over all labels
// MOST: error: prune-experts: layer 'bank': cannot drop 3 of 4 experts; 2 may go
// IDS: error: prune-experts: layer 'bank': unsupported: its router is no moe.route

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
func.func @main(%x: tensor<?x4xf32>, %j: tensor<?x2xi32>) -> tensor<?x4xf32> {
  %r = moe.weight.use @router : tensor<4x4xf32>
  %z = onnx.MatMul(%x, %r) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
  %i, %w = moe.route(%z) router<score = softmax, k = 2, renorm = sum>
      : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %y = moe.experts @bank(%x, %i, %w)
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}
