// RUN: moe-opt %s -split-input-file -raise-moe='remarks=false' | FileCheck %s
// RUN: moe-opt %s -split-input-file -raise-moe='remarks=false semantics=ort-cpu' | FileCheck %s --check-prefix=CPU
// RUN: moe-opt %s -split-input-file -raise-moe='remarks=false semantics=ort-cuda' | FileCheck %s --check-prefix=CUDA

// Packed rows of gate and up in turn; zero points of rows, two in a byte.
//
// CHECK: %[[Q:.*]] = moe.weight.unpack %{{.*}} : tensor<2x32x8xui8> -> tensor<2x32x16xui4>
// CHECK: %[[Z:.*]] = moe.weight.unpack %{{.*}} : tensor<2x16xui8> -> tensor<2x32xui4>
// CHECK: %[[ZR:.*]] = moe.weight.reshape %[[Z]] : tensor<2x32xui4> -> tensor<2x32x1xui4>
// CHECK: %[[D:.*]] = moe.weight.dequantize %[[Q]], %{{.*}} zero_point %[[ZR]] blocks [1, 1, 16]
// CHECK: %[[GATE:.*]] = moe.weight.slice %[[D]] [0, 0, 0] [2, 16, 16] [1, 2, 1]
// CHECK: %[[UP:.*]] = moe.weight.slice %[[D]] [0, 1, 0] [2, 16, 16] [1, 2, 1]
// CHECK: moe.weight.bind @layer0.gate %[[GATE]]
// CHECK: %[[P:.*]] = onnx.Softmax(%arg1)
// CHECK: %{{.*}}, %[[W:.*]] = moe.select %[[P]]
// CHECK: moe.experts @layer0(%arg0, %{{.*}}, %[[W]])
//
// The higher of two equal experts first; always normalised; small weights are dropped.
// CPU: %[[M:.*]] = onnx.Gather(%arg1, %{{.*}}) {axis = 1 : i64}
// CPU: %[[P:.*]] = onnx.Softmax(%[[M]])
// CPU: %[[IDS:.*]], %[[W:.*]] = moe.select %[[P]]
// CPU: %[[SUB:.*]] = onnx.Sub(%{{.*}}, %[[IDS]])
// CPU: onnx.Div(%[[W]]
// CPU: %[[KEPT:.*]] = onnx.Where
// CPU: moe.experts @layer0(%arg0, %[[SUB]], %[[KEPT]])
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<2x32x8xui8>
    moe.weight.bind @fc1 %w0 : tensor<2x32x8xui8>
    %w1 = moe.weight.load "w.bin" at 512 : tensor<2x32xf32>
    moe.weight.bind @s1 %w1 : tensor<2x32xf32>
    %w2 = moe.weight.load "w.bin" at 1024 : tensor<2x16x8xui8>
    moe.weight.bind @fc2 %w2 : tensor<2x16x8xui8>
    %w3 = moe.weight.load "w.bin" at 2048 : tensor<2x16xf32>
    moe.weight.bind @s2 %w3 : tensor<2x16xf32>
    %w4 = moe.weight.load "w.bin" at 4096 : tensor<2x16xui8>
    moe.weight.bind @z1 %w4 : tensor<2x16xui8>
    %w5 = moe.weight.load "w.bin" at 4128 : tensor<2x8xui8>
    moe.weight.bind @z2 %w5 : tensor<2x8xui8>
  }
  func.func @main(%x: tensor<?x16xf32>, %z: tensor<?x2xf32>, %r: tensor<?x2xf32>) -> tensor<?x16xf32> {
    %none = onnx.none : () -> none
    %fc1 = moe.weight.use @fc1 : tensor<2x32x8xui8>
    %s1 = moe.weight.use @s1 : tensor<2x32xf32>
    %fc2 = moe.weight.use @fc2 : tensor<2x16x8xui8>
    %s2 = moe.weight.use @s2 : tensor<2x16xf32>
    %z1 = moe.weight.use @z1 : tensor<2x16xui8>
    %z2 = moe.weight.use @z2 : tensor<2x8xui8>
    %y = onnx.custom(%x, %z, %fc1, %s1, %none, %fc2, %s2, %none, %none, %none, %none, %z1, %z2) {attributes = {activation_type = "swiglu", swiglu_fusion = 1 : i64, k = 1 : i64, weights_prepacked = 0 : i64}, domain = "com.microsoft", op_type = "QMoE"}
        : (tensor<?x16xf32>, tensor<?x2xf32>, tensor<2x32x8xui8>, tensor<2x32xf32>, none, tensor<2x16x8xui8>, tensor<2x16xf32>, none, none, none, none, tensor<2x16xui8>, tensor<2x8xui8>) -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}

