// RUN: %exit-code 3 moec compile %s -o %t.so 2>&1 | FileCheck %s
// RUN: not test -e %t.so

// All of them at once, each with its node; what only depends on them is not repeated.

// CHECK: node "random" (RandomNormalLike): unsupported
// CHECK: node "hash" ({{.*}}): unsupported: the operator com.example::Hash
// CHECK: node "axes" (ReduceSum): unsupported: axes that are not a short vector
// CHECK: node "perm" (Transpose): unsupported: perm is not a permutation
// CHECK-NOT: unsupported
func.func @main(%x: tensor<2x2xf32> {onnx.name = "x"}, %i: tensor<?xi64> {onnx.name = "i"})
    -> (tensor<2x2xf32> {onnx.name = "y"}) {
  %0 = onnx.RandomNormalLike(%x) : (tensor<2x2xf32>) -> tensor<2x2xf32> loc("random")
  %1 = onnx.Exp(%0) : (tensor<2x2xf32>) -> tensor<2x2xf32> loc("exp")
  %2 = onnx.custom(%x) {domain = "com.example", op_type = "Hash"} : (tensor<2x2xf32>) -> tensor<2x2xf32> loc("hash")
  %3 = onnx.ReduceSum(%x, %i) {keepdims = 1 : i64} : (tensor<2x2xf32>, tensor<?xi64>) -> tensor<2x2xf32> loc("axes")
  %4 = onnx.Transpose(%x) {perm = array<i64: 1, 1>} : (tensor<2x2xf32>) -> tensor<2x2xf32> loc("perm")
  %5 = onnx.Sum(%1, %2, %3, %4) : (tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32> loc("sum")
  return %5 : tensor<2x2xf32>
}
