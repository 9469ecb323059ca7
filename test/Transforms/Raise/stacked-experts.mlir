// RUN: moe-opt %s -decompose-onnx -fold-weights -raise-moe='remarks=false' -canonicalize | FileCheck %s
// Experts side by side, [experts, B, S, ..]; the weights [B, S, experts] join them in
// a product whose left side holds the results.

// CHECK-LABEL: func.func @main
// CHECK-NOT: onnx.Einsum
// CHECK-NOT: onnx.MatMul
// CHECK: moe.experts @layer0
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<3x4x5xf32>
    moe.weight.bind @up %0 : tensor<3x4x5xf32>
    %1 = moe.weight.load "w.bin" at 240 : tensor<3x5x4xf32>
    moe.weight.bind @down %1 : tensor<3x5x4xf32>
  }
  func.func @main(%x: tensor<2x?x4xf32>, %p: tensor<2x?x3xf32>) -> tensor<2x?x4xf32> {
    %up = moe.weight.use @up : tensor<3x4x5xf32>
    %down = moe.weight.use @down : tensor<3x5x4xf32>
    %two = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %v, %i = onnx.TopK(%p, %two) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<2x?x3xf32>, tensor<1xi64>) -> (tensor<2x?x2xf32>, tensor<2x?x2xi64>)
    %shape = onnx.Shape(%p) {start = 0 : i64} : (tensor<2x?x3xf32>) -> tensor<3xi64>
    %zeros = onnx.ConstantOfShape(%shape) {value = dense<0.0> : tensor<1xf32>} : (tensor<3xi64>) -> tensor<2x?x3xf32>
    %w = onnx.ScatterElements(%zeros, %i, %v) {axis = -1 : i64, reduction = "none"}
        : (tensor<2x?x3xf32>, tensor<2x?x2xi64>, tensor<2x?x2xf32>) -> tensor<2x?x3xf32>
    %h = onnx.Einsum(%x, %up) {equation = "bsh,ehi->ebsi"} : (tensor<2x?x4xf32>, tensor<3x4x5xf32>) -> tensor<3x2x?x5xf32>
    %r = onnx.Relu(%h) : (tensor<3x2x?x5xf32>) -> tensor<3x2x?x5xf32>
    %o = onnx.Einsum(%r, %down) {equation = "ebsi,eih->ebsh"} : (tensor<3x2x?x5xf32>, tensor<3x5x4xf32>) -> tensor<3x2x?x4xf32>
    %y = onnx.Einsum(%o, %w) {equation = "ebsh,bse->bsh"} : (tensor<3x2x?x4xf32>, tensor<2x?x3xf32>) -> tensor<2x?x4xf32>
    return %y : tensor<2x?x4xf32>
  }
}