// -----

// Weights from a tensor of their own, which the CUDA kernel does not read.
//
// CHECK: %{{.*}}, %[[W:.*]] = moe.select %arg1, %arg2
// CHECK: moe.experts @layer0(%arg0, %{{.*}}, %[[W]])
// CPU: moe.select %{{.*}}, %{{.*}} {k
// CUDA: %[[P:.*]] = onnx.Softmax(%arg1)
// CUDA: moe.select %[[P]] {k
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<2x32x8xui8>
    moe.weight.bind @fc1 %w0 : tensor<2x32x8xui8>
    %w1 = moe.weight.load "w.bin" at 512 : tensor<2x32xf32>
    moe.weight.bind @s1 %w1 : tensor<2x32xf32>
    %w2 = moe.weight.load "w.bin" at 1024 : tensor<2x16x8xui8>
    moe.weight.bind @fc2 %w2 : tensor<2x16x8xui8>
    %w3 = moe.weight.load "w.bin" at 2048 : tensor<2x16xf32>
    moe.weight.bind @s2 %w3 : tensor<2x16xf32>
    %w4 = moe.weight.load "w.bin" at 4096 : tensor<2x16xui8>
    moe.weight.bind @z1 %w4 : tensor<2x16xui8>
    %w5 = moe.weight.load "w.bin" at 4128 : tensor<2x8xui8>
    moe.weight.bind @z2 %w5 : tensor<2x8xui8>
  }
  func.func @main(%x: tensor<?x16xf32>, %z: tensor<?x2xf32>, %r: tensor<?x2xf32>) -> tensor<?x16xf32> {
    %none = onnx.none : () -> none
    %fc1 = moe.weight.use @fc1 : tensor<2x32x8xui8>
    %s1 = moe.weight.use @s1 : tensor<2x32xf32>
    %fc2 = moe.weight.use @fc2 : tensor<2x16x8xui8>
    %s2 = moe.weight.use @s2 : tensor<2x16xf32>
    %y = onnx.custom(%x, %z, %fc1, %s1, %none, %fc2, %s2, %none, %none, %none, %none, %none, %none, %none, %r) {attributes = {activation_type = "swiglu", swiglu_fusion = 1 : i64, k = 1 : i64, weights_prepacked = 0 : i64}, domain = "com.microsoft", op_type = "QMoE"}
        : (tensor<?x16xf32>, tensor<?x2xf32>, tensor<2x32x8xui8>, tensor<2x32xf32>, none, tensor<2x16x8xui8>, tensor<2x16xf32>, none, none, none, none, none, none, none, tensor<?x2xf32>) -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}

// -----

