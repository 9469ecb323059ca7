// RUN: moe-opt %s -split-input-file -decompose-onnx -fold-weights | FileCheck %s

// The experts are batch axes: the parameter keeps its layout.
//
// CHECK-LABEL: func.func @main
// CHECK: %[[W:.*]] = moe.weight.use @w : tensor<4x8x6xf32>
// CHECK: %[[Y:.*]] = onnx.MatMul(%arg0, %[[W]]) : (tensor<?x8xf32>, tensor<4x8x6xf32>) -> tensor<4x?x6xf32>
// CHECK: onnx.Transpose(%[[Y]]) {perm = array<i64: 1, 0, 2>}
// CHECK-NOT: onnx.Einsum
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<4x8x6xf32>
    moe.weight.bind @w %w0 : tensor<4x8x6xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x4x6xf32> {
    %w = moe.weight.use @w : tensor<4x8x6xf32>
    %y = onnx.Einsum(%x, %w) {equation = "th, ehi -> tei"}
        : (tensor<?x8xf32>, tensor<4x8x6xf32>) -> tensor<?x4x6xf32>
    return %y : tensor<?x4x6xf32>
  }
}

// -----

// Two contracted labels are one axis; the parameter's reshape is folded.
//
// CHECK-LABEL: func.func @main
// CHECK: %[[X:.*]] = onnx.Reshape(%arg0, %{{.*}}) {allowzero = 1 : i64}
// CHECK: %[[W:.*]] = moe.weight.use @{{.*}} : tensor<8x6xf32>
// CHECK: onnx.MatMul(%[[X]], %[[W]]) : (tensor<?x8xf32>, tensor<8x6xf32>) -> tensor<?x6xf32>
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<4x2x6xf32>
    moe.weight.bind @w %w0 : tensor<4x2x6xf32>
  }
  func.func @main(%x: tensor<?x4x2xf32>) -> tensor<?x6xf32> {
    %w = moe.weight.use @w : tensor<4x2x6xf32>
    %y = onnx.Einsum(%x, %w) {equation = "ter,erh->th"}
        : (tensor<?x4x2xf32>, tensor<4x2x6xf32>) -> tensor<?x6xf32>
    return %y : tensor<?x6xf32>
  }
}

// -----

// Nothing is contracted.
//
// CHECK-LABEL: func.func @main
// CHECK-NOT: onnx.MatMul
// CHECK: onnx.Mul({{.*}}) : (tensor<?x?x1xf32>, tensor<?x1x?xf32>) -> tensor<?x?x?xf32>
module {
  moe.weights @weights {
  }
  func.func @main(%x: tensor<?x?xf32>, %z: tensor<?x?xf32>) -> tensor<?x?x?xf32> {
    %y = onnx.Einsum(%x, %z) {equation = "se,sc->sec"}
        : (tensor<?x?xf32>, tensor<?x?xf32>) -> tensor<?x?x?xf32>
    return %y : tensor<?x?x?xf32>
  }
}

// -----

// A diagonal stays when its size is not known; an ellipsis stands for axes like others.
//
// CHECK-LABEL: func.func @main
// CHECK: onnx.Einsum
// CHECK-NOT: onnx.Einsum
// CHECK: onnx.Transpose
module {
  moe.weights @weights {
  }
  func.func @main(%x: tensor<?x?xf32>) -> (tensor<?xf32>, tensor<?x?xf32>) {
    %y = onnx.Einsum(%x) {equation = "ii->i"} : (tensor<?x?xf32>) -> tensor<?xf32>
    %z = onnx.Einsum(%x) {equation = "...i->i..."} : (tensor<?x?xf32>) -> tensor<?x?xf32>
    return %y, %z : tensor<?xf32>, tensor<?x?xf32>
  }
}
