// RUN: moe-opt %s -raise-moe='remarks=false' -split-input-file | FileCheck %s
// Soft MoE: only the experts of a batch of sequences are moved; of one sequence the slots are, too.

// CHECK: moe.bank @layer0 experts(2) hidden(4) inter(5)
// CHECK-LABEL: func.func @main(%arg0: tensor<?x?x4xf32>
// CHECK: %[[SLOTS:.*]] = onnx.MatMul({{.*}}) : (tensor<?x6x?xf32>, tensor<?x?x4xf32>) -> tensor<?x6x4xf32>
// CHECK: %[[ROWS:.*]] = onnx.Reshape(%[[SLOTS]],
// CHECK: dense<{{\[}}[0, 0, 0, 1, 1, 1]]> : tensor<1x6xi32>
// CHECK: %[[Y:.*]] = moe.experts @layer0(%[[ROWS]], %{{.*}}) {moe.router_kind = "soft slots"}
// CHECK: onnx.Reshape(%[[Y]], %{{.*}}) {{.*}} -> tensor<?x6x4xf32>
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<4x5xf32>
    moe.weight.bind @u0 %0 : tensor<4x5xf32>
    %1 = moe.weight.load "w.bin" at 80 : tensor<4x5xf32>
    moe.weight.bind @u1 %1 : tensor<4x5xf32>
    %2 = moe.weight.load "w.bin" at 160 : tensor<5x4xf32>
    moe.weight.bind @d0 %2 : tensor<5x4xf32>
    %3 = moe.weight.load "w.bin" at 240 : tensor<5x4xf32>
    moe.weight.bind @d1 %3 : tensor<5x4xf32>
  }
  func.func @main(%x: tensor<?x?x4xf32>, %z: tensor<?x?x6xf32>) -> tensor<?x?x4xf32> {
    %u0 = moe.weight.use @u0 : tensor<4x5xf32>
    %u1 = moe.weight.use @u1 : tensor<4x5xf32>
    %d0 = moe.weight.use @d0 : tensor<5x4xf32>
    %d1 = moe.weight.use @d1 : tensor<5x4xf32>
    %sizes = onnx.Constant {value = dense<[3, 3]> : tensor<2xi64>} : () -> tensor<2xi64>
    %t = onnx.Softmax(%z) {axis = 1 : i64} : (tensor<?x?x6xf32>) -> tensor<?x?x6xf32>
    %tt = onnx.Transpose(%t) {perm = array<i64: 0, 2, 1>} : (tensor<?x?x6xf32>) -> tensor<?x6x?xf32>
    %s = onnx.MatMul(%tt, %x) : (tensor<?x6x?xf32>, tensor<?x?x4xf32>) -> tensor<?x6x4xf32>
    %s0, %s1 = onnx.Split(%s, %sizes) {axis = 1 : i64}
        : (tensor<?x6x4xf32>, tensor<2xi64>) -> (tensor<?x3x4xf32>, tensor<?x3x4xf32>)
    %h0 = onnx.MatMul(%s0, %u0) : (tensor<?x3x4xf32>, tensor<4x5xf32>) -> tensor<?x3x5xf32>
    %r0 = onnx.Relu(%h0) : (tensor<?x3x5xf32>) -> tensor<?x3x5xf32>
    %e0 = onnx.MatMul(%r0, %d0) : (tensor<?x3x5xf32>, tensor<5x4xf32>) -> tensor<?x3x4xf32>
    %h1 = onnx.MatMul(%s1, %u1) : (tensor<?x3x4xf32>, tensor<4x5xf32>) -> tensor<?x3x5xf32>
    %r1 = onnx.Relu(%h1) : (tensor<?x3x5xf32>) -> tensor<?x3x5xf32>
    %e1 = onnx.MatMul(%r1, %d1) : (tensor<?x3x5xf32>, tensor<5x4xf32>) -> tensor<?x3x4xf32>
    %c = onnx.Concat(%e0, %e1) {axis = 1 : i64} : (tensor<?x3x4xf32>, tensor<?x3x4xf32>) -> tensor<?x6x4xf32>
    %p = onnx.Softmax(%z) {axis = 2 : i64} : (tensor<?x?x6xf32>) -> tensor<?x?x6xf32>
    %y = onnx.MatMul(%p, %c) : (tensor<?x?x6xf32>, tensor<?x6x4xf32>) -> tensor<?x?x4xf32>
    return %y : tensor<?x?x4xf32>
  }
}

