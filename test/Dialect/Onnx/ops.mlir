// RUN: moe-opt %s | FileCheck %s
// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s

// CHECK-LABEL: func.func @plain
// CHECK-SAME: (%[[X:.*]]: tensor<?x8xf32>
func.func @plain(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // CHECK: onnx.Gelu(%[[X]]) {approximate = "none"} : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %0 = onnx.Gelu(%x) {approximate = "none"} : (tensor<?x8xf32>) -> tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}

// CHECK-LABEL: func.func @no_operands
func.func @no_operands() -> tensor<2xi64> {
  // CHECK: onnx.Constant {value = dense<[2, 4]> : tensor<2xi64>} : () -> tensor<2xi64>
  %0 = onnx.Constant {value = dense<[2, 4]> : tensor<2xi64>} : () -> tensor<2xi64>
  return %0 : tensor<2xi64>
}

// Empty parentheses are read too.
// CHECK-LABEL: func.func @empty_parentheses
func.func @empty_parentheses() -> tensor<i1> {
  // CHECK: onnx.Constant {value = dense<true> : tensor<i1>} : () -> tensor<i1>
  %0 = onnx.Constant() {value = dense<true> : tensor<i1>} : () -> tensor<i1>
  return %0 : tensor<i1>
}

// CHECK-LABEL: func.func @absent_input
func.func @absent_input(%x: tensor<4xf32>, %hi: tensor<f32>) -> tensor<4xf32> {
  // CHECK: %[[NONE:.*]] = onnx.none : () -> none
  %none = onnx.none : () -> none
  // CHECK: onnx.Clip(%{{.*}}, %[[NONE]], %{{.*}}) : (tensor<4xf32>, none, tensor<f32>) -> tensor<4xf32>
  %0 = onnx.Clip(%x, %none, %hi) : (tensor<4xf32>, none, tensor<f32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// CHECK-LABEL: func.func @several_results
func.func @several_results(%x: tensor<?x8xf32>, %k: tensor<1xi64>) -> tensor<?x2xi64> {
  // CHECK: %{{.*}}, %{{.*}} = onnx.TopK(%{{.*}}, %{{.*}}) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
  %v, %i = onnx.TopK(%x, %k) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
      : (tensor<?x8xf32>, tensor<1xi64>) -> (tensor<?x2xf32>, tensor<?x2xi64>)
  return %i : tensor<?x2xi64>
}

// CHECK-LABEL: func.func @attributes
func.func @attributes(%x: tensor<2x3xf32>) -> tensor<3x2xf32> {
  // CHECK: onnx.Transpose(%{{.*}}) {perm = array<i64: 1, 0>}
  %0 = onnx.Transpose(%x) {perm = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}

// CHECK-LABEL: func.func @branches
func.func @branches(%c: tensor<i1>, %x: tensor<4xf32>) -> tensor<4xf32> {
  // CHECK: onnx.If(%{{.*}}) ({
  // CHECK-NEXT: %[[N:.*]] = onnx.Neg
  // CHECK-NEXT: onnx.yield(%[[N]]) : (tensor<4xf32>) -> ()
  // CHECK-NEXT: }, {
  // CHECK-NEXT: onnx.yield(%{{.*}}) : (tensor<4xf32>) -> ()
  // CHECK-NEXT: }) : (tensor<i1>) -> tensor<4xf32>
  %0 = onnx.If(%c) ({
    %1 = onnx.Neg(%x) : (tensor<4xf32>) -> tensor<4xf32>
    onnx.yield(%1) : (tensor<4xf32>) -> ()
  }, {
    onnx.yield(%x) : (tensor<4xf32>) -> ()
  }) : (tensor<i1>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// CHECK-LABEL: func.func @loop
func.func @loop(%n: tensor<i64>, %x: tensor<4xf32>) -> tensor<?x4xf32> {
  %none = onnx.none : () -> none
  // CHECK: onnx.Loop(%{{.*}}, %{{.*}}, %{{.*}}) ({
  // CHECK-NEXT: ^bb0(%{{.*}}: tensor<i64>, %{{.*}}: tensor<i1>, %{{.*}}: tensor<4xf32>):
  %0, %1 = onnx.Loop(%n, %none, %x) ({
  ^bb0(%i: tensor<i64>, %c: tensor<i1>, %state: tensor<4xf32>):
    %2 = onnx.Neg(%state) : (tensor<4xf32>) -> tensor<4xf32>
    onnx.yield(%c, %2, %2) : (tensor<i1>, tensor<4xf32>, tensor<4xf32>) -> ()
  }) : (tensor<i64>, none, tensor<4xf32>) -> (tensor<4xf32>, tensor<?x4xf32>)
  return %1 : tensor<?x4xf32>
}

// CHECK-LABEL: func.func @custom
func.func @custom(%x: tensor<2x8xf32>, %g: tensor<8xf32>) -> tensor<2x8xf32> {
  // CHECK: onnx.custom(%{{.*}}, %{{.*}}) {attributes = {epsilon = {{.*}} : f32}, domain = "com.microsoft", op_type = "SimplifiedLayerNormalization"}
  %0 = onnx.custom(%x, %g) {attributes = {epsilon = 1.0e-05 : f32}, domain = "com.microsoft",
           op_type = "SimplifiedLayerNormalization"}
      : (tensor<2x8xf32>, tensor<8xf32>) -> tensor<2x8xf32>
  return %0 : tensor<2x8xf32>
}

// Attributes with a default are filled in.
// CHECK-LABEL: func.func @unranked
func.func @unranked(%x: tensor<*xf16>) -> tensor<*xf32> {
  // CHECK: onnx.Cast(%{{.*}}) {round_mode = "up", saturate = 1 : i64, to = 1 : i64} : (tensor<*xf16>) -> tensor<*xf32>
  %0 = onnx.Cast(%x) {to = 1 : i64} : (tensor<*xf16>) -> tensor<*xf32>
  return %0 : tensor<*xf32>
}
