// RUN: moe-opt %s -split-input-file -fold-weights -raise-moe -verify-diagnostics | FileCheck %s
// A loop that adds one expert in each iteration; an If around an expert that
// nobody may have chosen.

// CHECK: moe.bank @layer0 experts(3) hidden(4) inter(5) body(#moe.ffn<gated = false, activation = "relu">)
// CHECK: func.func @main
// CHECK-NOT: onnx.Loop
// CHECK: moe.experts @layer0
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<3x5x4xf32>
    moe.weight.bind @up %0 : tensor<3x5x4xf32>
    %1 = moe.weight.load "w.bin" at 240 : tensor<3x4x5xf32>
    moe.weight.bind @down %1 : tensor<3x4x5xf32>
  }
  func.func @main(%x: tensor<?x4xf32>, %p: tensor<?x3xf32>) -> tensor<?x4xf32> {
    %up = moe.weight.use @up : tensor<3x5x4xf32>
    %down = moe.weight.use @down : tensor<3x4x5xf32>
    %two = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %n = onnx.Constant {value = dense<3> : tensor<i64>} : () -> tensor<i64>
    %true = onnx.Constant {value = dense<true> : tensor<i1>} : () -> tensor<i1>
    // expected-remark @below {{raised 3 experts, top 2, as @layer0}}
    %v, %i = onnx.TopK(%p, %two) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x3xf32>, tensor<1xi64>) -> (tensor<?x2xf32>, tensor<?x2xi64>)
    %shape = onnx.Shape(%x) {start = 0 : i64} : (tensor<?x4xf32>) -> tensor<2xi64>
    %zeros = onnx.ConstantOfShape(%shape) {value = dense<0.0> : tensor<1xf32>} : (tensor<2xi64>) -> tensor<?x4xf32>
    %y = onnx.Loop(%n, %true, %zeros) ({
    ^bb0(%e: tensor<i64>, %go: tensor<i1>, %sum: tensor<?x4xf32>):
      %hit = onnx.Equal(%i, %e) : (tensor<?x2xi64>, tensor<i64>) -> tensor<?x2xi1>
      %mask = onnx.Cast(%hit) {to = 1 : i64} : (tensor<?x2xi1>) -> tensor<?x2xf32>
      %mw = onnx.Mul(%v, %mask) : (tensor<?x2xf32>, tensor<?x2xf32>) -> tensor<?x2xf32>
      %w = onnx.ReduceSum(%mw, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
          : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
      %a = onnx.Gather(%up, %e) {axis = 0 : i64} : (tensor<3x5x4xf32>, tensor<i64>) -> tensor<5x4xf32>
      %at = onnx.Transpose(%a) {perm = array<i64: 1, 0>} : (tensor<5x4xf32>) -> tensor<4x5xf32>
      %h = onnx.MatMul(%x, %at) : (tensor<?x4xf32>, tensor<4x5xf32>) -> tensor<?x5xf32>
      %r = onnx.Relu(%h) : (tensor<?x5xf32>) -> tensor<?x5xf32>
      %b = onnx.Gather(%down, %e) {axis = 0 : i64} : (tensor<3x4x5xf32>, tensor<i64>) -> tensor<4x5xf32>
      %bt = onnx.Transpose(%b) {perm = array<i64: 1, 0>} : (tensor<4x5xf32>) -> tensor<5x4xf32>
      %o = onnx.MatMul(%r, %bt) : (tensor<?x5xf32>, tensor<5x4xf32>) -> tensor<?x4xf32>
      %term = onnx.Mul(%o, %w) : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
      %next = onnx.Add(%sum, %term) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
      onnx.yield(%go, %next) : (tensor<i1>, tensor<?x4xf32>) -> ()
    }) : (tensor<i64>, tensor<i1>, tensor<?x4xf32>) -> tensor<?x4xf32>
    return %y : tensor<?x4xf32>
  }
}

// -----

// The trip count leaves the last expert out.
// CHECK: onnx.Loop
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<3x4x4xf32>
    moe.weight.bind @w %0 : tensor<3x4x4xf32>
  }
  func.func @main(%x: tensor<?x4xf32>, %p: tensor<?x3xf32>) -> tensor<?x4xf32> {
    %m = moe.weight.use @w : tensor<3x4x4xf32>
    %one = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %n = onnx.Constant {value = dense<2> : tensor<i64>} : () -> tensor<i64>
    %none = onnx.none : () -> none
    // expected-remark @below {{expert(s) 2 of 3 missing}}
    %v, %i = onnx.TopK(%p, %one) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x3xf32>, tensor<1xi64>) -> (tensor<?x1xf32>, tensor<?x1xi64>)
    %shape = onnx.Shape(%x) {start = 0 : i64} : (tensor<?x4xf32>) -> tensor<2xi64>
    %zeros = onnx.ConstantOfShape(%shape) {value = dense<0.0> : tensor<1xf32>} : (tensor<2xi64>) -> tensor<?x4xf32>
    %y = onnx.Loop(%n, %none, %zeros) ({
    ^bb0(%e: tensor<i64>, %go: tensor<i1>, %sum: tensor<?x4xf32>):
      %hit = onnx.Equal(%i, %e) : (tensor<?x1xi64>, tensor<i64>) -> tensor<?x1xi1>
      %mask = onnx.Cast(%hit) {to = 1 : i64} : (tensor<?x1xi1>) -> tensor<?x1xf32>
      %mw = onnx.Mul(%v, %mask) : (tensor<?x1xf32>, tensor<?x1xf32>) -> tensor<?x1xf32>
      %w = onnx.ReduceSum(%mw, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
          : (tensor<?x1xf32>, tensor<1xi64>) -> tensor<?x1xf32>
      %a = onnx.Gather(%m, %e) {axis = 0 : i64} : (tensor<3x4x4xf32>, tensor<i64>) -> tensor<4x4xf32>
      %h = onnx.MatMul(%x, %a) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
      %r = onnx.Relu(%h) : (tensor<?x4xf32>) -> tensor<?x4xf32>
      %o = onnx.MatMul(%r, %a) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
      %term = onnx.Mul(%o, %w) : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
      %next = onnx.Add(%sum, %term) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
      onnx.yield(%go, %next) : (tensor<i1>, tensor<?x4xf32>) -> ()
    }) : (tensor<i64>, none, tensor<?x4xf32>) -> tensor<?x4xf32>
    return %y : tensor<?x4xf32>
  }
}