// -----

// A gate's bias alone gets one of zeros beside it.
// CHECK: moe.weight.literal {{.*}}dense<0.000000e+00> : tensor<2x5xf32>
// CHECK: moe.bank @layer0 experts(2) hidden(4) inter(5) {{.*}} gate_bias(@layer0.gate_bias) up_bias(@layer0.up_bias)
// CHECK-LABEL: func.func @main(%arg0: tensor<?x4xf32>
// CHECK: %[[SLOTS:.*]] = moe.soft_dispatch %arg0, %arg1
// CHECK: %[[Y:.*]] = moe.experts @layer0(%[[SLOTS]],
// CHECK: moe.soft_combine %[[Y]], %arg1
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<2x4x5xf32>
    moe.weight.bind @u %0 : tensor<2x4x5xf32>
    %1 = moe.weight.load "w.bin" at 160 : tensor<2x5x4xf32>
    moe.weight.bind @d %1 : tensor<2x5x4xf32>
    %2 = moe.weight.load "w.bin" at 320 : tensor<2x4x5xf32>
    moe.weight.bind @g %2 : tensor<2x4x5xf32>
    %3 = moe.weight.load "w.bin" at 480 : tensor<2x1x5xf32>
    moe.weight.bind @b %3 : tensor<2x1x5xf32>
  }
  func.func @main(%x: tensor<?x4xf32>, %z: tensor<?x2xf32>) -> tensor<?x4xf32> {
    %u = moe.weight.use @u : tensor<2x4x5xf32>
    %d = moe.weight.use @d : tensor<2x5x4xf32>
    %g = moe.weight.use @g : tensor<2x4x5xf32>
    %b = moe.weight.use @b : tensor<2x1x5xf32>
    %axis = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %t = onnx.Softmax(%z) {axis = 0 : i64} : (tensor<?x2xf32>) -> tensor<?x2xf32>
    %tt = onnx.Transpose(%t) {perm = array<i64: 1, 0>} : (tensor<?x2xf32>) -> tensor<2x?xf32>
    %s = onnx.MatMul(%tt, %x) : (tensor<2x?xf32>, tensor<?x4xf32>) -> tensor<2x4xf32>
    %s3 = onnx.Unsqueeze(%s, %axis) : (tensor<2x4xf32>, tensor<1xi64>) -> tensor<2x1x4xf32>
    %h = onnx.MatMul(%s3, %u) : (tensor<2x1x4xf32>, tensor<2x4x5xf32>) -> tensor<2x1x5xf32>
    %gx = onnx.MatMul(%s3, %g) : (tensor<2x1x4xf32>, tensor<2x4x5xf32>) -> tensor<2x1x5xf32>
    %gb = onnx.Add(%gx, %b) : (tensor<2x1x5xf32>, tensor<2x1x5xf32>) -> tensor<2x1x5xf32>
    %r = onnx.Relu(%gb) : (tensor<2x1x5xf32>) -> tensor<2x1x5xf32>
    %rh = onnx.Mul(%r, %h) : (tensor<2x1x5xf32>, tensor<2x1x5xf32>) -> tensor<2x1x5xf32>
    %e = onnx.MatMul(%rh, %d) : (tensor<2x1x5xf32>, tensor<2x5x4xf32>) -> tensor<2x1x4xf32>
    %e2 = onnx.Squeeze(%e, %axis) : (tensor<2x1x4xf32>, tensor<1xi64>) -> tensor<2x4xf32>
    %p = onnx.Softmax(%z) {axis = 1 : i64} : (tensor<?x2xf32>) -> tensor<?x2xf32>
    %y = onnx.MatMul(%p, %e2) : (tensor<?x2xf32>, tensor<2x4xf32>) -> tensor<?x4xf32>
    return %y : tensor<?x4xf32>
  }
}
