// RUN: moe-opt %s -split-input-file -fold-weights | FileCheck %s

// CHECK: %[[L:.*]] = moe.weight.load
// CHECK: %[[C:.*]] = moe.weight.cast %[[L]] : tensor<4x8x6xf16> -> tensor<4x8x6xf32>
// CHECK: moe.weight.bind @w.0 %[[C]]
// CHECK-NOT: moe.weight.bind @w 
// CHECK: moe.weight.use @w.0 : tensor<4x8x6xf32>
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<4x8x6xf16>
    moe.weight.bind @w %w0 : tensor<4x8x6xf16>
  }
  func.func @main() -> tensor<4x8x6xf32> {
    %w = moe.weight.use @w : tensor<4x8x6xf16>
    %v0 = onnx.Cast(%w) {to = 1 : i64}
        : (tensor<4x8x6xf16>) -> tensor<4x8x6xf32>
    return %v0 : tensor<4x8x6xf32>
  }
}

// -----

// A cast that rounds stays.
// 
// CHECK: onnx.Cast
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<4xf32>
    moe.weight.bind @w %w0 : tensor<4xf32>
  }
  func.func @main() -> tensor<4xf16> {
    %w = moe.weight.use @w : tensor<4xf32>
    %v0 = onnx.Cast(%w) {to = 10 : i64}
        : (tensor<4xf32>) -> tensor<4xf16>
    return %v0 : tensor<4xf16>
  }
}

// -----

// CHECK: moe.weight.cast
// CHECK: %[[T:.*]] = moe.weight.transpose %{{.*}} [0, 2, 1]
// CHECK: moe.weight.slice %[[T]] [0, 0, 0] [4, 3, 8] [1, 1, 1]
// CHECK: moe.weight.slice %[[T]] [0, 3, 0] [4, 3, 8] [1, 1, 1]
// CHECK-NOT: onnx.Split
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<4x8x6xf16>
    moe.weight.bind @w %w0 : tensor<4x8x6xf16>
  }
  func.func @main() -> (tensor<4x3x8xf32>, tensor<4x3x8xf32>) {
    %w = moe.weight.use @w : tensor<4x8x6xf16>
    %v0 = onnx.Cast(%w) {to = 1 : i64}
        : (tensor<4x8x6xf16>) -> tensor<4x8x6xf32>
    %v1 = onnx.Transpose(%v0) {perm = array<i64: 0, 2, 1>}
        : (tensor<4x8x6xf32>) -> tensor<4x6x8xf32>
    %none = onnx.none : () -> none
    %v2, %v3 = onnx.Split(%v1, %none) {axis = 1 : i64, num_outputs = 2 : i64}
        : (tensor<4x6x8xf32>, none) -> (tensor<4x3x8xf32>, tensor<4x3x8xf32>)
    return %v2, %v3 : tensor<4x3x8xf32>, tensor<4x3x8xf32>
  }
}

// -----

