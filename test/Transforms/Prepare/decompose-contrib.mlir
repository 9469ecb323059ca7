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

// Beams are not covered: the node stays.
// 
// CHECK: onnx.custom
module {
  moe.weights @weights {
  }
  func.func @main(%x: tensor<?x?x8xf32>, %y: tensor<?x?x8xf32>, %z: tensor<?x?x8xf32>, %pk: tensor<?x2x?x4xf32>, %pv: tensor<?x2x?x4xf32>, %n: tensor<1xi32>) -> tensor<?x?x8xf32> {
    %none = onnx.none : () -> none
    %v0 = onnx.custom(%x, %y, %z, %none, %none, %none, %pk, %pv, %n) {attributes = {num_heads = 2 : i64}, domain = "com.microsoft", op_type = "MultiHeadAttention"}
        : (tensor<?x?x8xf32>, tensor<?x?x8xf32>, tensor<?x?x8xf32>, none, none, none, tensor<?x2x?x4xf32>, tensor<?x2x?x4xf32>, tensor<1xi32>) -> tensor<?x?x8xf32>
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

// -----

// Two blocks for 24 rows of 16: four bits, the padding cut off.
//
// CHECK: %[[Q:.*]] = moe.weight.unpack %{{.*}} : tensor<8x16xui8> -> tensor<8x32xui4>
// CHECK: %[[K:.*]] = moe.weight.slice %[[Q]] [0, 0] [8, 24] [1, 1]
// CHECK: %[[W:.*]] = moe.weight.dequantize %[[K]], %{{.*}} zero_point %{{.*}} blocks [1, 16] : (tensor<8x24xui4>, tensor<8x2xf32>, tensor<1x1xi32>) -> tensor<8x24xf32>
// CHECK: %[[T:.*]] = moe.weight.transpose %[[W]] [1, 0]
// CHECK: moe.weight.bind @w.0 %[[T]]
// CHECK: onnx.MatMul(%arg0, %{{.*}}) : (tensor<?x24xf32>, tensor<24x8xf32>) -> tensor<?x8xf32>
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x2x8xui8>
    moe.weight.bind @w %w0 : tensor<8x2x8xui8>
    %w1 = moe.weight.load "w.bin" at 128 : tensor<8x2xf32>
    moe.weight.bind @s %w1 : tensor<8x2xf32>
  }
  func.func @main(%x: tensor<?x24xf32>) -> tensor<?x8xf32> {
    %w = moe.weight.use @w : tensor<8x2x8xui8>
    %s = moe.weight.use @s : tensor<8x2xf32>
    %v0 = onnx.custom(%x, %w, %s) {attributes = {K = 24 : i64, N = 8 : i64, bits = 4 : i64, block_size = 16 : i64}, domain = "com.microsoft", op_type = "MatMulNBits"}
        : (tensor<?x24xf32>, tensor<8x2x8xui8>, tensor<8x2xf32>) -> tensor<?x8xf32>
    return %v0 : tensor<?x8xf32>
  }
}

// -----

// The cache is a result; the window is a mask; the kernel has the rest.
//
// CHECK: %[[K:.*]] = onnx.ScatterElements
// CHECK: %[[V:.*]] = onnx.ScatterElements
// CHECK: %[[MASK:.*]] = onnx.And
// CHECK: onnx.Attention(%{{.*}}, %[[K]], %[[V]], %[[MASK]]
// CHECK-NOT: onnx.custom
module {
  moe.weights @weights {
  }
  func.func @main(%x: tensor<?x?x32xf32>, %p: tensor<?x2x?x4xf32>, %n: tensor<?xi32>, %t: tensor<i32>) -> (tensor<?x?x16xf32>, tensor<?x2x?x4xf32>, tensor<?x2x?x4xf32>) {
    %none = onnx.none : () -> none
    %y, %k, %v = onnx.custom(%x, %none, %none, %p, %p, %n, %t) {attributes = {kv_num_heads = 2 : i64, local_window_size = 3 : i64, num_heads = 4 : i64}, domain = "com.microsoft", op_type = "GroupQueryAttention"}
        : (tensor<?x?x32xf32>, none, none, tensor<?x2x?x4xf32>, tensor<?x2x?x4xf32>, tensor<?xi32>, tensor<i32>) -> (tensor<?x?x16xf32>, tensor<?x2x?x4xf32>, tensor<?x2x?x4xf32>)
    return %y, %k, %v : tensor<?x?x16xf32>, tensor<?x2x?x4xf32>, tensor<?x2x?x4xf32>
  }
}
