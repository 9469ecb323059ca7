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