// The sparse mixer, which the CPU kernel does not have.
//
// CHECK-NOT: moe.select
// CHECK-COUNT-2: onnx.ArgMax
// CHECK: %[[IDS:.*]] = onnx.Cast({{.*}}to = 6 : i64
// CHECK: moe.experts @layer0(%arg0, %[[IDS]]
// CPU: moe.select
// CUDA-COUNT-2: onnx.ArgMax
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<2x32x8xui8>
    moe.weight.bind @fc1 %w0 : tensor<2x32x8xui8>
    %w1 = moe.weight.load "w.bin" at 512 : tensor<2x32xf32>
    moe.weight.bind @s1 %w1 : tensor<2x32xf32>
    %w2 = moe.weight.load "w.bin" at 1024 : tensor<2x16x8xui8>
    moe.weight.bind @fc2 %w2 : tensor<2x16x8xui8>
    %w3 = moe.weight.load "w.bin" at 2048 : tensor<2x16xf32>
    moe.weight.bind @s2 %w3 : tensor<2x16xf32>
    %w4 = moe.weight.load "w.bin" at 4096 : tensor<2x16xui8>
    moe.weight.bind @z1 %w4 : tensor<2x16xui8>
    %w5 = moe.weight.load "w.bin" at 4128 : tensor<2x8xui8>
    moe.weight.bind @z2 %w5 : tensor<2x8xui8>
  }
  func.func @main(%x: tensor<?x16xf32>, %z: tensor<?x2xf32>, %r: tensor<?x2xf32>) -> tensor<?x16xf32> {
    %none = onnx.none : () -> none
    %fc1 = moe.weight.use @fc1 : tensor<2x32x8xui8>
    %s1 = moe.weight.use @s1 : tensor<2x32xf32>
    %fc2 = moe.weight.use @fc2 : tensor<2x16x8xui8>
    %s2 = moe.weight.use @s2 : tensor<2x16xf32>
    %y = onnx.custom(%x, %z, %fc1, %s1, %none, %fc2, %s2) {attributes = {activation_type = "swiglu", swiglu_fusion = 1 : i64, k = 2 : i64, use_sparse_mixer = 1 : i64, weights_prepacked = 0 : i64}, domain = "com.microsoft", op_type = "QMoE"}
        : (tensor<?x16xf32>, tensor<?x2xf32>, tensor<2x32x8xui8>, tensor<2x32xf32>, none, tensor<2x16x8xui8>, tensor<2x16xf32>) -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}

// -----

// No layout: interleaved as CUDA reads old files, refused otherwise.
//
// CHECK: onnx.custom
// CPU: onnx.custom
// CUDA: moe.weight.slice %{{.*}} [0, 0, 0] [2, 16, 16] [1, 2, 1]
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<2x32x8xui8>
    moe.weight.bind @fc1 %w0 : tensor<2x32x8xui8>
    %w1 = moe.weight.load "w.bin" at 512 : tensor<2x32xf32>
    moe.weight.bind @s1 %w1 : tensor<2x32xf32>
    %w2 = moe.weight.load "w.bin" at 1024 : tensor<2x16x8xui8>
    moe.weight.bind @fc2 %w2 : tensor<2x16x8xui8>
    %w3 = moe.weight.load "w.bin" at 2048 : tensor<2x16xf32>
    moe.weight.bind @s2 %w3 : tensor<2x16xf32>
    %w4 = moe.weight.load "w.bin" at 4096 : tensor<2x16xui8>
    moe.weight.bind @z1 %w4 : tensor<2x16xui8>
    %w5 = moe.weight.load "w.bin" at 4128 : tensor<2x8xui8>
    moe.weight.bind @z2 %w5 : tensor<2x8xui8>
  }
  func.func @main(%x: tensor<?x16xf32>, %z: tensor<?x2xf32>, %r: tensor<?x2xf32>) -> tensor<?x16xf32> {
    %none = onnx.none : () -> none
    %fc1 = moe.weight.use @fc1 : tensor<2x32x8xui8>
    %s1 = moe.weight.use @s1 : tensor<2x32xf32>
    %fc2 = moe.weight.use @fc2 : tensor<2x16x8xui8>
    %s2 = moe.weight.use @s2 : tensor<2x16xf32>
    %y = onnx.custom(%x, %z, %fc1, %s1, %none, %fc2, %s2) {attributes = {activation_type = "swiglu", k = 1 : i64, weights_prepacked = 0 : i64}, domain = "com.microsoft", op_type = "QMoE"}
        : (tensor<?x16xf32>, tensor<?x2xf32>, tensor<2x32x8xui8>, tensor<2x32xf32>, none, tensor<2x16x8xui8>, tensor<2x16xf32>) -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}

// -----

