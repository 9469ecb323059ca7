// RUN: moe-opt %s -split-input-file -fuse-gating 2>/dev/null | FileCheck %s
// A selection and the formulas around it become one router.

// CHECK: %[[I:.*]], %[[W:.*]] = moe.route{{.*}}router<score = softmax, k = 2, renorm = sum>
// CHECK-NEXT: return %[[I]], %[[W]]
module {
  moe.weights @weights {
  }
  func.func @main(%z: tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    %v0 = onnx.Softmax(%z) {axis = -1 : i64}
        : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %i1, %v1 = moe.select %v0 {k = 2 : i64}
        : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2 = onnx.ReduceSum(%v1, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v3 = onnx.Div(%v1, %v2)
        : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    return %i1, %v3 : tensor<?x2xi32>, tensor<?x2xf32>
  }
}

// -----

// Without renormalisation.
// 
// CHECK: moe.route{{.*}}router<score = softmax, k = 2>
// CHECK-NEXT: return
module {
  moe.weights @weights {
  }
  func.func @main(%z: tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    %v0 = onnx.Softmax(%z) {axis = -1 : i64}
        : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %i1, %v1 = moe.select %v0 {k = 2 : i64}
        : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    return %i1, %v1 : tensor<?x2xi32>, tensor<?x2xf32>
  }
}

// -----

// CHECK: moe.route{{.*}}router<score = sigmoid, k = 2, renorm = sum, epsilon = 9.99{{[0-9]+}}e-07, scale = 2.5>
module {
  moe.weights @weights {
  }
  func.func @main(%z: tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    %v0 = onnx.Sigmoid(%z)
        : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %i1, %v1 = moe.select %v0 {k = 2 : i64}
        : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2 = onnx.ReduceSum(%v1, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %eps = onnx.Constant {value = dense<1.000000e-06> : tensor<f32>} : () -> tensor<f32>
    %v3 = onnx.Add(%v2, %eps)
        : (tensor<?x1xf32>, tensor<f32>) -> tensor<?x1xf32>
    %v4 = onnx.Div(%v1, %v3)
        : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    %scale = onnx.Constant {value = dense<2.500000e+00> : tensor<f32>} : () -> tensor<f32>
    %v5 = onnx.Mul(%v4, %scale)
        : (tensor<?x2xf32>, tensor<f32>) -> tensor<?x2xf32>
    return %i1, %v5 : tensor<?x2xi32>, tensor<?x2xf32>
  }
}

// -----

// CHECK: moe.route{{.*}}router<score = softmax, k = 2, renorm = sum, minimum = 0.125>
module {
  moe.weights @weights {
  }
  func.func @main(%z: tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    %v0 = onnx.Softmax(%z) {axis = -1 : i64}
        : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %i1, %v1 = moe.select %v0 {k = 2 : i64}
        : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2 = onnx.ReduceSum(%v1, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %low = onnx.Constant {value = dense<1.250000e-01> : tensor<f32>} : () -> tensor<f32>
    %v3 = onnx.Max(%v2, %low)
        : (tensor<?x1xf32>, tensor<f32>) -> tensor<?x1xf32>
    %v4 = onnx.Div(%v1, %v3)
        : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    return %i1, %v4 : tensor<?x2xi32>, tensor<?x2xf32>
  }
}

// -----

// CHECK: moe.route{{.*}}router<score = softmax, k = 2, renorm = sum, minimum = 0.125>
module {
  moe.weights @weights {
  }
  func.func @main(%z: tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    %v0 = onnx.Softmax(%z) {axis = -1 : i64}
        : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %i1, %v1 = moe.select %v0 {k = 2 : i64}
        : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2 = onnx.ReduceSum(%v1, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %low = onnx.Constant {value = dense<1.250000e-01> : tensor<f32>} : () -> tensor<f32>
    %none = onnx.none : () -> none
    %v3 = onnx.Clip(%v2, %low, %none)
        : (tensor<?x1xf32>, tensor<f32>, none) -> tensor<?x1xf32>
    %v4 = onnx.Div(%v1, %v3)
        : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    return %i1, %v4 : tensor<?x2xi32>, tensor<?x2xf32>
  }
}

// -----

// Top-k of the logits, softmax over the chosen ones.
// 
// CHECK: moe.route{{.*}}%arg0{{.*}}router<score = identity, k = 2, renorm = softmax>
module {
  moe.weights @weights {
  }
  func.func @main(%z: tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    %i0, %v0 = moe.select %z {k = 2 : i64}
        : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v1 = onnx.Softmax(%v0) {axis = -1 : i64}
        : (tensor<?x2xf32>) -> tensor<?x2xf32>
    return %i0, %v1 : tensor<?x2xi32>, tensor<?x2xf32>
  }
}

// -----

// CHECK: moe.route{{.*}}%arg0{{.*}}router<score = identity, k = 2, renorm = sigmoid>
module {
  moe.weights @weights {
  }
  func.func @main(%z: tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    %i0, %v0 = moe.select %z {k = 2 : i64}
        : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v1 = onnx.Sigmoid(%v0)
        : (tensor<?x2xf32>) -> tensor<?x2xf32>
    return %i0, %v1 : tensor<?x2xi32>, tensor<?x2xf32>
  }
}

// -----

// A bias for the selection only: the weights are gathered from the scores without it.
// 
// CHECK: %[[B:.*]] = moe.weight.use @bias
// CHECK: moe.route{{.*}}%arg0, %[[B]]{{.*}}router<score = sigmoid, k = 2, renorm = sum>
// CHECK-NOT: onnx.GatherElements
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<4xf32>
    moe.weight.bind @bias %w0 : tensor<4xf32>
  }
  func.func @main(%z: tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    %v0 = onnx.Sigmoid(%z)
        : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %bias = moe.weight.use @bias : tensor<4xf32>
    %v1 = onnx.Add(%v0, %bias)
        : (tensor<?x4xf32>, tensor<4xf32>) -> tensor<?x4xf32>
    %i2, %v2 = moe.select %v1 {k = 2 : i64}
        : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v3 = onnx.Cast(%i2) {to = 7 : i64}
        : (tensor<?x2xi32>) -> tensor<?x2xi64>
    %v4 = onnx.GatherElements(%v0, %v3) {axis = 1 : i64}
        : (tensor<?x4xf32>, tensor<?x2xi64>) -> tensor<?x2xf32>
    %v5 = onnx.ReduceSum(%v4, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v6 = onnx.Div(%v4, %v5)
        : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    return %i2, %v6 : tensor<?x2xi32>, tensor<?x2xf32>
  }
}

// -----

// Token axes between the selection and the formula.
// 
// CHECK: %[[I:.*]], %[[W:.*]] = moe.route{{.*}}router<score = softmax, k = 2, renorm = sum>
// CHECK: %[[R:.*]] = onnx.Reshape(%[[W]]
// CHECK: return %[[I]], %[[R]]
module {
  moe.weights @weights {
  }
  func.func @main(%z: tensor<?x?x4xf32>) -> (tensor<?x2xi32>, tensor<?x?x2xf32>) {
    %v0 = onnx.Softmax(%z) {axis = -1 : i64}
        : (tensor<?x?x4xf32>) -> tensor<?x?x4xf32>
    %flat = onnx.Constant {value = dense<[-1, 4]> : tensor<2xi64>} : () -> tensor<2xi64>
    %v1 = onnx.Reshape(%v0, %flat)
        : (tensor<?x?x4xf32>, tensor<2xi64>) -> tensor<?x4xf32>
    %i2, %v2 = moe.select %v1 {k = 2 : i64}
        : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v3 = onnx.Shape(%z) {end = 2 : i64, start = 0 : i64}
        : (tensor<?x?x4xf32>) -> tensor<2xi64>
    %two = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %v4 = onnx.Concat(%v3, %two) {axis = 0 : i64}
        : (tensor<2xi64>, tensor<1xi64>) -> tensor<3xi64>
    %v5 = onnx.Reshape(%v2, %v4)
        : (tensor<?x2xf32>, tensor<3xi64>) -> tensor<?x?x2xf32>
    %v6 = onnx.ReduceSum(%v5, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x?x2xf32>, tensor<1xi64>) -> tensor<?x?x1xf32>
    %v7 = onnx.Div(%v5, %v6)
        : (tensor<?x?x2xf32>, tensor<?x?x1xf32>) -> tensor<?x?x2xf32>
    return %i2, %v7 : tensor<?x2xi32>, tensor<?x?x2xf32>
  }
}

// -----

// A rounding cast stays behind the router.
// 
// CHECK: %[[I:.*]], %[[W:.*]] = moe.route
// CHECK: onnx.Cast(%[[W]]
module {
  moe.weights @weights {
  }
  func.func @main(%z: tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf16>) {
    %v0 = onnx.Softmax(%z) {axis = -1 : i64}
        : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %i1, %v1 = moe.select %v0 {k = 2 : i64}
        : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2 = onnx.ReduceSum(%v1, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v3 = onnx.Div(%v1, %v2)
        : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    %v4 = onnx.Cast(%v3) {to = 10 : i64}
        : (tensor<?x2xf32>) -> tensor<?x2xf16>
    return %i1, %v4 : tensor<?x2xi32>, tensor<?x2xf16>
  }
}

// -----

// A selection in groups, by sigmoid scores with a bias.
//
// CHECK: moe.route(%{{.*}}, %{{.*}}) router<score = sigmoid, k = 2, groups = 2, group_score = top2, renorm = sum, epsilon = {{.*}}e-21, scale = 2.5>
// CHECK-NEXT: return
module {
  func.func @main(%z: tensor<?x8xf32>, %b: tensor<8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    %s = onnx.Sigmoid(%z) : (tensor<?x8xf32>) -> tensor<?x8xf32>
    %c = onnx.Add(%s, %b) : (tensor<?x8xf32>, tensor<8xf32>) -> tensor<?x8xf32>
    %i, %v = moe.select %c {group_k = 1 : i64, group_score = "top2", groups = 2 : i64, k = 2 : i64, kind = "grouped_top_k"}
        : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %wide = onnx.Cast(%i) {to = 7 : i64} : (tensor<?x2xi32>) -> tensor<?x2xi64>
    %w = onnx.GatherElements(%s, %wide) {axis = 1 : i64}
        : (tensor<?x8xf32>, tensor<?x2xi64>) -> tensor<?x2xf32>
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %sum = onnx.ReduceSum(%w, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %eps = onnx.Constant {value = dense<1.0e-20> : tensor<f32>} : () -> tensor<f32>
    %d = onnx.Add(%sum, %eps) : (tensor<?x1xf32>, tensor<f32>) -> tensor<?x1xf32>
    %r = onnx.Div(%w, %d) : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    %scale = onnx.Constant {value = dense<2.5> : tensor<f32>} : () -> tensor<f32>
    %f = onnx.Mul(%r, %scale) : (tensor<?x2xf32>, tensor<f32>) -> tensor<?x2xf32>
    return %i, %f : tensor<?x2xi32>, tensor<?x2xf32>
  }
}

// -----

// A sigmoid that is spelled out; weights times the inverse of their 1-norm.
//
// CHECK: moe.route(%{{.*}}) router<score = sigmoid, k = 2, renorm = sum>
// CHECK-NEXT: return
module {
  func.func @main(%z: tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    %one = onnx.Constant {value = dense<1.0> : tensor<f32>} : () -> tensor<f32>
    %n = onnx.Neg(%z) : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %e = onnx.Exp(%n) : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %p = onnx.Add(%e, %one) : (tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xf32>
    %s = onnx.Reciprocal(%p) : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %i, %v = moe.select %s {k = 2 : i64}
        : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %sum = onnx.ReduceL1(%v, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %inverse = onnx.Reciprocal(%sum) : (tensor<?x1xf32>) -> tensor<?x1xf32>
    %w = onnx.Mul(%v, %inverse) : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    return %i, %w : tensor<?x2xi32>, tensor<?x2xf32>
  }
}

// -----

// Scores of no known kind, chosen with a bias: the router takes the scores.
//
// CHECK: %[[S:.*]] = onnx.Sqrt
// CHECK: moe.route(%[[S]], %{{.*}}) router<score = identity, k = 2, scale = 0.5>
// CHECK-NEXT: return
module {
  func.func @main(%z: tensor<?x4xf32>, %b: tensor<4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    %p = onnx.Softplus(%z) : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %s = onnx.Sqrt(%p) : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %c = onnx.Add(%s, %b) : (tensor<?x4xf32>, tensor<4xf32>) -> tensor<?x4xf32>
    %i, %v = moe.select %c {k = 2 : i64}
        : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %wide = onnx.Cast(%i) {to = 7 : i64} : (tensor<?x2xi32>) -> tensor<?x2xi64>
    %w = onnx.GatherElements(%s, %wide) {axis = 1 : i64}
        : (tensor<?x4xf32>, tensor<?x2xi64>) -> tensor<?x2xf32>
    %half = onnx.Constant {value = dense<2.0> : tensor<f32>} : () -> tensor<f32>
    %f = onnx.Div(%w, %half) : (tensor<?x2xf32>, tensor<f32>) -> tensor<?x2xf32>
    return %i, %f : tensor<?x2xi32>, tensor<?x2xf32>
  }
}

// -----

// Slots up to a sum of probabilities of 0.5.
//
// CHECK: moe.select %{{.*}} {k = 8 : i64, kind = "top_p", p = 5.000000e-01 : f64}
// CHECK-NEXT: moe.experts @double(%{{.*}}, %ids, %weights)
module {
  moe.bank @double experts(8) hidden(4) inter(0) {
  ^bb0(%t: tensor<?x4xf32>):
    %y = onnx.Add(%t, %t) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    moe.yield %y : tensor<?x4xf32>
  }
  func.func @main(%x: tensor<?x4xf32>, %p: tensor<?x8xf32>) -> tensor<?x4xf32> {
    %i, %v = moe.select %p {k = 8 : i64} : (tensor<?x8xf32>) -> (tensor<?x8xi32>, tensor<?x8xf32>)
    %last = onnx.Constant {value = dense<-1> : tensor<i64>} : () -> tensor<i64>
    %c = onnx.CumSum(%v, %last) {exclusive = 0 : i64, reverse = 0 : i64}
        : (tensor<?x8xf32>, tensor<i64>) -> tensor<?x8xf32>
    %before = onnx.Sub(%c, %v) : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
    %half = onnx.Constant {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
    %m = onnx.Less(%before, %half) : (tensor<?x8xf32>, tensor<f32>) -> tensor<?x8xi1>
    %f = onnx.Cast(%m) {to = 1 : i64} : (tensor<?x8xi1>) -> tensor<?x8xf32>
    %w = onnx.Mul(%v, %f) : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
    %y = moe.experts @double(%x, %i, %w)
        : (tensor<?x4xf32>, tensor<?x8xi32>, tensor<?x8xf32>) -> tensor<?x4xf32>
    return %y : tensor<?x4xf32>
  }
}

// -----

// Slots whose score is above 0.25: from the next number on.
//
// CHECK: moe.select %{{.*}} {k = 3 : i64, kind = "threshold", threshold = {{0.25000002|2.50000}}{{.*}} : f64}
// CHECK-NEXT: moe.experts
module {
  moe.bank @double experts(8) hidden(4) inter(0) {
  ^bb0(%t: tensor<?x4xf32>):
    %y = onnx.Add(%t, %t) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    moe.yield %y : tensor<?x4xf32>
  }
  func.func @main(%x: tensor<?x4xf32>, %p: tensor<?x8xf32>) -> tensor<?x4xf32> {
    %i, %v = moe.select %p {k = 3 : i64} : (tensor<?x8xf32>) -> (tensor<?x3xi32>, tensor<?x3xf32>)
    %least = onnx.Constant {value = dense<0.25> : tensor<f32>} : () -> tensor<f32>
    %zero = onnx.Constant {value = dense<0.0> : tensor<f32>} : () -> tensor<f32>
    %m = onnx.Greater(%v, %least) : (tensor<?x3xf32>, tensor<f32>) -> tensor<?x3xi1>
    %w = onnx.Where(%m, %v, %zero)
        : (tensor<?x3xi1>, tensor<?x3xf32>, tensor<f32>) -> tensor<?x3xf32>
    %y = moe.experts @double(%x, %i, %w)
        : (tensor<?x4xf32>, tensor<?x3xi32>, tensor<?x3xf32>) -> tensor<?x4xf32>
    return %y : tensor<?x4xf32>
  }
}
