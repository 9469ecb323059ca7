// RUN: moe-opt %s -split-input-file -raise-moe -verify-diagnostics

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
    // expected-remark @below {{refused because weights_prepacked = 1, the layout of one execution provider, is unsupported}}
    %y = onnx.custom(%x, %z, %fc1, %s1, %none, %fc2, %s2) {attributes = {activation_type = "swiglu", swiglu_fusion = 1 : i64, weights_prepacked = 1 : i64}, domain = "com.microsoft", op_type = "QMoE"}
        : (tensor<?x16xf32>, tensor<?x2xf32>, tensor<2x32x8xui8>, tensor<2x32xf32>, none, tensor<2x16x8xui8>, tensor<2x16xf32>) -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}

// -----

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
    // expected-remark @below {{refused because weights of 3 bits are unsupported}}
    %y = onnx.custom(%x, %z, %fc1, %s1, %none, %fc2, %s2) {attributes = {activation_type = "swiglu", swiglu_fusion = 1 : i64, weights_prepacked = 0 : i64, expert_weight_bits = 3 : i64}, domain = "com.microsoft", op_type = "QMoE"}
        : (tensor<?x16xf32>, tensor<?x2xf32>, tensor<2x32x8xui8>, tensor<2x32xf32>, none, tensor<2x16x8xui8>, tensor<2x16xf32>) -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}

// -----

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
    // expected-remark @below {{refused because quant_type "wfp4afp8" is unsupported}}
    %y = onnx.custom(%x, %z, %fc1, %s1, %none, %fc2, %s2) {attributes = {activation_type = "swiglu", swiglu_fusion = 1 : i64, quant_type = "wfp4afp8"}, domain = "com.microsoft", op_type = "QMoE"}
        : (tensor<?x16xf32>, tensor<?x2xf32>, tensor<2x32x8xui8>, tensor<2x32xf32>, none, tensor<2x16x8xui8>, tensor<2x16xf32>) -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}

// -----

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
    // expected-remark @below {{refused because fc1_scales has 64 elements where [2, 32, 2] are needed}}
    %y = onnx.custom(%x, %z, %fc1, %s1, %none, %fc2, %s2) {attributes = {activation_type = "swiglu", swiglu_fusion = 1 : i64, weights_prepacked = 0 : i64, block_size = 8 : i64}, domain = "com.microsoft", op_type = "QMoE"}
        : (tensor<?x16xf32>, tensor<?x2xf32>, tensor<2x32x8xui8>, tensor<2x32xf32>, none, tensor<2x16x8xui8>, tensor<2x16xf32>) -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}

// -----

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
    // expected-remark @below {{old files are interleaved, which --moe-semantics=ort-cuda assumes}}
    %y = onnx.custom(%x, %z, %fc1, %s1, %none, %fc2, %s2) {attributes = {activation_type = "swiglu", weights_prepacked = 0 : i64}, domain = "com.microsoft", op_type = "QMoE"}
        : (tensor<?x16xf32>, tensor<?x2xf32>, tensor<2x32x8xui8>, tensor<2x32xf32>, none, tensor<2x16x8xui8>, tensor<2x16xf32>) -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}

// -----

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
    // expected-remark @below {{refused because swiglu_limit_after_activation is unsupported}}
    %y = onnx.custom(%x, %z, %fc1, %s1, %none, %fc2, %s2) {attributes = {activation_type = "swiglu", swiglu_fusion = 1 : i64, weights_prepacked = 0 : i64, swiglu_limit_after_activation = 1 : i64}, domain = "com.microsoft", op_type = "QMoE"}
        : (tensor<?x16xf32>, tensor<?x2xf32>, tensor<2x32x8xui8>, tensor<2x32xf32>, none, tensor<2x16x8xui8>, tensor<2x16xf32>) -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}

// -----

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
    // expected-remark @below {{refused because quant_type "fp8" has no zero points}}
    %y = onnx.custom(%x, %z, %fc1, %s1, %none, %fc2, %s2, %none, %none, %none, %none, %z1, %z2) {attributes = {activation_type = "swiglu", swiglu_fusion = 1 : i64, quant_type = "fp8"}, domain = "com.microsoft", op_type = "QMoE"}
        : (tensor<?x16xf32>, tensor<?x2xf32>, tensor<2x32x8xui8>, tensor<2x32xf32>, none, tensor<2x16x8xui8>, tensor<2x16xf32>, none, none, none, none, tensor<2x16xui8>, tensor<2x8xui8>) -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}

// -----

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
    // expected-remark @below {{refused because the sparse mixer beside router_weights is unsupported}}
    %y = onnx.custom(%x, %z, %fc1, %s1, %none, %fc2, %s2, %none, %none, %none, %none, %none, %none, %none, %r) {attributes = {activation_type = "swiglu", swiglu_fusion = 1 : i64, k = 2 : i64, use_sparse_mixer = 1 : i64, weights_prepacked = 0 : i64}, domain = "com.microsoft", op_type = "QMoE"}
        : (tensor<?x16xf32>, tensor<?x2xf32>, tensor<2x32x8xui8>, tensor<2x32xf32>, none, tensor<2x16x8xui8>, tensor<2x16xf32>, none, none, none, none, none, none, none, tensor<?x2xf32>) -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}

// -----

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
    // expected-remark @below {{refused because the attribute num_shared_experts is unsupported}}
    %y = onnx.custom(%x, %z, %fc1, %s1, %none, %fc2, %s2) {attributes = {activation_type = "swiglu", swiglu_fusion = 1 : i64, weights_prepacked = 0 : i64, num_shared_experts = 1 : i64}, domain = "com.microsoft", op_type = "QMoE"}
        : (tensor<?x16xf32>, tensor<?x2xf32>, tensor<2x32x8xui8>, tensor<2x32xf32>, none, tensor<2x16x8xui8>, tensor<2x16xf32>) -> tensor<?x16xf32>
    return %y : tensor<?x16xf32>
  }
}
