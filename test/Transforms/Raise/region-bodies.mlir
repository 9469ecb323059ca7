// RUN: moe-opt %s -split-input-file -raise-moe 2>&1 | FileCheck %s
// Experts that are no feed-forward formula are regions of their bank.

// Two kinds: the middle expert has a layer more. What differs between experts
// of a kind is a parameter, the clamp is part of the formula.
// CHECK: moe.bank @layer0 experts(3) hidden(4) inter(0) parameters({{\[}}[@layer0.p0], []]) kinds([0, 1, 0]) {
// CHECK-NEXT: ^bb0(%[[X:.*]]: tensor<?x4xf32>, %[[W:.*]]: tensor<4x2xf32>):
// CHECK: %[[H:.*]] = onnx.MatMul(%[[X]], %[[W]])
// CHECK: onnx.Clip(%[[H]]
// CHECK: }, {
// CHECK: func.func @main
// CHECK: moe.experts @layer0(%{{.*}}, %{{.*}}){{.*}} : (tensor<?x4xf32>, tensor<?x3xf32>) -> tensor<?x2xf32>
// CHECK-NOT: onnx.Clip
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<4x2xf32>
    moe.weight.bind @a %w0 : tensor<4x2xf32>
    %w1 = moe.weight.load "w.bin" at 32 : tensor<4x3xf32>
    moe.weight.bind @b %w1 : tensor<4x3xf32>
    %w2 = moe.weight.load "w.bin" at 80 : tensor<3x2xf32>
    moe.weight.bind @c %w2 : tensor<3x2xf32>
    %w3 = moe.weight.load "w.bin" at 104 : tensor<4x2xf32>
    moe.weight.bind @d %w3 : tensor<4x2xf32>
  }
  func.func @main(%x: tensor<?x4xf32>, %p: tensor<?x3xf32>) -> tensor<?x2xf32> {
    %none = onnx.none : () -> none
    %most = onnx.Constant {value = dense<1.0> : tensor<f32>} : () -> tensor<f32>
    %i0 = onnx.Constant {value = dense<0> : tensor<1xi64>} : () -> tensor<1xi64>
    %i1 = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %i2 = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %i3 = onnx.Constant {value = dense<3> : tensor<1xi64>} : () -> tensor<1xi64>
    %a = moe.weight.use @a : tensor<4x2xf32>
    %b = moe.weight.use @b : tensor<4x3xf32>
    %c = moe.weight.use @c : tensor<3x2xf32>
    %d = moe.weight.use @d : tensor<4x2xf32>
    %h0 = onnx.MatMul(%x, %a) : (tensor<?x4xf32>, tensor<4x2xf32>) -> tensor<?x2xf32>
    %y0 = onnx.Clip(%h0, %none, %most) : (tensor<?x2xf32>, none, tensor<f32>) -> tensor<?x2xf32>
    %h1 = onnx.MatMul(%x, %b) : (tensor<?x4xf32>, tensor<4x3xf32>) -> tensor<?x3xf32>
    %r1 = onnx.Relu(%h1) : (tensor<?x3xf32>) -> tensor<?x3xf32>
    %y1 = onnx.MatMul(%r1, %c) : (tensor<?x3xf32>, tensor<3x2xf32>) -> tensor<?x2xf32>
    %h2 = onnx.MatMul(%x, %d) : (tensor<?x4xf32>, tensor<4x2xf32>) -> tensor<?x2xf32>
    %y2 = onnx.Clip(%h2, %none, %most) : (tensor<?x2xf32>, none, tensor<f32>) -> tensor<?x2xf32>
    %p0 = onnx.Slice(%p, %i0, %i1, %i1, %i1) : (tensor<?x3xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x1xf32>
    %p1 = onnx.Slice(%p, %i1, %i2, %i1, %i1) : (tensor<?x3xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x1xf32>
    %p2 = onnx.Slice(%p, %i2, %i3, %i1, %i1) : (tensor<?x3xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x1xf32>
    %t0 = onnx.Mul(%y0, %p0) : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    %t1 = onnx.Mul(%y1, %p1) : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    %t2 = onnx.Mul(%y2, %p2) : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    %s = onnx.Add(%t0, %t1) : (tensor<?x2xf32>, tensor<?x2xf32>) -> tensor<?x2xf32>
    %y = onnx.Add(%s, %t2) : (tensor<?x2xf32>, tensor<?x2xf32>) -> tensor<?x2xf32>
    return %y : tensor<?x2xf32>
  }
}

// -----

// A norm with parameters in front of one expert is a part of it; another gives
// the tokens back.
// CHECK: moe.bank @layer0 experts(3) hidden(4) inter(0) {{.*}}kinds([0, 1, 2]) {
// CHECK: func.func @main
// CHECK: moe.experts @layer0(%{{.*}}, %{{.*}}){{.*}} : (tensor<?x4xf32>, tensor<?x3xf32>) -> tensor<?x4xf32>
// CHECK-NOT: onnx.Mul
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<4x4xf32>
    moe.weight.bind @a %w0 : tensor<4x4xf32>
    %w1 = moe.weight.load "w.bin" at 64 : tensor<4x4xf32>
    moe.weight.bind @b %w1 : tensor<4x4xf32>
    %w2 = moe.weight.load "w.bin" at 128 : tensor<4xf32>
    moe.weight.bind @c %w2 : tensor<4xf32>
  }
  func.func @main(%x: tensor<?x4xf32>, %p: tensor<?x3xf32>) -> tensor<?x4xf32> {
    %i0 = onnx.Constant {value = dense<0> : tensor<1xi64>} : () -> tensor<1xi64>
    %i1 = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %i2 = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %i3 = onnx.Constant {value = dense<3> : tensor<1xi64>} : () -> tensor<1xi64>
    %a = moe.weight.use @a : tensor<4x4xf32>
    %b = moe.weight.use @b : tensor<4x4xf32>
    %c = moe.weight.use @c : tensor<4xf32>
    %y0 = onnx.MatMul(%x, %a) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
    %m1 = onnx.ReduceMean(%x, %i1) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64} : (tensor<?x4xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %d1 = onnx.Sub(%x, %m1) : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
    %n1 = onnx.Add(%d1, %c) : (tensor<?x4xf32>, tensor<4xf32>) -> tensor<?x4xf32>
    %y1 = onnx.MatMul(%n1, %b) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
    %p0 = onnx.Slice(%p, %i0, %i1, %i1, %i1) : (tensor<?x3xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x1xf32>
    %p1 = onnx.Slice(%p, %i1, %i2, %i1, %i1) : (tensor<?x3xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x1xf32>
    %p2 = onnx.Slice(%p, %i2, %i3, %i1, %i1) : (tensor<?x3xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<?x1xf32>
    %t0 = onnx.Mul(%y0, %p0) : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
    %t1 = onnx.Mul(%y1, %p1) : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
    %t2 = onnx.Mul(%x, %p2) : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
    %s = onnx.Add(%t0, %t1) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %y = onnx.Add(%s, %t2) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    return %y : tensor<?x4xf32>
  }
}
