// RUN: moe-opt %s -split-input-file -insert-probes=tier=1 -verify-diagnostics
// RUN: not moe-opt %s -split-input-file -insert-probes=tier=3 2>&1 | FileCheck %s
// CHECK: insert-probes: tier is 0, 1 or 2, and sample-every at least 1

// Results of another size than the tokens: only the routing is probed.
moe.bank @bank experts(4) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>):
  %axis = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
  %y = onnx.ReduceSum(%x, %axis) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
      : (tensor<?x8xf32>, tensor<1xi64>) -> tensor<?x1xf32>
  moe.yield %y : tensor<?x1xf32>
}
func.func @main(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>) -> tensor<?x1xf32> {
  // expected-remark @+1 {{layer "bank": only its routing is probed: tokens and results are no matrices of one size}}
  %y = moe.experts @bank(%x, %i, %w)
      : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x1xf32>
  return %y : tensor<?x1xf32>
}
