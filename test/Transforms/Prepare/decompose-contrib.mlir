// RUN: moe-opt %s -split-input-file -decompose-contrib | FileCheck %s

// CHECK: onnx.ReduceMean
// CHECK: onnx.Sqrt
// CHECK-NOT: onnx.custom
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8xf32>
    moe.weight.bind @scale %w0 : tensor<8xf32>
  }
  func.func @main(%x: tensor<?x?x8xf32>) -> tensor<?x?x8xf32> {
    %scale = moe.weight.use @scale : tensor<8xf32>
    %v0 = onnx.custom(%x, %scale) {attributes = {epsilon = 1.000000e-05 : f32}, domain = "", op_type = "SimplifiedLayerNormalization"}
        : (tensor<?x?x8xf32>, tensor<8xf32>) -> tensor<?x?x8xf32>
    return %v0 : tensor<?x?x8xf32>
  }
}

// -----

// The sum is a result of its own.
// 
// CHECK: %[[S:.*]] = onnx.Add(%arg0, %arg1)
// CHECK: onnx.Sqrt
// CHECK-NOT: onnx.custom
// CHECK: return %{{.*}}, %[[S]]
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8xf32>
    moe.weight.bind @scale %w0 : tensor<8xf32>
  }
  func.func @main(%x: tensor<?x?x8xf32>, %y: tensor<?x?x8xf32>) -> (tensor<?x?x8xf32>, tensor<?x?x8xf32>) {
    %scale = moe.weight.use @scale : tensor<8xf32>
    %v0, %v1, %v2, %v3 = onnx.custom(%x, %y, %scale) {attributes = {epsilon = 1.000000e-05 : f32}, domain = "com.microsoft", op_type = "SkipSimplifiedLayerNormalization"}
        : (tensor<?x?x8xf32>, tensor<?x?x8xf32>, tensor<8xf32>) -> (tensor<?x?x8xf32>, none, none, tensor<?x?x8xf32>)
    return %v0, %v3 : tensor<?x?x8xf32>, tensor<?x?x8xf32>
  }
}

// -----

// CHECK: onnx.Gather
// CHECK: onnx.Slice
// CHECK-NOT: onnx.custom
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<32x4xf32>
    moe.weight.bind @cos %w0 : tensor<32x4xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<32x4xf32>
    moe.weight.bind @sin %w1 : tensor<32x4xf32>
  }
  func.func @main(%x: tensor<?x?x16xf32>, %p: tensor<?x?xi64>) -> tensor<?x?x16xf32> {
    %cos = moe.weight.use @cos : tensor<32x4xf32>
    %sin = moe.weight.use @sin : tensor<32x4xf32>
    %v0 = onnx.custom(%x, %p, %cos, %sin) {attributes = {num_heads = 2 : i64}, domain = "com.microsoft", op_type = "RotaryEmbedding"}
        : (tensor<?x?x16xf32>, tensor<?x?xi64>, tensor<32x4xf32>, tensor<32x4xf32>) -> tensor<?x?x16xf32>
    return %v0 : tensor<?x?x16xf32>
  }
}

// -----

// CHECK: onnx.MatMul
// CHECK: onnx.Softmax
// CHECK: onnx.MatMul
// CHECK-NOT: onnx.custom
module {
  moe.weights @weights {
  }
  func.func @main(%x: tensor<?x?x8xf32>, %y: tensor<?x?x8xf32>, %z: tensor<?x?x8xf32>) -> tensor<?x?x8xf32> {
    %v0 = onnx.custom(%x, %y, %z) {attributes = {num_heads = 2 : i64}, domain = "com.microsoft", op_type = "MultiHeadAttention"}
        : (tensor<?x?x8xf32>, tensor<?x?x8xf32>, tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    return %v0 : tensor<?x?x8xf32>
  }
}

// -----

// A past is not covered: the node stays.
// 
// CHECK: onnx.custom
module {
  moe.weights @weights {
  }
  func.func @main(%x: tensor<?x?x8xf32>, %y: tensor<?x?x8xf32>, %z: tensor<?x?x8xf32>, %pk: tensor<?x2x?x4xf32>, %pv: tensor<?x2x?x4xf32>) -> tensor<?x?x8xf32> {
    %none = onnx.none : () -> none
    %v0 = onnx.custom(%x, %y, %z, %none, %none, %none, %pk, %pv) {attributes = {num_heads = 2 : i64}, domain = "com.microsoft", op_type = "MultiHeadAttention"}
        : (tensor<?x?x8xf32>, tensor<?x?x8xf32>, tensor<?x?x8xf32>, none, none, none, tensor<?x2x?x4xf32>, tensor<?x2x?x4xf32>) -> tensor<?x?x8xf32>
    return %v0 : tensor<?x?x8xf32>
  }
}

// -----

// Another domain is left alone.
// 
// CHECK: onnx.custom
module {
  moe.weights @weights {
  }
  func.func @main(%x: tensor<?x?x8xf32>) -> tensor<?x?x8xf32> {
    %v0 = onnx.custom(%x, %x, %x) {attributes = {num_heads = 2 : i64}, domain = "com.other", op_type = "MultiHeadAttention"}
        : (tensor<?x?x8xf32>, tensor<?x?x8xf32>, tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    return %v0 : tensor<?x?x8xf32>
  }
}

// -----

// alpha is 1: no factor.
//
// CHECK-LABEL: func.func @fused
// CHECK-NOT: onnx.custom
// CHECK: %[[S:.*]] = onnx.Sigmoid(%arg0)
// CHECK: onnx.Mul(%arg0, %[[S]])
// CHECK: onnx.Transpose(%arg1) {perm = array<i64: 0, 2, 1>}
// CHECK: onnx.MatMul
// CHECK: onnx.Mul
// CHECK: onnx.Tanh
// CHECK-NOT: onnx.custom
// CHECK: return
module {
  moe.weights @weights {
  }
  func.func @fused(%x: tensor<?x4x8xf32>, %y: tensor<?x4x8xf32>) -> tensor<?x4x4xf32> {
    %v0 = onnx.custom(%x) {attributes = {alpha = 1.000000e+00 : f32}, domain = "com.microsoft", op_type = "QuickGelu"}
        : (tensor<?x4x8xf32>) -> tensor<?x4x8xf32>
    %v1 = onnx.custom(%v0, %y) {attributes = {alpha = 2.500000e-01 : f32, transB = 1 : i64}, domain = "com.microsoft", op_type = "FusedMatMul"}
        : (tensor<?x4x8xf32>, tensor<?x4x8xf32>) -> tensor<?x4x4xf32>
    %v2 = onnx.custom(%v1) {attributes = {}, domain = "com.microsoft", op_type = "FastGelu"}
        : (tensor<?x4x4xf32>) -> tensor<?x4x4xf32>
    return %v2 : tensor<?x4x4xf32>
  }
}
