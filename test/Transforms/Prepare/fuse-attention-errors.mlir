// RUN: moe-opt %s -split-input-file -fuse-attention -verify-diagnostics

// 
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x2x?x8xf32>, %vin: tensor<?x2x?x8xf32>) -> tensor<?x4x?x8xf32> {
    %v0 = onnx.Shape(%kin) {end = 1 : i64, start = 0 : i64}
        : (tensor<?x2x?x8xf32>) -> tensor<1xi64>
    %v1 = onnx.Shape(%kin) {end = 3 : i64, start = 2 : i64}
        : (tensor<?x2x?x8xf32>) -> tensor<1xi64>
    %axis2 = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %n2 = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %r2 = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %d2 = onnx.Constant {value = dense<8> : tensor<1xi64>} : () -> tensor<1xi64>
    %h2 = onnx.Constant {value = dense<4> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2 = onnx.Unsqueeze(%kin, %axis2)
        : (tensor<?x2x?x8xf32>, tensor<1xi64>) -> tensor<?x2x1x?x8xf32>
    %v3 = onnx.Concat(%v0, %n2, %r2, %v1, %d2) {axis = 0 : i64}
        : (tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<5xi64>
    %v4 = onnx.Expand(%v2, %v3)
        : (tensor<?x2x1x?x8xf32>, tensor<5xi64>) -> tensor<?x2x2x?x8xf32>
    %v5 = onnx.Concat(%v0, %h2, %v1, %d2) {axis = 0 : i64}
        : (tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<4xi64>
    %v6 = onnx.Reshape(%v4, %v5) {allowzero = 0 : i64}
        : (tensor<?x2x2x?x8xf32>, tensor<4xi64>) -> tensor<?x4x?x8xf32>
    %v7 = onnx.Shape(%vin) {end = 1 : i64, start = 0 : i64}
        : (tensor<?x2x?x8xf32>) -> tensor<1xi64>
    %v8 = onnx.Shape(%vin) {end = 3 : i64, start = 2 : i64}
        : (tensor<?x2x?x8xf32>) -> tensor<1xi64>
    %axis9 = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %n9 = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %r9 = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %d9 = onnx.Constant {value = dense<8> : tensor<1xi64>} : () -> tensor<1xi64>
    %h9 = onnx.Constant {value = dense<4> : tensor<1xi64>} : () -> tensor<1xi64>
    %v9 = onnx.Unsqueeze(%vin, %axis9)
        : (tensor<?x2x?x8xf32>, tensor<1xi64>) -> tensor<?x2x1x?x8xf32>
    %v10 = onnx.Concat(%v7, %n9, %r9, %v8, %d9) {axis = 0 : i64}
        : (tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<5xi64>
    %v11 = onnx.Expand(%v9, %v10)
        : (tensor<?x2x1x?x8xf32>, tensor<5xi64>) -> tensor<?x2x2x?x8xf32>
    %v12 = onnx.Concat(%v7, %h9, %v8, %d9) {axis = 0 : i64}
        : (tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<4xi64>
    %v13 = onnx.Reshape(%v11, %v12) {allowzero = 0 : i64}
        : (tensor<?x2x2x?x8xf32>, tensor<4xi64>) -> tensor<?x4x?x8xf32>
    %v14 = onnx.Transpose(%v6) {perm = array<i64: 0, 1, 3, 2>}
        : (tensor<?x4x?x8xf32>) -> tensor<?x4x8x?xf32>
    %half = onnx.Constant {value = dense<5.000000e-01> : tensor<f32>} : () -> tensor<f32>
    %v15 = onnx.Mul(%q, %half)
        : (tensor<?x4x?x8xf32>, tensor<f32>) -> tensor<?x4x?x8xf32>
    %quarter = onnx.Constant {value = dense<2.500000e-01> : tensor<f32>} : () -> tensor<f32>
    %v16 = onnx.Mul(%v14, %quarter)
        : (tensor<?x4x8x?xf32>, tensor<f32>) -> tensor<?x4x8x?xf32>
    %v17 = onnx.MatMul(%v15, %v16)
        : (tensor<?x4x?x8xf32>, tensor<?x4x8x?xf32>) -> tensor<?x4x?x?xf32>
    %v18 = onnx.Softmax(%v17) {axis = -1 : i64}
        : (tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xf32>
    // expected-remark @below {{fused 4 heads over 2 of keys}}
    %v19 = onnx.MatMul(%v18, %v13)
        : (tensor<?x4x?x?xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
    return %v19 : tensor<?x4x?x8xf32>
  }
}

// -----

// 
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x4x?x8xf32>, %vin: tensor<?x4x?x8xf32>, %m: tensor<?x1x?x?xf32>) -> tensor<?x4x?x8xf32> {
    %v0 = onnx.Transpose(%kin) {perm = array<i64: 0, 1, 3, 2>}
        : (tensor<?x4x?x8xf32>) -> tensor<?x4x8x?xf32>
    %half = onnx.Constant {value = dense<5.000000e-01> : tensor<f32>} : () -> tensor<f32>
    %v1 = onnx.Mul(%q, %half)
        : (tensor<?x4x?x8xf32>, tensor<f32>) -> tensor<?x4x?x8xf32>
    %quarter = onnx.Constant {value = dense<2.500000e-01> : tensor<f32>} : () -> tensor<f32>
    %v2 = onnx.Mul(%v0, %quarter)
        : (tensor<?x4x8x?xf32>, tensor<f32>) -> tensor<?x4x8x?xf32>
    %v3 = onnx.MatMul(%v1, %v2)
        : (tensor<?x4x?x8xf32>, tensor<?x4x8x?xf32>) -> tensor<?x4x?x?xf32>
    %v4 = onnx.Add(%v3, %m)
        : (tensor<?x4x?x?xf32>, tensor<?x1x?x?xf32>) -> tensor<?x4x?x?xf32>
    %v5 = onnx.Softmax(%v4) {axis = -1 : i64}
        : (tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xf32>
    // expected-remark @below {{fused 4 heads over 4 of keys, masked}}
    %v6 = onnx.MatMul(%v5, %vin)
        : (tensor<?x4x?x?xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
    return %v6 : tensor<?x4x?x8xf32>
  }
}

// -----

// 
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x4x?x8xf32>, %vin: tensor<?x4x?x8xf32>) -> (tensor<?x4x?x8xf32>, tensor<?x4x?x?xf32>) {
    %v0 = onnx.Transpose(%kin) {perm = array<i64: 0, 1, 3, 2>}
        : (tensor<?x4x?x8xf32>) -> tensor<?x4x8x?xf32>
    %half = onnx.Constant {value = dense<5.000000e-01> : tensor<f32>} : () -> tensor<f32>
    %v1 = onnx.Mul(%q, %half)
        : (tensor<?x4x?x8xf32>, tensor<f32>) -> tensor<?x4x?x8xf32>
    %quarter = onnx.Constant {value = dense<2.500000e-01> : tensor<f32>} : () -> tensor<f32>
    %v2 = onnx.Mul(%v0, %quarter)
        : (tensor<?x4x8x?xf32>, tensor<f32>) -> tensor<?x4x8x?xf32>
    %v3 = onnx.MatMul(%v1, %v2)
        : (tensor<?x4x?x8xf32>, tensor<?x4x8x?xf32>) -> tensor<?x4x?x?xf32>
    %v4 = onnx.Softmax(%v3) {axis = -1 : i64}
        : (tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xf32>
    // expected-remark @below {{left because the probabilities are used elsewhere too}}
    %v5 = onnx.MatMul(%v4, %vin)
        : (tensor<?x4x?x?xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
    return %v5, %v4 : tensor<?x4x?x8xf32>, tensor<?x4x?x?xf32>
  }
}

// -----

// 
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xbf16>, %kin: tensor<?x4x?x8xbf16>, %vin: tensor<?x4x?x8xbf16>) -> tensor<?x4x?x8xbf16> {
    %v0 = onnx.Transpose(%kin) {perm = array<i64: 0, 1, 3, 2>}
        : (tensor<?x4x?x8xbf16>) -> tensor<?x4x8x?xbf16>
    %half = onnx.Constant {value = dense<5.000000e-01> : tensor<bf16>} : () -> tensor<bf16>
    %v1 = onnx.Mul(%q, %half)
        : (tensor<?x4x?x8xbf16>, tensor<bf16>) -> tensor<?x4x?x8xbf16>
    %quarter = onnx.Constant {value = dense<2.500000e-01> : tensor<bf16>} : () -> tensor<bf16>
    %v2 = onnx.Mul(%v0, %quarter)
        : (tensor<?x4x8x?xbf16>, tensor<bf16>) -> tensor<?x4x8x?xbf16>
    %v3 = onnx.MatMul(%v1, %v2)
        : (tensor<?x4x?x8xbf16>, tensor<?x4x8x?xbf16>) -> tensor<?x4x?x?xbf16>
    %v4 = onnx.Softmax(%v3) {axis = -1 : i64}
        : (tensor<?x4x?x?xbf16>) -> tensor<?x4x?x?xbf16>
    // expected-remark @below {{left because attention in this element type is unsupported}}
    %v5 = onnx.MatMul(%v4, %vin)
        : (tensor<?x4x?x?xbf16>, tensor<?x4x?x8xbf16>) -> tensor<?x4x?x8xbf16>
    return %v5 : tensor<?x4x?x8xbf16>
  }
}

// -----

// 
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x4x?x8xf32>, %vin: tensor<?x4x?x8xf32>, %m: tensor<?x1x?x?xf32>) -> tensor<?x4x?x8xf32> {
    %v0 = onnx.Transpose(%kin) {perm = array<i64: 0, 1, 3, 2>}
        : (tensor<?x4x?x8xf32>) -> tensor<?x4x8x?xf32>
    %half = onnx.Constant {value = dense<5.000000e-01> : tensor<f32>} : () -> tensor<f32>
    %v1 = onnx.Mul(%q, %half)
        : (tensor<?x4x?x8xf32>, tensor<f32>) -> tensor<?x4x?x8xf32>
    %quarter = onnx.Constant {value = dense<2.500000e-01> : tensor<f32>} : () -> tensor<f32>
    %v2 = onnx.Mul(%v0, %quarter)
        : (tensor<?x4x8x?xf32>, tensor<f32>) -> tensor<?x4x8x?xf32>
    %v3 = onnx.MatMul(%v1, %v2)
        : (tensor<?x4x?x8xf32>, tensor<?x4x8x?xf32>) -> tensor<?x4x?x?xf32>
    %v4 = onnx.Add(%v3, %m)
        : (tensor<?x4x?x?xf32>, tensor<?x1x?x?xf32>) -> tensor<?x4x?x?xf32>
    %late = onnx.Constant {value = dense<2.000000e+00> : tensor<f32>} : () -> tensor<f32>
    %v5 = onnx.Mul(%v4, %late)
        : (tensor<?x4x?x?xf32>, tensor<f32>) -> tensor<?x4x?x?xf32>
    %v6 = onnx.Softmax(%v5) {axis = -1 : i64}
        : (tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xf32>
    // expected-remark @below {{left because the scores are scaled after the mask}}
    %v7 = onnx.MatMul(%v6, %vin)
        : (tensor<?x4x?x?xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
    return %v7 : tensor<?x4x?x8xf32>
  }
}

// -----

// 
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x4x?x8xf32>, %vin: tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32> {
    %v0 = onnx.Transpose(%kin) {perm = array<i64: 0, 1, 3, 2>}
        : (tensor<?x4x?x8xf32>) -> tensor<?x4x8x?xf32>
    %half = onnx.Constant {value = dense<5.000000e-01> : tensor<f32>} : () -> tensor<f32>
    %v1 = onnx.Mul(%q, %half)
        : (tensor<?x4x?x8xf32>, tensor<f32>) -> tensor<?x4x?x8xf32>
    %quarter = onnx.Constant {value = dense<2.500000e-01> : tensor<f32>} : () -> tensor<f32>
    %v2 = onnx.Mul(%v0, %quarter)
        : (tensor<?x4x8x?xf32>, tensor<f32>) -> tensor<?x4x8x?xf32>
    %v3 = onnx.MatMul(%v1, %v2)
        : (tensor<?x4x?x8xf32>, tensor<?x4x8x?xf32>) -> tensor<?x4x?x?xf32>
    %v4 = onnx.Tanh(%v3)
        : (tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xf32>
    %v5 = onnx.Softmax(%v4) {axis = -1 : i64}
        : (tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xf32>
    // expected-remark @below {{left because the scores are no masked, scaled product of queries and keys}}
    %v6 = onnx.MatMul(%v5, %vin)
        : (tensor<?x4x?x?xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
    return %v6 : tensor<?x4x?x8xf32>
  }
}

// -----

// 
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x?x?x8xf32>, %kin: tensor<?x?x?x8xf32>, %vin: tensor<?x?x?x8xf32>) -> tensor<?x?x?x8xf32> {
    %v0 = onnx.Transpose(%kin) {perm = array<i64: 0, 1, 3, 2>}
        : (tensor<?x?x?x8xf32>) -> tensor<?x?x8x?xf32>
    %half = onnx.Constant {value = dense<5.000000e-01> : tensor<f32>} : () -> tensor<f32>
    %v1 = onnx.Mul(%q, %half)
        : (tensor<?x?x?x8xf32>, tensor<f32>) -> tensor<?x?x?x8xf32>
    %quarter = onnx.Constant {value = dense<2.500000e-01> : tensor<f32>} : () -> tensor<f32>
    %v2 = onnx.Mul(%v0, %quarter)
        : (tensor<?x?x8x?xf32>, tensor<f32>) -> tensor<?x?x8x?xf32>
    %v3 = onnx.MatMul(%v1, %v2)
        : (tensor<?x?x?x8xf32>, tensor<?x?x8x?xf32>) -> tensor<?x?x?x?xf32>
    %v4 = onnx.Softmax(%v3) {axis = -1 : i64}
        : (tensor<?x?x?x?xf32>) -> tensor<?x?x?x?xf32>
    // expected-remark @below {{left because the numbers or sizes of the heads are not constant or do not fit}}
    %v5 = onnx.MatMul(%v4, %vin)
        : (tensor<?x?x?x?xf32>, tensor<?x?x?x8xf32>) -> tensor<?x?x?x8xf32>
    return %v5 : tensor<?x?x?x8xf32>
  }
}

// -----

// A softmax over another axis is no attention: no remark.
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x4x?x8xf32>, %vin: tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32> {
    %v0 = onnx.Transpose(%kin) {perm = array<i64: 0, 1, 3, 2>}
        : (tensor<?x4x?x8xf32>) -> tensor<?x4x8x?xf32>
    %half = onnx.Constant {value = dense<5.000000e-01> : tensor<f32>} : () -> tensor<f32>
    %v1 = onnx.Mul(%q, %half)
        : (tensor<?x4x?x8xf32>, tensor<f32>) -> tensor<?x4x?x8xf32>
    %quarter = onnx.Constant {value = dense<2.500000e-01> : tensor<f32>} : () -> tensor<f32>
    %v2 = onnx.Mul(%v0, %quarter)
        : (tensor<?x4x8x?xf32>, tensor<f32>) -> tensor<?x4x8x?xf32>
    %v3 = onnx.MatMul(%v1, %v2)
        : (tensor<?x4x?x8xf32>, tensor<?x4x8x?xf32>) -> tensor<?x4x?x?xf32>
    %v4 = onnx.Softmax(%v3) {axis = 1 : i64}
        : (tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xf32>
    %v5 = onnx.MatMul(%v4, %vin)
        : (tensor<?x4x?x?xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
    return %v5 : tensor<?x4x?x8xf32>
  }
}
