// RUN: moe-opt %s -split-input-file -decompose-onnx | FileCheck %s
// RUN: moe-opt %s -split-input-file -decompose-onnx=attention=true | FileCheck %s --check-prefix=ALL

// CHECK: onnx.Erf
// CHECK-NOT: onnx.Gelu
// CHECK: return
module {
  moe.weights @weights {
  }
  func.func @main(%x: tensor<?x?x8xf32>) -> tensor<?x?x8xf32> {
    %v0 = onnx.Gelu(%x) {approximate = "none"}
        : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    return %v0 : tensor<?x?x8xf32>
  }
}

// -----

// CHECK: onnx.Tanh
// CHECK-NOT: onnx.Gelu
// CHECK: return
module {
  moe.weights @weights {
  }
  func.func @main(%x: tensor<?x?x8xf32>) -> tensor<?x?x8xf32> {
    %v0 = onnx.Gelu(%x) {approximate = "tanh"}
        : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    return %v0 : tensor<?x?x8xf32>
  }
}

// -----

// CHECK: %[[A:.*]] = onnx.Mul(%arg0, %{{.*}})
// CHECK: %[[S:.*]] = onnx.Sigmoid(%[[A]])
// CHECK: onnx.Mul(%arg0, %[[S]])
module {
  moe.weights @weights {
  }
  func.func @main(%x: tensor<?x?x8xf32>) -> tensor<?x?x8xf32> {
    %v0 = onnx.Swish(%x) {alpha = 1.500000e+00 : f32}
        : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    return %v0 : tensor<?x?x8xf32>
  }
}

// -----

// CHECK: onnx.ReduceMean
// CHECK: onnx.Sqrt
// CHECK: onnx.Div
// CHECK-NOT: onnx.RMSNormalization
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8xf32>
    moe.weight.bind @scale %w0 : tensor<8xf32>
  }
  func.func @main(%x: tensor<?x?x8xf32>) -> tensor<?x?x8xf32> {
    %scale = moe.weight.use @scale : tensor<8xf32>
    %v0 = onnx.RMSNormalization(%x, %scale) {axis = -1 : i64, epsilon = 1.000000e-05 : f32}
        : (tensor<?x?x8xf32>, tensor<8xf32>) -> tensor<?x?x8xf32>
    return %v0 : tensor<?x?x8xf32>
  }
}

// -----

// CHECK: onnx.Sub
// CHECK: onnx.Sqrt
// CHECK-NOT: onnx.LayerNormalization
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8xf32>
    moe.weight.bind @scale %w0 : tensor<8xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<8xf32>
    moe.weight.bind @bias %w1 : tensor<8xf32>
  }
  func.func @main(%x: tensor<?x?x8xf32>) -> tensor<?x?x8xf32> {
    %scale = moe.weight.use @scale : tensor<8xf32>
    %bias = moe.weight.use @bias : tensor<8xf32>
    %v0, %v1, %v2 = onnx.LayerNormalization(%x, %scale, %bias) {axis = -1 : i64, epsilon = 1.000000e-05 : f32}
        : (tensor<?x?x8xf32>, tensor<8xf32>, tensor<8xf32>) -> (tensor<?x?x8xf32>, none, none)
    return %v0 : tensor<?x?x8xf32>
  }
}

// -----

// CHECK: onnx.Slice
// CHECK: onnx.Concat
// CHECK-NOT: onnx.RotaryEmbedding
module {
  moe.weights @weights {
  }
  func.func @main(%x: tensor<?x4x?x8xf32>, %c: tensor<?x?x4xf32>, %s: tensor<?x?x4xf32>) -> tensor<?x4x?x8xf32> {
    %none = onnx.none : () -> none
    %v0 = onnx.RotaryEmbedding(%x, %c, %s, %none) {interleaved = 0 : i64}
        : (tensor<?x4x?x8xf32>, tensor<?x?x4xf32>, tensor<?x?x4xf32>, none) -> tensor<?x4x?x8xf32>
    return %v0 : tensor<?x4x?x8xf32>
  }
}

// -----

