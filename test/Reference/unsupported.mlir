// All ops that cannot run are listed at once, before anything runs.
// RUN: %exit-code 3 moec run --reference %s 2>&1 | FileCheck %s

// CHECK: node "first" (Mystery): unsupported by the reference interpreter
// CHECK-NEXT: node "second" (RandomUniformLike): unsupported by the reference interpreter
// CHECK-NEXT: node "third" (Cast): unsupported: cast to element type 17
// CHECK-NOT: Exp
func.func @main(%x: tensor<4xf32>) -> (tensor<1xf32> {onnx.name = "y", onnx.dims = [""]}) {
  %y = onnx.custom(%x) {domain = "d", op_type = "Mystery"} : (tensor<4xf32>) -> tensor<1xf32> loc("first")
  %u = onnx.RandomUniformLike(%y) : (tensor<1xf32>) -> tensor<1xf32> loc("second")
  %c = onnx.Cast(%u) {to = 17 : i64} : (tensor<1xf32>) -> tensor<1xf8E4M3FN> loc("third")
  %d = onnx.Cast(%c) {to = 1 : i64} : (tensor<1xf8E4M3FN>) -> tensor<1xf32>
  %e = onnx.Exp(%d) : (tensor<1xf32>) -> tensor<1xf32> loc("fourth")
  return %e : tensor<1xf32>
}
