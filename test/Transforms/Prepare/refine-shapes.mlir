// RUN: moe-opt %s -split-input-file -refine-shapes | FileCheck %s

// CHECK: onnx.Reshape{{.*}} -> tensor<?x?x8x32xf32>
// CHECK: onnx.Transpose{{.*}} -> tensor<?x8x?x32xf32>
// CHECK: onnx.Mul{{.*}} -> tensor<?x8x?x32xf32>
// 
// The type of a result of the function stays.
// 
// CHECK: onnx.Neg{{.*}} -> tensor<?x?x?x32xf32>
module {
  moe.weights @weights {
  }
  func.func @main(%x: tensor<?x?x256xf32>, %c: tensor<1x1x?x32xf32>) -> tensor<?x?x?x32xf32> {
    %v0 = onnx.Shape(%x) {end = 1 : i64, start = 0 : i64}
        : (tensor<?x?x256xf32>) -> tensor<1xi64>
    %v1 = onnx.Shape(%x) {end = 2 : i64, start = 1 : i64}
        : (tensor<?x?x256xf32>) -> tensor<1xi64>
    %m = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %d = onnx.Constant {value = dense<32> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2 = onnx.Concat(%v0, %v1, %m, %d) {axis = 0 : i64}
        : (tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<4xi64>
    %v3 = onnx.Reshape(%x, %v2) {allowzero = 0 : i64}
        : (tensor<?x?x256xf32>, tensor<4xi64>) -> tensor<?x?x?x32xf32>
    %v4 = onnx.Transpose(%v3) {perm = array<i64: 0, 2, 1, 3>}
        : (tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
    %v5 = onnx.Mul(%v4, %c)
        : (tensor<?x?x?x32xf32>, tensor<1x1x?x32xf32>) -> tensor<?x?x?x32xf32>
    %v6 = onnx.Neg(%v5)
        : (tensor<?x?x?x32xf32>) -> tensor<?x?x?x32xf32>
    return %v6 : tensor<?x?x?x32xf32>
  }
}

// -----

// Batch and heads together: no number.
// 
// CHECK: onnx.Reshape{{.*}} -> tensor<?x?x32xf32>
module {
  moe.weights @weights {
  }
  func.func @main(%x: tensor<?x?x256xf32>) -> tensor<?x?x32xf32> {
    %v0 = onnx.Shape(%x) {end = 1 : i64, start = 0 : i64}
        : (tensor<?x?x256xf32>) -> tensor<1xi64>
    %v1 = onnx.Shape(%x) {end = 2 : i64, start = 1 : i64}
        : (tensor<?x?x256xf32>) -> tensor<1xi64>
    %m = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %d = onnx.Constant {value = dense<32> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2 = onnx.Concat(%m, %v1, %d) {axis = 0 : i64}
        : (tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<3xi64>
    %v3 = onnx.Reshape(%x, %v2) {allowzero = 0 : i64}
        : (tensor<?x?x256xf32>, tensor<3xi64>) -> tensor<?x?x32xf32>
    %v4 = onnx.Neg(%v3)
        : (tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
    return %v4 : tensor<?x?x32xf32>
  }
}

// -----

// A contributed rotation keeps the shape.
//
// CHECK: onnx.custom{{.*}} -> tensor<?x?x256xf32>
module {
  moe.weights @weights {
  }
  func.func @main(%x: tensor<?x?x256xf32>, %p: tensor<?x?xi64>, %c: tensor<64x16xf32>) -> tensor<?x?x256xf32> {
    %y = onnx.custom(%x, %p, %c, %c) {attributes = {num_heads = 8 : i64}, domain = "com.microsoft", op_type = "RotaryEmbedding"}
        : (tensor<?x?x256xf32>, tensor<?x?xi64>, tensor<64x16xf32>, tensor<64x16xf32>) -> tensor<?x?x?xf32>
    %z = onnx.Neg(%y) : (tensor<?x?x?xf32>) -> tensor<?x?x256xf32>
    return %z : tensor<?x?x256xf32>
  }
}

// -----

// Batch and length were joined; inputs with a dimension of one name have one size.
//
// CHECK: %[[JOINED:.*]] = onnx.Relu{{.*}} -> tensor<?x8xf32>
// CHECK: onnx.Reshape(%[[JOINED]]{{.*}} -> tensor<?x?x8xf32>
module {
  moe.weights @weights {
  }
  func.func @main(%x: tensor<?x?x8xf32> {onnx.dims = ["b", "s", ""]}, %m: tensor<?x3xf32> {onnx.dims = ["b", ""]}) -> tensor<?x?x?xf32> {
    %rows = onnx.Constant {value = dense<[-1, 8]> : tensor<2xi64>} : () -> tensor<2xi64>
    %v0 = onnx.Reshape(%x, %rows) {allowzero = 1 : i64}
        : (tensor<?x?x8xf32>, tensor<2xi64>) -> tensor<?x8xf32>
    %v1 = onnx.Relu(%v0) : (tensor<?x8xf32>) -> tensor<?x8xf32>
    %b = onnx.Shape(%m) {end = 1 : i64, start = 0 : i64} : (tensor<?x3xf32>) -> tensor<1xi64>
    %s = onnx.Shape(%x) {end = 2 : i64, start = 1 : i64} : (tensor<?x?x8xf32>) -> tensor<1xi64>
    %rest = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %to = onnx.Concat(%b, %s, %rest) {axis = 0 : i64}
        : (tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<3xi64>
    %v2 = onnx.Reshape(%v1, %to) {allowzero = 1 : i64}
        : (tensor<?x8xf32>, tensor<3xi64>) -> tensor<?x?x?xf32>
    %v3 = onnx.Neg(%v2) : (tensor<?x?x?xf32>) -> tensor<?x?x?xf32>
    return %v3 : tensor<?x?x?xf32>
  }
}

// -----

// Of other names they need not.
//
// CHECK: onnx.Reshape{{.*}} -> tensor<?x8xf32>
// CHECK: onnx.Reshape{{.*}} -> tensor<?x?x?xf32>
module {
  moe.weights @weights {
  }
  func.func @main(%x: tensor<?x?x8xf32> {onnx.dims = ["b", "s", ""]}, %m: tensor<?x3xf32> {onnx.dims = ["c", ""]}) -> tensor<?x?x?xf32> {
    %rows = onnx.Constant {value = dense<[-1, 8]> : tensor<2xi64>} : () -> tensor<2xi64>
    %v0 = onnx.Reshape(%x, %rows) {allowzero = 1 : i64}
        : (tensor<?x?x8xf32>, tensor<2xi64>) -> tensor<?x8xf32>
    %b = onnx.Shape(%m) {end = 1 : i64, start = 0 : i64} : (tensor<?x3xf32>) -> tensor<1xi64>
    %s = onnx.Shape(%x) {end = 2 : i64, start = 1 : i64} : (tensor<?x?x8xf32>) -> tensor<1xi64>
    %rest = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %to = onnx.Concat(%b, %s, %rest) {axis = 0 : i64}
        : (tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<3xi64>
    %v1 = onnx.Reshape(%v0, %to) {allowzero = 1 : i64}
        : (tensor<?x8xf32>, tensor<3xi64>) -> tensor<?x?x?xf32>
    %v2 = onnx.Neg(%v1) : (tensor<?x?x?xf32>) -> tensor<?x?x?xf32>
    return %v2 : tensor<?x?x?xf32>
  }
}