// As the kernel takes it: it stays.
// 
// CHECK: onnx.Attention(%arg0, %arg1, %arg2
// ALL: onnx.Softmax
// ALL-NOT: onnx.Attention
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x2x?x8xf32>, %vin: tensor<?x2x?x8xf32>) -> tensor<?x4x?x8xf32> {
    %none = onnx.none : () -> none
    %v0, %v1, %v2, %v3 = onnx.Attention(%q, %kin, %vin, %none, %none, %none, %none) {scale = 5.000000e-01 : f32}
        : (tensor<?x4x?x8xf32>, tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>, none, none, none, none) -> (tensor<?x4x?x8xf32>, none, none, none)
    return %v0 : tensor<?x4x?x8xf32>
  }
}

// -----

// Heads inside the features become an axis.
// 
// CHECK: %[[Q:.*]] = onnx.Transpose{{.*}}tensor<?x4x?x8xf32>
// CHECK: %[[K:.*]] = onnx.Transpose{{.*}}tensor<?x2x?x8xf32>
// CHECK: onnx.Attention(%[[Q]], %[[K]]
// CHECK-SAME: scale = 0.353553385
// ALL: onnx.Softmax
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x?x32xf32>, %kin: tensor<?x?x16xf32>, %vin: tensor<?x?x16xf32>) -> tensor<?x?x32xf32> {
    %none = onnx.none : () -> none
    %v0, %v1, %v2, %v3 = onnx.Attention(%q, %kin, %vin, %none, %none, %none, %none) {q_num_heads = 4 : i64, kv_num_heads = 2 : i64}
        : (tensor<?x?x32xf32>, tensor<?x?x16xf32>, tensor<?x?x16xf32>, none, none, none, none) -> (tensor<?x?x32xf32>, none, none, none)
    return %v0 : tensor<?x?x32xf32>
  }
}

// -----

// The past is joined; what is causal counts from its length.
// 
// CHECK: %[[K:.*]] = onnx.Concat(%arg3, %arg1)
// CHECK: onnx.LessOrEqual
// CHECK: onnx.Attention(%arg0, %[[K]]
// CHECK-SAME: is_causal = 0
// ALL: onnx.Softmax
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x2x?x8xf32>, %vin: tensor<?x2x?x8xf32>, %pk: tensor<?x2x?x8xf32>, %pv: tensor<?x2x?x8xf32>) -> (tensor<?x4x?x8xf32>, tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>) {
    %none = onnx.none : () -> none
    %v0, %v1, %v2, %v3 = onnx.Attention(%q, %kin, %vin, %none, %pk, %pv, %none) {is_causal = 1 : i64}
        : (tensor<?x4x?x8xf32>, tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>, none, tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>, none) -> (tensor<?x4x?x8xf32>, tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>, none)
    return %v0, %v1, %v2 : tensor<?x4x?x8xf32>, tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>
  }
}

// -----

// A mask of fewer axes.
// 
// CHECK: %[[M:.*]] = onnx.Unsqueeze(%arg3
// CHECK: onnx.Attention(%arg0, %arg1, %arg2, %[[M]]
// ALL: onnx.Softmax
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x4x?x8xf32>, %vin: tensor<?x4x?x8xf32>, %m: tensor<?x?xi1>) -> tensor<?x4x?x8xf32> {
    %none = onnx.none : () -> none
    %v0, %v1, %v2, %v3 = onnx.Attention(%q, %kin, %vin, %m, %none, %none, %none)
        : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x?xi1>, none, none, none) -> (tensor<?x4x?x8xf32>, none, none, none)
    return %v0 : tensor<?x4x?x8xf32>
  }
}

// -----

// A soft cap is written out.
// 
// CHECK: onnx.Tanh
// CHECK: onnx.Softmax
// ALL: onnx.Softmax
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x4x?x8xf32>, %vin: tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32> {
    %none = onnx.none : () -> none
    %v0, %v1, %v2, %v3 = onnx.Attention(%q, %kin, %vin, %none, %none, %none, %none) {softcap = 3.000000e+01 : f32}
        : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, none, none, none, none) -> (tensor<?x4x?x8xf32>, none, none, none)
    return %v0 : tensor<?x4x?x8xf32>
  }
}

