// Experts dropped by a profile: the router's columns, its bias and the slabs go.
// RUN: %python %S/Inputs/write_profile.py %s %t.moep
// RUN: moe-opt %s --prune-experts="profile=%t.moep drop=2" 2>%t.said | FileCheck %s
// RUN: FileCheck %s --check-prefix=SAID --input-file=%t.said
// RUN: moe-opt %s --prune-experts="profile=%t.moep criterion=frequency budget=3,1" 2>&1 | FileCheck %s --check-prefix=LIST
// RUN: moe-opt %s --prune-experts="profile=%t.moep keep=3 criterion=soft budget=global" 2>&1 | FileCheck %s --check-prefix=GLOBAL
// RUN: moe-opt %s --prune-experts="profile=%t.moep drop=2 replace=zero" 2>/dev/null | FileCheck %s --check-prefix=ZERO
// RUN: moe-opt %s --prune-experts="profile=%t.moep drop=2 replace=constant" 2>/dev/null | FileCheck %s --check-prefix=CONSTANT
// RUN: moe-opt %s --prune-experts="profile=%t.moep drop=2 replace=mask" 2>/dev/null | FileCheck %s --check-prefix=MASK
// RUN: moe-opt %s --prune-experts="profile=%t.moep drop=1 labels=a:1 criterion=frequency" 2>&1 | FileCheck %s --check-prefix=LABEL
// RUN: moe-opt %s --protect-experts="profile=%t.moep percentile=80 share=0.5 depth=1" --prune-experts="profile=%t.moep drop=2" 2>&1 | FileCheck %s --check-prefix=GUARD

// Expert 3 of the first layer was never chosen, expert 1 has the lowest mean of g|f|.
// SAID: prune-experts: layer 'first': 2 of 5 experts go (1, 3); 85.7 % of reap stays
// SAID: prune-experts: layer 'second': 2 of 5 experts go (0, 4)

// The matrix is cut in front of the cast, where it still has the file's type.
// CHECK: %[[W:.*]] = moe.weight.gather %{{.*}} axis 1 [0, 2, 4] : tensor<4x5xf16> -> tensor<4x3xf16>
// CHECK: moe.weight.cast %[[W]]
// CHECK: moe.weight.gather %{{.*}} axis 0 [0, 2, 4] : tensor<5xf32> -> tensor<3xf32>
// CHECK: moe.weight.gather %{{.*}} axis 0 [0, 2, 4] : tensor<5x3x4xf16> -> tensor<3x3x4xf16>
// CHECK: moe.bank @first experts(3) hidden(4) inter(3)
// CHECK-NOT: slabs
// CHECK-SAME: attributes {moe.origin = array<i64: 0, 2, 4>,
// CHECK: moe.route(%{{.*}}, %{{.*}}) router<score = sigmoid, k = 2, renorm = sum> : (tensor<?x3xf32>, tensor<3xf32>)
// CHECK: onnx.Softmax(%{{.*}}) {{.*}} : (tensor<?x3xf32>) -> tensor<?x3xf32>
// CHECK: moe.select {{.*}} : (tensor<?x3xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
// Who reads the ids gets the old numbers.
// CHECK: %[[TABLE:.*]] = onnx.Constant {value = dense<[1, 2, 3, -1]> : tensor<4xi64>}
// CHECK: onnx.Gather

// LIST: layer 'first': 3 of 5 experts go (2, 3, 4)
// LIST: layer 'second': 1 of 5 experts go (4)

// GLOBAL: layer 'first': 1 of 5 experts go (3)
// GLOBAL: layer 'second': 3 of 5 experts go (0, 1, 4)

// ZERO: moe.bank @first experts(5) {{.*}} slabs([0, -1, 1, -1, 2]) storage(["dense", "zero", "dense", "zero", "dense"])
// CONSTANT: moe.weight.literal dense_resource<first.constants> : tensor<2x4xf16>
// CONSTANT: moe.bank @first {{.*}} storage(["dense", "constant", "dense", "constant", "dense"]) constants(@first.constants)

// MASK: moe.bank @first experts(5) {{.*}} storage(["dense", "zero", "dense", "zero", "dense"])
// MASK: dense<[0.000000e+00, 0xFF800000, 0.000000e+00, 0xFF800000, 0.000000e+00]>
// MASK: moe.route{{.*}} : (tensor<?x5xf32>, tensor<5xf32>)

// LABEL: layer 'first': 1 of 5 experts go (3)