// CHECK: moe.weight.reshape {{.*}} -> tensor<32x6xf32>
// CHECK: moe.weight.slice {{.*}} [2, 0, 0] [1, 8, 6] [1, 1, 1]
// CHECK: moe.weight.reshape {{.*}} -> tensor<8x6xf32>
// CHECK: moe.weight.slice {{.*}} [0, 1, 0] [4, 4, 6] [1, 2, 1]
// CHECK: moe.weight.reshape {{.*}} -> tensor<4x48xf32>
// CHECK: moe.weight.gather {{.*}} -> tensor<2x8x6xf32>
// CHECK-NOT: onnx.{{Reshape|Gather|Slice|Flatten}}
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<4x8x6xf32>
    moe.weight.bind @w %w0 : tensor<4x8x6xf32>
  }
  func.func @main() -> (tensor<32x6xf32>, tensor<8x6xf32>, tensor<4x4x6xf32>, tensor<4x48xf32>, tensor<2x8x6xf32>) {
    %w = moe.weight.use @w : tensor<4x8x6xf32>
    %shape = onnx.Constant {value = dense<[32, -1]> : tensor<2xi64>} : () -> tensor<2xi64>
    %v0 = onnx.Reshape(%w, %shape)
        : (tensor<4x8x6xf32>, tensor<2xi64>) -> tensor<32x6xf32>
    %two = onnx.Constant {value = dense<2> : tensor<i64>} : () -> tensor<i64>
    %v1 = onnx.Gather(%w, %two) {axis = 0 : i64}
        : (tensor<4x8x6xf32>, tensor<i64>) -> tensor<8x6xf32>
    %lo = onnx.Constant {value = dense<[1]> : tensor<1xi64>} : () -> tensor<1xi64>
    %hi = onnx.Constant {value = dense<[9]> : tensor<1xi64>} : () -> tensor<1xi64>
    %axis = onnx.Constant {value = dense<[1]> : tensor<1xi64>} : () -> tensor<1xi64>
    %step = onnx.Constant {value = dense<[2]> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2 = onnx.Slice(%w, %lo, %hi, %axis, %step)
        : (tensor<4x8x6xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<4x4x6xf32>
    %v3 = onnx.Flatten(%w) {axis = 1 : i64}
        : (tensor<4x8x6xf32>) -> tensor<4x48xf32>
    %some = onnx.Constant {value = dense<[3, 0]> : tensor<2xi64>} : () -> tensor<2xi64>
    %v4 = onnx.Gather(%w, %some) {axis = 0 : i64}
        : (tensor<4x8x6xf32>, tensor<2xi64>) -> tensor<2x8x6xf32>
    return %v0, %v1, %v2, %v3, %v4 : tensor<32x6xf32>, tensor<8x6xf32>, tensor<4x4x6xf32>, tensor<4x48xf32>, tensor<2x8x6xf32>
  }
}

// -----

// CHECK: moe.weight.concat {{.*}} -> tensor<6x3xf32>
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<2x3xf32>
    moe.weight.bind @a %w0 : tensor<2x3xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<4x3xf32>
    moe.weight.bind @b %w1 : tensor<4x3xf32>
  }
  func.func @main() -> tensor<6x3xf32> {
    %a = moe.weight.use @a : tensor<2x3xf32>
    %b = moe.weight.use @b : tensor<4x3xf32>
    %v0 = onnx.Concat(%a, %b) {axis = 0 : i64}
        : (tensor<2x3xf32>, tensor<4x3xf32>) -> tensor<6x3xf32>
    return %v0 : tensor<6x3xf32>
  }
}

// -----

// A weight without a use goes.
// 
// CHECK-NOT: moe.weight.bind @w 
// CHECK: moe.weight.bind @v
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<4x8x6xf16>
    moe.weight.bind @w %w0 : tensor<4x8x6xf16>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<3xf32>
    moe.weight.bind @v %w1 : tensor<3xf32>
  }
  func.func @main() -> tensor<3xf32> {
    %w = moe.weight.use @w : tensor<4x8x6xf16>
    %v = moe.weight.use @v : tensor<3xf32>
    return %v : tensor<3xf32>
  }
}

// -----

// An index of run time does not.
// 
// CHECK: onnx.Gather
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<4x8x6xf32>
    moe.weight.bind @w %w0 : tensor<4x8x6xf32>
  }
  func.func @main(%i: tensor<2xi64>) -> tensor<2x8x6xf32> {
    %w = moe.weight.use @w : tensor<4x8x6xf32>
    %v0 = onnx.Gather(%w, %i) {axis = 0 : i64}
        : (tensor<4x8x6xf32>, tensor<2xi64>) -> tensor<2x8x6xf32>
    return %v0 : tensor<2x8x6xf32>
  }
}

// -----