// -----

// In bf16 too.
// 
// CHECK: onnx.Softmax
// ALL: onnx.Softmax
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xbf16>, %kin: tensor<?x4x?x8xbf16>, %vin: tensor<?x4x?x8xbf16>) -> tensor<?x4x?x8xbf16> {
    %none = onnx.none : () -> none
    %v0, %v1, %v2, %v3 = onnx.Attention(%q, %kin, %vin, %none, %none, %none, %none)
        : (tensor<?x4x?x8xbf16>, tensor<?x4x?x8xbf16>, tensor<?x4x?x8xbf16>, none, none, none, none) -> (tensor<?x4x?x8xbf16>, none, none, none)
    return %v0 : tensor<?x4x?x8xbf16>
  }
}

// -----

// Numbers of valid keys are a mask for each sequence.
// 
// CHECK: %[[N:.*]] = onnx.Unsqueeze(%arg3
// CHECK: %[[M:.*]] = onnx.Less({{.*}}, %[[N]])
// CHECK: onnx.Attention(%arg0, %arg1, %arg2
// ALL: onnx.Less
// ALL: onnx.Softmax
// ALL: onnx.ReduceMax
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x4x?x8xf32>, %vin: tensor<?x4x?x8xf32>, %n: tensor<?xi64>) -> tensor<?x4x?x8xf32> {
    %none = onnx.none : () -> none
    %v0, %v1, %v2, %v3 = onnx.Attention(%q, %kin, %vin, %none, %none, %none, %n)
        : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, none, none, none, tensor<?xi64>) -> (tensor<?x4x?x8xf32>, none, none, none)
    return %v0 : tensor<?x4x?x8xf32>
  }
}

// -----

// Windows limit both sides; the scores after the mask are a result.
// 
// CHECK: onnx.GreaterOrEqual
// CHECK: onnx.LessOrEqual
// CHECK: %[[S:.*]] = onnx.Add{{.*}}tensor<?x4x?x?xf32>
// CHECK: onnx.Softmax(%[[S]])
// CHECK: return %{{.*}}, %[[S]]
// ALL: onnx.Softmax
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x4x?x8xf32>, %vin: tensor<?x4x?x8xf32>) -> (tensor<?x4x?x8xf32>, tensor<?x4x?x?xf32>) {
    %none = onnx.none : () -> none
    %v0, %v1, %v2, %v3 = onnx.Attention(%q, %kin, %vin, %none, %none, %none, %none) {left_window_size = 2 : i64, right_window_size = 1 : i64, qk_matmul_output_mode = 2 : i64}
        : (tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>, none, none, none, none) -> (tensor<?x4x?x8xf32>, none, none, tensor<?x4x?x?xf32>)
    return %v0, %v3 : tensor<?x4x?x8xf32>, tensor<?x4x?x?xf32>
  }
}

// -----

// What is returned keeps its type. A mask that ends before the keys hides the others.
// 
// CHECK: %[[M:.*]] = onnx.Pad(%arg5
// CHECK: onnx.Attention(
// CHECK: %[[K:.*]] = onnx.Identity({{.*}}tensor<?x2x?x8xf32>) -> tensor<?x?x?x?xf32>
// CHECK: return %{{.*}}, %[[K]]
// ALL: onnx.Pad
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x2x?x8xf32>, %kin: tensor<?x2x?x8xf32>, %vin: tensor<?x2x?x8xf32>, %pk: tensor<?x2x?x8xf32>, %pv: tensor<?x2x?x8xf32>, %m: tensor<?x2x?x3xi1>) -> (tensor<?x2x?x8xf32>, tensor<?x?x?x?xf32>) {
    %none = onnx.none : () -> none
    %v0, %v1, %v2, %v3 = onnx.Attention(%q, %kin, %vin, %m, %pk, %pv, %none)
        : (tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>, tensor<?x2x?x3xi1>, tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>, none) -> (tensor<?x2x?x8xf32>, tensor<?x?x?x?xf32>, none, none)
    return %v0, %v1 : tensor<?x2x?x8xf32>, tensor<?x?x?x?xf32>
  }
}