// Expert 0 of the second layer has the largest output.
// GUARD: protect-experts: layer 'first': expert 4 is a super expert, with outputs up to 60.000
// GUARD: protect-experts: layer 'second': expert 0 is a super expert, with outputs up to 90.000
// GUARD: layer 'second': 2 of 5 experts go (1, 4)
// GUARD: moe.bank @second {{.*}} attributes {moe.origin = array<i64: 0, 2, 3>, moe.protected = array<i64: 0>

// LABELS: a b
// MEASURED: first 2 4 tokens [20, 20]
// MEASURED: first 2 4 count [[10, 0, 6, 0, 4], [0, 20, 4, 0, 2]]
// MEASURED: first 2 4 gate_sum [[5, 0, 3, 0, 2], [0, 9, 2, 0, 1]]
// MEASURED: first 2 4 gated_norm_sum [[50, 0, 25, 0, 10], [0, 40, 15, 0, 8]]
// MEASURED: first 2 4 output_max [[9, 0, 8, 0, 60], [0, 7, 8, 0, 9]]
// MEASURED: first 2 4 output_sum [[[1,2,3,4],[0,0,0,0],[1,1,1,1],[0,0,0,0],[4,4,4,4]],[[0,0,0,0],[20,40,60,80],[1,1,1,1],[0,0,0,0],[4,4,4,4]]]
// MEASURED: second 2 4 tokens [20, 20]
// MEASURED: second 2 4 count [[10, 10, 10, 10, 0], [4, 5, 10, 20, 1]]
// MEASURED: second 2 4 gate_sum [[1, 2, 4, 8, 0.5], [0, 0, 4, 8, 0]]
// MEASURED: second 2 4 gated_norm_sum [[1, 9, 30, 40, 0.05], [0, 0, 4, 8, 0]]
// MEASURED: second 2 4 output_max [[90, 9, 9, 9, 9], [9, 9, 9, 9, 9]]
// MEASURED: second 2 4 output_sum [[[1,2,3,4],[0,0,0,0],[1,1,1,1],[0,0,0,0],[4,4,4,4]],[[0,0,0,0],[20,40,60,80],[1,1,1,1],[0,0,0,0],[4,4,4,4]]]

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4x5xf16>
  %1 = moe.weight.cast %0 : tensor<4x5xf16> -> tensor<4x5xf32>
  moe.weight.bind @router %1 : tensor<4x5xf32>
  %2 = moe.weight.load "w.bin" at 40 : tensor<5xf32>
  moe.weight.bind @bias %2 : tensor<5xf32>
  %3 = moe.weight.load "w.bin" at 60 : tensor<5x3x4xf16>
  %4 = moe.weight.cast %3 : tensor<5x3x4xf16> -> tensor<5x3x4xf32>
  moe.weight.bind @up %4 : tensor<5x3x4xf32>
  %5 = moe.weight.load "w.bin" at 180 : tensor<5x4x3xf16>
  %6 = moe.weight.cast %5 : tensor<5x4x3xf16> -> tensor<5x4x3xf32>
  moe.weight.bind @down %6 : tensor<5x4x3xf32>
}
moe.bank @first experts(5) hidden(4) inter(3) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@down)
moe.bank @second experts(5) hidden(4) inter(3) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@down)
func.func @main(%x: tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<?x2xi32>) {
  %w = moe.weight.use @router : tensor<4x5xf32>
  %b = moe.weight.use @bias : tensor<5xf32>
  %z = onnx.MatMul(%x, %w) : (tensor<?x4xf32>, tensor<4x5xf32>) -> tensor<?x5xf32>
  %i, %g = moe.route(%z, %b) router<score = sigmoid, k = 2, renorm = sum>
      : (tensor<?x5xf32>, tensor<5xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %y = moe.experts @first(%x, %i, %g)
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x4xf32>
  %z2 = onnx.MatMul(%y, %w) : (tensor<?x4xf32>, tensor<4x5xf32>) -> tensor<?x5xf32>
  %p2 = onnx.Softmax(%z2) {axis = -1 : i64} : (tensor<?x5xf32>) -> tensor<?x5xf32>
  %i2, %g2 = moe.select %p2 {k = 2 : i64} : (tensor<?x5xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %y2 = moe.experts @second(%y, %i2, %g2)
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x4xf32>
  return %y2, %i2 : tensor<?x4xf32>, tensor<?x2xi32>
}
