// RUN: moe-opt %s -split-input-file -decompose-quantised | FileCheck %s

// The weight is centred by a DequantizeLinear, which folds into it; f32 holds a sum of 256 terms.
// CHECK-LABEL: @integers
// CHECK: %[[X:.*]] = onnx.DequantizeLinear(%arg0, %{{.*}}, %{{.*}}) {{.*}} -> tensor<?x256xf32>
// CHECK: %[[W:.*]] = onnx.DequantizeLinear(%arg1, %{{.*}}, %{{.*}}) {{.*}} -> tensor<256x8xf32>
// CHECK: %[[Y:.*]] = onnx.MatMul(%[[X]], %[[W]])
// CHECK: onnx.Cast(%[[Y]]) {{.*}} -> tensor<?x8xi32>
// CHECK-NOT: onnx.MatMul
func.func @integers(%x: tensor<?x256xui8>, %w: tensor<256x8xi8>, %zx: tensor<ui8>, %zw: tensor<8xi8>) -> tensor<?x8xi32> {
  %y = onnx.MatMulInteger(%x, %w, %zx, %zw) : (tensor<?x256xui8>, tensor<256x8xi8>, tensor<ui8>, tensor<8xi8>) -> tensor<?x8xi32>
  return %y : tensor<?x8xi32>
}

// -----

// More terms: parts of 256, added as integers.
// CHECK-LABEL: @parts
// CHECK-COUNT-3: onnx.MatMul
// CHECK: onnx.Add({{.*}}) : (tensor<2x8xi32>, tensor<2x8xi32>)
func.func @parts(%x: tensor<2x600xui8>, %w: tensor<600x8xui8>) -> tensor<2x8xi32> {
  %none = onnx.none() : () -> none
  %y = onnx.MatMulInteger(%x, %w, %none, %none) : (tensor<2x600xui8>, tensor<600x8xui8>, none, none) -> tensor<2x8xi32>
  return %y : tensor<2x8xi32>
}

// -----

// CHECK-LABEL: @linear
// CHECK: onnx.MatMul
// CHECK: onnx.QuantizeLinear({{.*}}) {{.*}} -> tensor<2x8xui8>
func.func @linear(%x: tensor<2x4xui8>, %sx: tensor<f32>, %zx: tensor<ui8>, %w: tensor<4x8xui8>, %sw: tensor<f32>, %zw: tensor<ui8>, %sy: tensor<f32>, %zy: tensor<ui8>) -> tensor<2x8xui8> {
  %y = onnx.QLinearMatMul(%x, %sx, %zx, %w, %sw, %zw, %sy, %zy) : (tensor<2x4xui8>, tensor<f32>, tensor<ui8>, tensor<4x8xui8>, tensor<f32>, tensor<ui8>, tensor<f32>, tensor<ui8>) -> tensor<2x8xui8>
  return %y : tensor<2x8xui8>
}

// -----

// CHECK-LABEL: @dynamic
// CHECK-DAG: onnx.ReduceMin
// CHECK-DAG: onnx.ReduceMax
// CHECK: onnx.QuantizeLinear(%arg0
func.func @dynamic(%x: tensor<?x4xf32>) -> (tensor<?x4xui8>, tensor<f32>, tensor<ui8>) {
  %y, %s, %z = onnx.DynamicQuantizeLinear(%x) : (tensor<?x4xf32>) -> (tensor<?x4xui8>, tensor<f32>, tensor<ui8>)
  return %y, %s, %z : tensor<?x4xui8>, tensor<f32>, tensor<ui8>
}

// -----

// A matrix of zero points is none that the operator has.
// CHECK-LABEL: @kept
// CHECK: onnx.MatMulInteger
func.func @kept(%x: tensor<2x4xui8>, %w: tensor<4x8xui8>, %z: tensor<2x4xui8>) -> tensor<2x8xi32> {
  %none = onnx.none() : () -> none
  %y = onnx.MatMulInteger(%x, %w, %z, %none) : (tensor<2x4xui8>, tensor<4x8xui8>, tensor<2x4xui8>, none) -> tensor<2x8xi32>
  return %y : tensor<2x8xi32>
}
