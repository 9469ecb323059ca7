// RUN: moe-opt %s --insert-logit-hooks -split-input-file 2> %t.remarks | FileCheck %s
// RUN: FileCheck %s --check-prefix=REMARK < %t.remarks

moe.bank @a experts(4) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}
moe.bank @b experts(4) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}

// CHECK-LABEL: func.func @routers
// CHECK-SAME: (%[[X:.*]]: tensor<?x8xf32>, %[[Z:.*]]: tensor<?x4xf32>, %[[B:.*]]: tensor<4xf32>)
func.func @routers(%x: tensor<?x8xf32>, %z: tensor<?x4xf32>, %b: tensor<4xf32>) -> tensor<?x8xf32> {
  // CHECK: %[[HZ:.*]] = moe.logit_hook %[[Z]] {k = 2 : i64, layer = "a"} : tensor<?x4xf32>
  // CHECK: %[[HB:.*]] = moe.logit_hook %[[B]] {k = 2 : i64, layer = "a", mask_only} : tensor<4xf32>
  // CHECK: moe.route(%[[HZ]], %[[HB]])
  %i, %w = moe.route(%z, %b) router<score = sigmoid, k = 2>
      : (tensor<?x4xf32>, tensor<4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %y = moe.experts @a(%x, %i, %w)
      : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x8xf32>
  // The bank's second layer; its softmax is looked through.
  // CHECK: %[[H2:.*]] = moe.logit_hook %[[Z]] {k = 3 : i64, layer = "a#2"} : tensor<?x4xf32>
  // CHECK: %[[P:.*]] = onnx.Softmax(%[[H2]])
  // CHECK: moe.select %[[P]]
  %p = onnx.Softmax(%z) {axis = -1 : i64} : (tensor<?x4xf32>) -> tensor<?x4xf32>
  %j, %v = moe.select %p {k = 3 : i64, kind = "top_p", p = 0.5 : f64}
      : (tensor<?x4xf32>) -> (tensor<?x3xi32>, tensor<?x3xf32>)
  %r = moe.experts @a(%y, %j, %v)
      : (tensor<?x8xf32>, tensor<?x3xi32>, tensor<?x3xf32>) -> tensor<?x8xf32>
  // Scores of another origin.
  // CHECK: %[[H3:.*]] = moe.logit_hook %{{.*}} {k = 2 : i64, layer = "b"} : tensor<?x4xf32>
  // CHECK: moe.select %[[H3]]
  %s = onnx.Add(%z, %b) : (tensor<?x4xf32>, tensor<4xf32>) -> tensor<?x4xf32>
  %k, %u = moe.select %s {k = 2 : i64} : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %q = moe.experts @b(%r, %k, %u)
      : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x8xf32>
  return %q : tensor<?x8xf32>
}

// Weights are probabilities, experts are chosen by something else made of them.
// CHECK-LABEL: func.func @weight_scores
// CHECK-SAME: (%{{.*}}: tensor<?x8xf32>, %[[Z:.*]]: tensor<?x4xf32>, %[[B:.*]]: tensor<4xf32>)
func.func @weight_scores(%x: tensor<?x8xf32>, %z: tensor<?x4xf32>, %b: tensor<4xf32>)
    -> tensor<?x8xf32> {
  // CHECK: %[[H:.*]] = moe.logit_hook %[[Z]] {k = 2 : i64, layer = "a#3"} : tensor<?x4xf32>
  // CHECK: %[[P:.*]] = onnx.Softmax(%[[H]])
  // CHECK: %[[S:.*]] = onnx.Mul(%[[P]], %[[B]])
  // CHECK: %[[M:.*]] = moe.logit_hook %[[S]] {k = 2 : i64, layer = "a#3", mask_only} : tensor<?x4xf32>
  // CHECK: moe.select %[[M]], %[[P]]
  %p = onnx.Softmax(%z) {axis = -1 : i64} : (tensor<?x4xf32>) -> tensor<?x4xf32>
  %s = onnx.Mul(%p, %b) : (tensor<?x4xf32>, tensor<4xf32>) -> tensor<?x4xf32>
  %i, %w = moe.select %s, %p {k = 2 : i64}
      : (tensor<?x4xf32>, tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %y = moe.experts @a(%x, %i, %w)
      : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

moe.bank @c experts(4) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}
// CHECK-LABEL: func.func @left
// CHECK: moe.logit_hook {{.*}}layer = "c#4"
// CHECK-NOT: moe.logit_hook
func.func @left(%x: tensor<?x8xf32>, %z: tensor<?x4xf32>, %i: tensor<?x2xi32>) -> tensor<?x8xf32> {
  // REMARK: remark: layer "c" gets no routing hook: its experts are not chosen by a router of the model
  %0 = moe.experts @c(%x, %z) : (tensor<?x8xf32>, tensor<?x4xf32>) -> tensor<?x8xf32>
  // REMARK: remark: layer "c#2" gets no routing hook: its selection does not choose by logits
  %j, %v = moe.select %z, %i {kind = "external"}
      : (tensor<?x4xf32>, tensor<?x2xi32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %1 = moe.experts @c(%0, %j, %v)
      : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x8xf32>
  // REMARK: remark: layer "c#3" gets no routing hook: its scores are probabilities of unknown origin
  %k, %w = moe.select %z {k = 2 : i64, kind = "top_p", p = 0.5 : f64}
      : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %2 = moe.experts @c(%1, %k, %w)
      : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x8xf32>
  // REMARK: remark: layer "c#5" gets no routing hook: another layer has hooked its router
  %l, %u = moe.route(%z) router<score = softmax, k = 2>
      : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %3 = moe.experts @c(%2, %l, %u)
      : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x8xf32>
  %4 = moe.experts @c(%3, %l, %u)
      : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x8xf32>
  return %4 : tensor<?x8xf32>
}

// -----

moe.bank @d experts(4) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}
// REMARK: remark: layer "d" gets no routing hook: the number of its experts is not known
func.func @unknown(%x: tensor<?x8xf32>, %z: tensor<?x?xf32>) -> tensor<?x8xf32> {
  %i, %w = moe.route(%z) router<score = softmax, k = 2>
      : (tensor<?x?xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %y = moe.experts @d(%x, %i, %w)
      : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
