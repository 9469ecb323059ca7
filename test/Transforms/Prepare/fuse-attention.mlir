// RUN: moe-opt %s -split-input-file -fuse-attention 2>/dev/null | FileCheck %s

// Factors on queries and keys; keys transposed by a permutation.
// 
// CHECK: func.func @main(%[[Q:.*]]: tensor<?x4x?x8xf32>, %[[K:.*]]: tensor<?x4x?x8xf32>, %[[V:.*]]: tensor<?x4x?x8xf32>, %[[M:.*]]: tensor<?x1x?x?xf32>)
// CHECK: onnx.Attention(%[[Q]], %[[K]], %[[V]], %[[M]], %{{.*}}, %{{.*}}, %{{.*}}) {{{.*}}scale = 1.250000e-01
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
    %v6 = onnx.MatMul(%v5, %vin)
        : (tensor<?x4x?x?xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
    return %v6 : tensor<?x4x?x8xf32>
  }
}

// -----

// Keys transposed by reshapes, no mask, one division.
// 
// CHECK: %[[NONE:.*]] = onnx.none
// CHECK: onnx.Attention(%arg0, %arg1, %arg2, %[[NONE]]
// CHECK-SAME: scale = 1.250000e-01
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x4x?x8xf32>, %vin: tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32> {
    %v0 = onnx.Shape(%kin) {start = 0 : i64}
        : (tensor<?x4x?x8xf32>) -> tensor<4xi64>
    %m1 = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %g1 = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %v1 = onnx.Gather(%v0, %g1) {axis = 0 : i64}
        : (tensor<4xi64>, tensor<1xi64>) -> tensor<1xi64>
    %g2 = onnx.Constant {value = dense<3> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2 = onnx.Gather(%v0, %g2) {axis = 0 : i64}
        : (tensor<4xi64>, tensor<1xi64>) -> tensor<1xi64>
    %v3 = onnx.Concat(%m1, %v1, %v2) {axis = 0 : i64}
        : (tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<3xi64>
    %v4 = onnx.Reshape(%kin, %v3) {allowzero = 0 : i64}
        : (tensor<?x4x?x8xf32>, tensor<3xi64>) -> tensor<?x?x8xf32>
    %v5 = onnx.Transpose(%v4) {perm = array<i64: 0, 2, 1>}
        : (tensor<?x?x8xf32>) -> tensor<?x8x?xf32>
    %g6 = onnx.Constant {value = dense<0> : tensor<1xi64>} : () -> tensor<1xi64>
    %v6 = onnx.Gather(%v0, %g6) {axis = 0 : i64}
        : (tensor<4xi64>, tensor<1xi64>) -> tensor<1xi64>
    %g7 = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v7 = onnx.Gather(%v0, %g7) {axis = 0 : i64}
        : (tensor<4xi64>, tensor<1xi64>) -> tensor<1xi64>
    %v8 = onnx.Concat(%v6, %v7, %v2, %v1) {axis = 0 : i64}
        : (tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<4xi64>
    %v9 = onnx.Reshape(%v5, %v8) {allowzero = 0 : i64}
        : (tensor<?x8x?xf32>, tensor<4xi64>) -> tensor<?x4x8x?xf32>
    %v10 = onnx.MatMul(%q, %v9)
        : (tensor<?x4x?x8xf32>, tensor<?x4x8x?xf32>) -> tensor<?x4x?x?xf32>
    %eight = onnx.Constant {value = dense<8.000000e+00> : tensor<f32>} : () -> tensor<f32>
    %v11 = onnx.Div(%v10, %eight)
        : (tensor<?x4x?x?xf32>, tensor<f32>) -> tensor<?x4x?x?xf32>
    %v12 = onnx.Softmax(%v11) {axis = -1 : i64}
        : (tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xf32>
    %v13 = onnx.MatMul(%v12, %vin)
        : (tensor<?x4x?x?xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
    return %v13 : tensor<?x4x?x8xf32>
  }
}

// -----

// Keys that come transposed.
// 
// CHECK: %[[K:.*]] = onnx.Transpose(%arg1) {perm = array<i64: 0, 1, 3, 2>}
// CHECK: onnx.Attention(%arg0, %[[K]], %arg2
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kt: tensor<?x4x8x?xf32>, %vin: tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32> {
    %half = onnx.Constant {value = dense<5.000000e-01> : tensor<f32>} : () -> tensor<f32>
    %v0 = onnx.Mul(%q, %half)
        : (tensor<?x4x?x8xf32>, tensor<f32>) -> tensor<?x4x?x8xf32>
    %quarter = onnx.Constant {value = dense<2.500000e-01> : tensor<f32>} : () -> tensor<f32>
    %v1 = onnx.Mul(%kt, %quarter)
        : (tensor<?x4x8x?xf32>, tensor<f32>) -> tensor<?x4x8x?xf32>
    %v2 = onnx.MatMul(%v0, %v1)
        : (tensor<?x4x?x8xf32>, tensor<?x4x8x?xf32>) -> tensor<?x4x?x?xf32>
    %v3 = onnx.Softmax(%v2) {axis = -1 : i64}
        : (tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xf32>
    %v4 = onnx.MatMul(%v3, %vin)
        : (tensor<?x4x?x?xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
    return %v4 : tensor<?x4x?x8xf32>
  }
}

// -----

// Grouped queries: the heads before they are repeated.
// 
// CHECK-NOT: onnx.Expand
// CHECK: onnx.Attention(%arg0, %arg1, %arg2
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
    %v14 = onnx.Shape(%v6) {start = 0 : i64}
        : (tensor<?x4x?x8xf32>) -> tensor<4xi64>
    %m1 = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %g15 = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %v15 = onnx.Gather(%v14, %g15) {axis = 0 : i64}
        : (tensor<4xi64>, tensor<1xi64>) -> tensor<1xi64>
    %g16 = onnx.Constant {value = dense<3> : tensor<1xi64>} : () -> tensor<1xi64>
    %v16 = onnx.Gather(%v14, %g16) {axis = 0 : i64}
        : (tensor<4xi64>, tensor<1xi64>) -> tensor<1xi64>
    %v17 = onnx.Concat(%m1, %v15, %v16) {axis = 0 : i64}
        : (tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<3xi64>
    %v18 = onnx.Reshape(%v6, %v17) {allowzero = 0 : i64}
        : (tensor<?x4x?x8xf32>, tensor<3xi64>) -> tensor<?x?x8xf32>
    %v19 = onnx.Transpose(%v18) {perm = array<i64: 0, 2, 1>}
        : (tensor<?x?x8xf32>) -> tensor<?x8x?xf32>
    %g20 = onnx.Constant {value = dense<0> : tensor<1xi64>} : () -> tensor<1xi64>
    %v20 = onnx.Gather(%v14, %g20) {axis = 0 : i64}
        : (tensor<4xi64>, tensor<1xi64>) -> tensor<1xi64>
    %g21 = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v21 = onnx.Gather(%v14, %g21) {axis = 0 : i64}
        : (tensor<4xi64>, tensor<1xi64>) -> tensor<1xi64>
    %v22 = onnx.Concat(%v20, %v21, %v16, %v15) {axis = 0 : i64}
        : (tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<4xi64>
    %v23 = onnx.Reshape(%v19, %v22) {allowzero = 0 : i64}
        : (tensor<?x8x?xf32>, tensor<4xi64>) -> tensor<?x4x8x?xf32>
    %half = onnx.Constant {value = dense<5.000000e-01> : tensor<f32>} : () -> tensor<f32>
    %v24 = onnx.Mul(%q, %half)
        : (tensor<?x4x?x8xf32>, tensor<f32>) -> tensor<?x4x?x8xf32>
    %quarter = onnx.Constant {value = dense<2.500000e-01> : tensor<f32>} : () -> tensor<f32>
    %v25 = onnx.Mul(%v23, %quarter)
        : (tensor<?x4x8x?xf32>, tensor<f32>) -> tensor<?x4x8x?xf32>
    %v26 = onnx.MatMul(%v24, %v25)
        : (tensor<?x4x?x8xf32>, tensor<?x4x8x?xf32>) -> tensor<?x4x?x?xf32>
    %v27 = onnx.Softmax(%v26) {axis = -1 : i64}
        : (tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xf32>
    %v28 = onnx.MatMul(%v27, %v13)
        : (tensor<?x4x?x?xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
    return %v28 : tensor<?x4x?x8xf32>
  }
}

// -----

// Batch and length might change places in the reshape: the heads stay repeated.
// 
// CHECK: onnx.Expand
// CHECK: onnx.Attention(%arg0, %{{[0-9]+}}, %{{[0-9]+}}
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
    %v5 = onnx.Concat(%v1, %h2, %v0, %d2) {axis = 0 : i64}
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
    %v12 = onnx.Concat(%v8, %h9, %v7, %d9) {axis = 0 : i64}
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
    %v19 = onnx.MatMul(%v18, %v13)
        : (tensor<?x4x?x?xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
    return %v19 : tensor<?x4x?x8xf32>
  }
}

// -----

// A condition with -inf is a boolean mask.
// 
// CHECK: %[[M:.*]] = onnx.Unsqueeze(%arg3
// CHECK: onnx.Attention(%arg0, %arg1, %arg2, %[[M]]{{.*}}tensor<1x1x?x?xi1>
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x4x?x8xf32>, %vin: tensor<?x4x?x8xf32>, %m: tensor<?x?xi1>) -> tensor<?x4x?x8xf32> {
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
    %low = onnx.Constant {value = dense<0xFF800000> : tensor<f32>} : () -> tensor<f32>
    %v4 = onnx.Where(%m, %v3, %low)
        : (tensor<?x?xi1>, tensor<?x4x?x?xf32>, tensor<f32>) -> tensor<?x4x?x?xf32>
    %v5 = onnx.Softmax(%v4) {axis = -1 : i64}
        : (tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xf32>
    %v6 = onnx.MatMul(%v5, %vin)
        : (tensor<?x4x?x?xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
    return %v6 : tensor<?x4x?x8xf32>
  }
}

// -----

// CHECK: %[[N:.*]] = onnx.Not(%arg3)
// CHECK: %[[M:.*]] = onnx.Unsqueeze(%[[N]]
// CHECK: onnx.Attention(%arg0, %arg1, %arg2, %[[M]]
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x4x?x8xf32>, %vin: tensor<?x4x?x8xf32>, %m: tensor<?x?xi1>) -> tensor<?x4x?x8xf32> {
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
    %low = onnx.Constant {value = dense<0xFF800000> : tensor<f32>} : () -> tensor<f32>
    %v4 = onnx.Where(%m, %low, %v3)
        : (tensor<?x?xi1>, tensor<f32>, tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xf32>
    %v5 = onnx.Softmax(%v4) {axis = -1 : i64}
        : (tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xf32>
    %v6 = onnx.MatMul(%v5, %vin)
        : (tensor<?x4x?x?xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
    return %v6 : tensor<?x4x?x8xf32>
  }
}

// -----

// One with a finite number is added.
// 
// CHECK: %[[W:.*]] = onnx.Where(%arg3
// CHECK: %[[M:.*]] = onnx.Unsqueeze(%[[W]]
// CHECK: onnx.Attention(%arg0, %arg1, %arg2, %[[M]]{{.*}}tensor<1x1x?x?xf32>
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x4x?x8xf32>, %vin: tensor<?x4x?x8xf32>, %m: tensor<?x?xi1>) -> tensor<?x4x?x8xf32> {
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
    %low = onnx.Constant {value = dense<-3.40282347E+38> : tensor<f32>} : () -> tensor<f32>
    %v4 = onnx.Where(%m, %v3, %low)
        : (tensor<?x?xi1>, tensor<?x4x?x?xf32>, tensor<f32>) -> tensor<?x4x?x?xf32>
    %v5 = onnx.Softmax(%v4) {axis = -1 : i64}
        : (tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xf32>
    %v6 = onnx.MatMul(%v5, %vin)
        : (tensor<?x4x?x?xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
    return %v6 : tensor<?x4x?x8xf32>
  }
}

// -----

// A mask with one row for all queries is repeated.
// 
// CHECK: %[[M:.*]] = onnx.Expand(%arg3
// CHECK: onnx.Attention(%arg0, %arg1, %arg2, %[[M]]
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x4x?x8xf32>, %vin: tensor<?x4x?x8xf32>, %m: tensor<?x1x1x?xf32>) -> tensor<?x4x?x8xf32> {
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
        : (tensor<?x4x?x?xf32>, tensor<?x1x1x?xf32>) -> tensor<?x4x?x?xf32>
    %v5 = onnx.Softmax(%v4) {axis = -1 : i64}
        : (tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xf32>
    %v6 = onnx.MatMul(%v5, %vin)
        : (tensor<?x4x?x?xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
    return %v6 : tensor<?x4x?x8xf32>
  }
}

// -----

// The guard of the probabilities moves to the result.
// 
// CHECK: %[[Y:[^,]*]], {{.*}} = onnx.Attention
// CHECK: %[[NAN:.*]] = onnx.IsNaN(%[[Y]])
// CHECK: onnx.Where(%[[NAN]], %{{.*}}, %[[Y]])
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf32>, %kin: tensor<?x4x?x8xf32>, %vin: tensor<?x4x?x8xf32>, %m: tensor<?x?xi1>) -> tensor<?x4x?x8xf32> {
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
    %low = onnx.Constant {value = dense<0xFF800000> : tensor<f32>} : () -> tensor<f32>
    %v4 = onnx.Where(%m, %v3, %low)
        : (tensor<?x?xi1>, tensor<?x4x?x?xf32>, tensor<f32>) -> tensor<?x4x?x?xf32>
    %v5 = onnx.Softmax(%v4) {axis = -1 : i64}
        : (tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xf32>
    %v6 = onnx.IsNaN(%v5)
        : (tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xi1>
    %zero = onnx.Constant {value = dense<0.000000e+00> : tensor<f32>} : () -> tensor<f32>
    %v7 = onnx.Where(%v6, %zero, %v5)
        : (tensor<?x4x?x?xi1>, tensor<f32>, tensor<?x4x?x?xf32>) -> tensor<?x4x?x?xf32>
    %v8 = onnx.MatMul(%v7, %vin)
        : (tensor<?x4x?x?xf32>, tensor<?x4x?x8xf32>) -> tensor<?x4x?x8xf32>
    return %v8 : tensor<?x4x?x8xf32>
  }
}

// -----

// CHECK: onnx.Attention({{.*}}f16
module {
  moe.weights @weights {
  }
  func.func @main(%q: tensor<?x4x?x8xf16>, %kin: tensor<?x4x?x8xf16>, %vin: tensor<?x4x?x8xf16>, %m: tensor<?x1x?x?xf16>) -> tensor<?x4x?x8xf16> {
    %v0 = onnx.Transpose(%kin) {perm = array<i64: 0, 1, 3, 2>}
        : (tensor<?x4x?x8xf16>) -> tensor<?x4x8x?xf16>
    %half = onnx.Constant {value = dense<5.000000e-01> : tensor<f16>} : () -> tensor<f16>
    %v1 = onnx.Mul(%q, %half)
        : (tensor<?x4x?x8xf16>, tensor<f16>) -> tensor<?x4x?x8xf16>
    %quarter = onnx.Constant {value = dense<2.500000e-01> : tensor<f16>} : () -> tensor<f16>
    %v2 = onnx.Mul(%v0, %quarter)
        : (tensor<?x4x8x?xf16>, tensor<f16>) -> tensor<?x4x8x?xf16>
    %v3 = onnx.MatMul(%v1, %v2)
        : (tensor<?x4x?x8xf16>, tensor<?x4x8x?xf16>) -> tensor<?x4x?x?xf16>
    %v4 = onnx.Add(%v3, %m)
        : (tensor<?x4x?x?xf16>, tensor<?x1x?x?xf16>) -> tensor<?x4x?x?xf16>
    %v5 = onnx.Softmax(%v4) {axis = -1 : i64}
        : (tensor<?x4x?x?xf16>) -> tensor<?x4x?x?xf16>
    %v6 = onnx.MatMul(%v5, %vin)
        : (tensor<?x4x?x?xf16>, tensor<?x4x?x8xf16>) -> tensor<?x4x?x8xf16>
    return %v6 : tensor<?x4x?x8xf16>
  }
}