// Quantised parameters: per tensor, per row, in blocks.
//
// CHECK: moe.weight.dequantize %{{.*}}, %{{.*}} blocks [4, 8] : (tensor<4x8xi8>, tensor<1x1xf32>) -> tensor<4x8xf32>
// CHECK: moe.weight.dequantize %{{.*}}, %{{.*}} zero_point %{{.*}} blocks [1, 8] : (tensor<4x8xi8>, tensor<4x1xf32>, tensor<4x1xi8>)
// CHECK: moe.weight.dequantize %{{.*}}, %{{.*}} blocks [1, 4] : (tensor<4x8xi8>, tensor<4x2xf32>)
// CHECK-NOT: onnx.DequantizeLinear
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<4x8xi8>
    %w1 = moe.weight.load "w.bin" at 32 : tensor<4x2xf32>
    moe.weight.bind @w %w0 : tensor<4x8xi8>
    moe.weight.bind @s %w1 : tensor<4x2xf32>
  }
  func.func @main() -> (tensor<4x8xf32>, tensor<4x8xf32>, tensor<4x8xf32>) {
    %w = moe.weight.use @w : tensor<4x8xi8>
    %s = moe.weight.use @s : tensor<4x2xf32>
    %none = onnx.none : () -> none
    %one = onnx.Constant {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
    %rows = onnx.Constant {value = dense<0.5> : tensor<4xf32>} : () -> tensor<4xf32>
    %zeros = onnx.Constant {value = dense<[1, 2, 3, -4]> : tensor<4xi8>} : () -> tensor<4xi8>
    %a = onnx.DequantizeLinear(%w, %one, %none) {axis = 1 : i64, block_size = 0 : i64}
        : (tensor<4x8xi8>, tensor<f32>, none) -> tensor<4x8xf32>
    %b = onnx.DequantizeLinear(%w, %rows, %zeros) {axis = 0 : i64, block_size = 0 : i64}
        : (tensor<4x8xi8>, tensor<4xf32>, tensor<4xi8>) -> tensor<4x8xf32>
    %c = onnx.DequantizeLinear(%w, %s, %none) {axis = 1 : i64, block_size = 4 : i64}
        : (tensor<4x8xi8>, tensor<4x2xf32>, none) -> tensor<4x8xf32>
    return %a, %b, %c : tensor<4x8xf32>, tensor<4x8xf32>, tensor<4x8xf32>
  }
}

// -----

// Leading axes of one say nothing in a product.
//
// CHECK: onnx.MatMul(%{{.*}}, %{{.*}}) : (tensor<2x1x?x4xf32>, tensor<3x4x5xf32>) -> tensor<2x3x?x5xf32>
// Here they give the result its rank.
// CHECK: onnx.MatMul(%{{.*}}, %{{.*}}) : (tensor<3x?x4xf32>, tensor<1x3x4x5xf32>) -> tensor<1x3x?x5xf32>
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<3x4x5xf32>
    moe.weight.bind @w %w0 : tensor<3x4x5xf32>
  }
  func.func @main(%x: tensor<2x1x?x4xf32>, %y: tensor<3x?x4xf32>) -> (tensor<2x3x?x5xf32>, tensor<1x3x?x5xf32>) {
    %w = moe.weight.use @w : tensor<3x4x5xf32>
    %zero = onnx.Constant {value = dense<0> : tensor<1xi64>} : () -> tensor<1xi64>
    %u = onnx.Unsqueeze(%w, %zero) : (tensor<3x4x5xf32>, tensor<1xi64>) -> tensor<1x3x4x5xf32>
    %a = onnx.MatMul(%x, %u) : (tensor<2x1x?x4xf32>, tensor<1x3x4x5xf32>) -> tensor<2x3x?x5xf32>
    %b = onnx.MatMul(%y, %u) : (tensor<3x?x4xf32>, tensor<1x3x4x5xf32>) -> tensor<1x3x?x5xf32>
    return %a, %b : tensor<2x3x?x5xf32>, tensor<1x3x?x5xf32>
  }
}
