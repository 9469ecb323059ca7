// RUN: moe-opt %s -split-input-file -insert-probes 2>/dev/null | FileCheck %s --check-prefix=ROUTING
// RUN: moe-opt %s -split-input-file -insert-probes=tier=1 2>/dev/null | FileCheck %s --check-prefix=EXPERTS
// RUN: moe-opt %s -split-input-file -insert-probes="tier=2 sample-every=4" 2>/dev/null | FileCheck %s --check-prefix=ALL
// Every routed layer gets a probe.

// The residual is what the layer's result is added to behind the shared expert.
// ROUTING-LABEL: func.func @residual
// ROUTING-SAME: %[[R:.*]]: tensor<?x?x8xf32>
// ROUTING: %[[I:.*]], %[[W:.*]] = moe.route(%[[Z:.*]]) router
// ROUTING-NEXT: moe.experts @bank
// ROUTING-NEXT: moe.probe "routing"(%[[I]], %[[W]], %[[Z]]) {experts = 4 : i64, layer = "bank"}
// EXPERTS-LABEL: func.func @residual
// EXPERTS-SAME: %[[R:.*]]: tensor<?x?x8xf32>
// EXPERTS: %[[X:.*]] = onnx.Reshape
// EXPERTS: %[[I:.*]], %[[W:.*]] = moe.route(%[[Z:.*]]) router
// EXPERTS: %[[SLOTS:.*]] = moe.experts @bank(%[[X]], %[[I]], %[[W]]) {combine = "none"} {{.*}} -> tensor<?x2x8xf32>
// EXPERTS: %[[Y:.*]] = onnx.ReduceSum(%[[SLOTS]]
// EXPERTS: %[[RES:.*]] = onnx.Reshape(%[[R]]
// EXPERTS: moe.probe "experts"(%[[I]], %[[W]], %[[X]], %[[RES]], %[[SLOTS]], %[[Y]], %[[Z]])
// EXPERTS: onnx.Reshape(%[[Y]]
// ALL-LABEL: func.func @residual
// ALL: moe.probe "experts"
// ALL: %[[STEP:.*]] = onnx.Constant {value = dense<4>
// ALL: %[[S:.*]] = onnx.Slice
// ALL: %[[ONES:.*]] = onnx.Expand
// ALL: %[[F:.*]] = moe.experts @bank(%[[S]], %[[ONES]]) {combine = "none"} {{.*}} -> tensor<?x4x8xf32>
// ALL-NEXT: moe.probe "all"(%[[S]], %[[F]]) {experts = 4 : i64, layer = "bank"}
moe.bank @bank experts(4) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}
func.func @residual(%r: tensor<?x?x8xf32>, %m: tensor<8x4xf32>) -> tensor<?x?x8xf32> {
  %n = onnx.Tanh(%r) : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
  %flat = onnx.Constant {value = dense<[-1, 8]> : tensor<2xi64>} : () -> tensor<2xi64>
  %x = onnx.Reshape(%n, %flat) : (tensor<?x?x8xf32>, tensor<2xi64>) -> tensor<?x8xf32>
  %z = onnx.MatMul(%x, %m) : (tensor<?x8xf32>, tensor<8x4xf32>) -> tensor<?x4xf32>
  %i, %w = moe.route(%z) router<score = softmax, k = 2>
      : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %y = moe.experts @bank(%x, %i, %w)
      : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x8xf32>
  %shape = onnx.Shape(%r) : (tensor<?x?x8xf32>) -> tensor<3xi64>
  %back = onnx.Reshape(%y, %shape) : (tensor<?x8xf32>, tensor<3xi64>) -> tensor<?x?x8xf32>
  %shared = onnx.Relu(%n) : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
  %s = onnx.Add(%shared, %back) : (tensor<?x?x8xf32>, tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
  %out = onnx.Add(%s, %r) : (tensor<?x?x8xf32>, tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
  return %out : tensor<?x?x8xf32>
}

// -----

// The logits stand behind the sigmoid; nothing is added to the result.
// ROUTING-LABEL: func.func @sigmoid
// ROUTING-SAME: %[[Z:[^%]+]]: tensor<?x4xf32>
// ROUTING: moe.probe "routing"(%{{.*}}, %{{.*}}, %[[Z]]) {experts = 4 : i64, layer = "bank", score = "sigmoid"}
// EXPERTS-LABEL: func.func @sigmoid
// EXPERTS-SAME: %[[X:[^%]+]]: tensor<?x8xf32>
// EXPERTS: moe.probe "experts"(%{{.*}}, %{{.*}}, %[[X]], %[[X]], %
moe.bank @bank experts(4) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}
func.func @sigmoid(%x: tensor<?x8xf32>, %z: tensor<?x4xf32>) -> tensor<?x8xf32> {
  %p = onnx.Sigmoid(%z) : (tensor<?x4xf32>) -> tensor<?x4xf32>
  %i, %w = moe.select %p {k = 2 : i64} : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %y = moe.experts @bank(%x, %i, %w)
      : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

// Dense weights: a slot for each expert, no logits.
// ROUTING-LABEL: func.func @dense
// ROUTING: %[[I:.*]], %[[W:.*]] = moe.select %{{.*}} {kind = "all"}
// ROUTING-NEXT: moe.probe "routing"(%[[I]], %[[W]]) {experts = 4 : i64, layer = "bank"}
// EXPERTS-LABEL: func.func @dense
// EXPERTS: moe.experts @bank(%{{.*}}, %{{.*}}) {combine = "none"} {{.*}} -> tensor<?x4x8xf32>
moe.bank @bank experts(4) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}
func.func @dense(%x: tensor<?x8xf32>, %w: tensor<?x4xf32>) -> tensor<?x8xf32> {
  %y = moe.experts @bank(%x, %w) : (tensor<?x8xf32>, tensor<?x4xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