// Bytes in an order that is not said: plain, unless CUDA wrote them.
//
// CHECK: moe.experts
// CPU: moe.experts
// CUDA: onnx.custom
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<2x32x8xui8>
    moe.weight.bind @fc1 %w0 : tensor<2x32x8xui8>
    %w1 = moe.weight.load "w.bin" at 512 : tensor<2x32xf32>
    moe.weight.bind @s1 %w1 : tensor<2x32xf32>
    %w2 = moe.weight.load "w.bin" at 1024 : tensor<2x16x8xui8>
    moe.weight.bind @fc2 %w2 : tensor<2x16x8xui8>
    %w3 = moe.weight.load "w.bin" at 2048 : tensor<2x16xf32>
    moe.weight.bind @s2 %w3 : tensor<2x16xf32>
    %w4 = moe.weight.load "w.bin" at 4096 : tensor<2x16xui8>
    moe.weight.bind @z1 %w4 : tensor<2x16xui8>
    %w5 = moe.weight.load "w.bin" at 4128 : tensor<2x8xui8>
    moe.weight.bind @z2 %w5 : tensor<2x8xui8>
  }
  func.func @main(%x: tensor<?x16xf32>, %z: tensor<?x2xf32>, %r: tensor<?x2xf32>) -> tensor<?x16xf32> {
    %none = onnx.none : () -> none
    %fc1 = moe.weight.use @fc1 : tensor<2x32x8xui8>
    %s1 = moe.weight.use @s1 : tensor<2x32xf32>
    %fc2 = moe.weight.use @fc2 : tensor<2x16x8xui8>
    %s2 = moe.weight.use @s2 : tensor<2x16xf32>
    %y = onnx.custom(%x, %z, %fc1, %s1, %none, %fc2, %s2) {attributes = {activation_type = "swiglu", swiglu_fusion = 1 : i64, k = 1 : i64}, domain = "com.microsoft", op_type = "QMoE"}
        : (tensor<?x16xf32>, tensor<?x2xf32>, tensor<2x32x8xui8>, tensor<2x32xf32>, none, tensor<2x16x8xui8>, tensor<2x16xf32>) -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}

// -----

// Logits that are logarithms of finished weights: those, and the top-k is the router.
//
// CHECK: %[[IDS:.*]], %{{.*}} = moe.select %arg1 {k = 1
// CHECK: %[[V:.*]] = onnx.Clip
// CHECK: %[[SUM:.*]] = onnx.ReduceSum(%[[V]]
// CHECK: %[[W:.*]] = onnx.Div(%[[V]], %[[SUM]])
// CHECK: moe.experts @layer0(%arg0, %[[IDS]], %[[W]])
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<2x16x8xf32>
    moe.weight.bind @fc1 %w0 : tensor<2x16x8xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<2x8x16xf32>
    moe.weight.bind @fc2 %w1 : tensor<2x8x16xf32>
  }
  func.func @main(%x: tensor<?x8xf32>, %z: tensor<?x2xf32>) -> tensor<?x8xf32> {
    %none = onnx.none : () -> none
    %fc1 = moe.weight.use @fc1 : tensor<2x16x8xf32>
    %fc2 = moe.weight.use @fc2 : tensor<2x8x16xf32>
    %k = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %low = onnx.Constant {value = dense<1.000000e-20> : tensor<f32>} : () -> tensor<f32>
    %values, %ids = onnx.TopK(%z, %k) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> (tensor<?x1xf32>, tensor<?x1xi64>)
    %s = onnx.GatherElements(%z, %ids) {axis = 1 : i64} : (tensor<?x2xf32>, tensor<?x1xi64>) -> tensor<?x1xf32>
    %v = onnx.Clip(%s, %low, %none) : (tensor<?x1xf32>, tensor<f32>, none) -> tensor<?x1xf32>
    %log = onnx.Log(%v) : (tensor<?x1xf32>) -> tensor<?x1xf32>
    %shape = onnx.Shape(%z) {start = 0 : i64} : (tensor<?x2xf32>) -> tensor<2xi64>
    %fill = onnx.ConstantOfShape(%shape) {value = dense<-1.000000e+04> : tensor<1xf32>} : (tensor<2xi64>) -> tensor<?x2xf32>
    %logits = onnx.ScatterElements(%fill, %ids, %log) {axis = 1 : i64, reduction = "none"}
        : (tensor<?x2xf32>, tensor<?x1xi64>, tensor<?x1xf32>) -> tensor<?x2xf32>
    %y = onnx.custom(%x, %logits, %fc1, %none, %fc2, %none) {attributes = {k = 1 : i64}, domain = "com.microsoft", op_type = "MoE"}
        : (tensor<?x8xf32>, tensor<?x2xf32>, tensor<2x16x8xf32>, none, tensor<2x8x16xf32>, none) -> tensor<?x8xf32>
    return %y : tensor<?x8xf32>
  }
}
