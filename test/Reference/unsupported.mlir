// All ops that cannot run are listed at once, before anything runs.
// RUN: %exit-code 3 moec run --reference %s 2>&1 | FileCheck %s

// CHECK: node "first" (Mystery): unsupported by the reference interpreter
// CHECK-NEXT: node "second" (RandomUniformLike): unsupported by the reference interpreter
// CHECK-NEXT: node "third" (RandomNormalLike): unsupported by the reference interpreter
// CHECK-NOT: Exp
func.func @main(%x: tensor<4xf32>) -> (tensor<1xf32> {onnx.name = "y", onnx.dims = [""]}) {
  %y = onnx.custom(%x) {domain = "d", op_type = "Mystery"} : (tensor<4xf32>) -> tensor<1xf32> loc("first")
  %u = onnx.RandomUniformLike(%y) : (tensor<1xf32>) -> tensor<1xf32> loc("second")
  %c = onnx.RandomNormalLike(%u) : (tensor<1xf32>) -> tensor<1xf32> loc("third")
  %e = onnx.Exp(%u) : (tensor<1xf32>) -> tensor<1xf32> loc("fourth")
  return %e : tensor<1xf32>
}
