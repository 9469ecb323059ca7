// RUN: moe-opt %s -raise-moe -split-input-file 2>&1 | FileCheck %s
// Experts that choose tokens, their results added up; a scatter that overwrites is no sum.

// CHECK: moe-raise: raised 2 experts that choose 3 tokens each, as @layer0
// CHECK-DAG: moe-raise: refused because the scatter does not add{{.*}}ScatterND
// CHECK: func.func @main
// CHECK: %[[IDS:.*]], %[[W:.*]] = moe.choose %arg1 {capacity = 3 : i64}
// CHECK: %[[SCATTERED:.*]] = onnx.ScatterElements({{.*}}) {axis = 1 : i64, reduction = "add"}
// CHECK: %[[DENSE:.*]] = onnx.Transpose(%[[SCATTERED]])
// CHECK: moe.experts @layer0(%arg0, %[[DENSE]]) {moe.router_kind = "expert choice"}
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<2x4x5xf32>
    moe.weight.bind @u %0 : tensor<2x4x5xf32>
    %1 = moe.weight.load "w.bin" at 160 : tensor<2x5x4xf32>
    moe.weight.bind @d %1 : tensor<2x5x4xf32>
  }
  func.func @main(%x: tensor<?x4xf32>, %p: tensor<?x2xf32>) -> tensor<?x4xf32> {
    %u = moe.weight.use @u : tensor<2x4x5xf32>
    %d = moe.weight.use @d : tensor<2x5x4xf32>
    %three = onnx.Constant {value = dense<3> : tensor<1xi64>} : () -> tensor<1xi64>
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %zero = onnx.Constant {value = dense<0.0> : tensor<f32>} : () -> tensor<f32>
    %pt = onnx.Transpose(%p) {perm = array<i64: 1, 0>} : (tensor<?x2xf32>) -> tensor<2x?xf32>
    %g, %i = onnx.TopK(%pt, %three) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<2x?xf32>, tensor<1xi64>) -> (tensor<2x3xf32>, tensor<2x3xi64>)
    %s = onnx.Gather(%x, %i) {axis = 0 : i64} : (tensor<?x4xf32>, tensor<2x3xi64>) -> tensor<2x3x4xf32>
    %h = onnx.MatMul(%s, %u) : (tensor<2x3x4xf32>, tensor<2x4x5xf32>) -> tensor<2x3x5xf32>
    %r = onnx.Relu(%h) : (tensor<2x3x5xf32>) -> tensor<2x3x5xf32>
    %e = onnx.MatMul(%r, %d) : (tensor<2x3x5xf32>, tensor<2x5x4xf32>) -> tensor<2x3x4xf32>
    %w = onnx.Unsqueeze(%g, %last) : (tensor<2x3xf32>, tensor<1xi64>) -> tensor<2x3x1xf32>
    %we = onnx.Mul(%e, %w) : (tensor<2x3x4xf32>, tensor<2x3x1xf32>) -> tensor<2x3x4xf32>
    %shape = onnx.Shape(%x) {start = 0 : i64} : (tensor<?x4xf32>) -> tensor<2xi64>
    %base = onnx.Expand(%zero, %shape) : (tensor<f32>, tensor<2xi64>) -> tensor<?x4xf32>
    %at = onnx.Unsqueeze(%i, %last) : (tensor<2x3xi64>, tensor<1xi64>) -> tensor<2x3x1xi64>
    %y = onnx.ScatterND(%base, %at, %we) {reduction = "add"}
        : (tensor<?x4xf32>, tensor<2x3x1xi64>, tensor<2x3x4xf32>) -> tensor<?x4xf32>
    return %y : tensor<?x4xf32>
  }
}

// -----

// CHECK: func.func @main
// CHECK-NOT: moe.experts
// CHECK: onnx.ScatterND
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<2x4x5xf32>
    moe.weight.bind @u %0 : tensor<2x4x5xf32>
    %1 = moe.weight.load "w.bin" at 160 : tensor<2x5x4xf32>
    moe.weight.bind @d %1 : tensor<2x5x4xf32>
  }
  func.func @main(%x: tensor<?x4xf32>, %p: tensor<?x2xf32>) -> tensor<?x4xf32> {
    %u = moe.weight.use @u : tensor<2x4x5xf32>
    %d = moe.weight.use @d : tensor<2x5x4xf32>
    %three = onnx.Constant {value = dense<3> : tensor<1xi64>} : () -> tensor<1xi64>
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %zero = onnx.Constant {value = dense<0.0> : tensor<f32>} : () -> tensor<f32>
    %pt = onnx.Transpose(%p) {perm = array<i64: 1, 0>} : (tensor<?x2xf32>) -> tensor<2x?xf32>
    %g, %i = onnx.TopK(%pt, %three) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<2x?xf32>, tensor<1xi64>) -> (tensor<2x3xf32>, tensor<2x3xi64>)
    %s = onnx.Gather(%x, %i) {axis = 0 : i64} : (tensor<?x4xf32>, tensor<2x3xi64>) -> tensor<2x3x4xf32>
    %h = onnx.MatMul(%s, %u) : (tensor<2x3x4xf32>, tensor<2x4x5xf32>) -> tensor<2x3x5xf32>
    %r = onnx.Relu(%h) : (tensor<2x3x5xf32>) -> tensor<2x3x5xf32>
    %e = onnx.MatMul(%r, %d) : (tensor<2x3x5xf32>, tensor<2x5x4xf32>) -> tensor<2x3x4xf32>
    %w = onnx.Unsqueeze(%g, %last) : (tensor<2x3xf32>, tensor<1xi64>) -> tensor<2x3x1xf32>
    %we = onnx.Mul(%e, %w) : (tensor<2x3x4xf32>, tensor<2x3x1xf32>) -> tensor<2x3x4xf32>
    %shape = onnx.Shape(%x) {start = 0 : i64} : (tensor<?x4xf32>) -> tensor<2xi64>
    %base = onnx.Expand(%zero, %shape) : (tensor<f32>, tensor<2xi64>) -> tensor<?x4xf32>
    %at = onnx.Unsqueeze(%i, %last) : (tensor<2x3xi64>, tensor<1xi64>) -> tensor<2x3x1xi64>
    %y = onnx.ScatterND(%base, %at, %we) {reduction = "none"}
        : (tensor<?x4xf32>, tensor<2x3x1xi64>, tensor<2x3x4xf32>) -> tensor<?x4xf32>
    return %y : tensor<?x4xf32>
  }
}
