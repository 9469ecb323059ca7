// RUN: moe-opt %s -split-input-file -decompose-ml | FileCheck %s

// CHECK-LABEL: @binarizer
// CHECK: onnx.Greater
// CHECK: onnx.Cast
func.func @binarizer(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %y = onnx.custom(%x) {domain = "ai.onnx.ml", op_type = "Binarizer", attributes = {threshold = 1.0 : f32}} : (tensor<?x4xf32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}

// -----

// CHECK-LABEL: @scaler
// CHECK: onnx.Sub
// CHECK: onnx.Mul
func.func @scaler(%x: tensor<?x2xf32>) -> tensor<?x2xf32> {
  %y = onnx.custom(%x) {domain = "ai.onnx.ml", op_type = "Scaler", attributes = {offset = array<f32: 1.0, 2.0>, scale = array<f32: 0.5, 2.0>}} : (tensor<?x2xf32>) -> tensor<?x2xf32>
  return %y : tensor<?x2xf32>
}

// -----

// CHECK-LABEL: @labels
// CHECK: onnx.ArgMax
// CHECK: onnx.Gather
// CHECK: onnx.Where
func.func @labels(%x: tensor<?xi64>) -> tensor<?xf32> {
  %y = onnx.custom(%x) {domain = "ai.onnx.ml", op_type = "LabelEncoder", attributes = {keys_int64s = array<i64: 3, 5>, values_floats = array<f32: 0.5, 2.0>}} : (tensor<?xi64>) -> tensor<?xf32>
  return %y : tensor<?xf32>
}

// -----

// Trees and what has no numbers stay.
// CHECK-LABEL: @kept
// CHECK-COUNT-2: onnx.custom
func.func @kept(%x: tensor<?x2xf32>) -> (tensor<?x1xf32>, tensor<?x2xf32>) {
  %y = onnx.custom(%x) {domain = "ai.onnx.ml", op_type = "TreeEnsembleRegressor"} : (tensor<?x2xf32>) -> tensor<?x1xf32>
  %z = onnx.custom(%x) {domain = "ai.onnx.ml", op_type = "Normalizer", attributes = {norm = "L7"}} : (tensor<?x2xf32>) -> tensor<?x2xf32>
  return %y, %z : tensor<?x1xf32>, tensor<?x2xf32>
}
