// RUN: moe-opt %s -split-input-file -fuse-gating -verify-diagnostics
// Remarks say what was fused; a step that no router has stays outside.

// 
module {
  moe.weights @weights {
  }
  func.func @main(%z: tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    %v0 = onnx.Softmax(%z) {axis = -1 : i64}
        : (tensor<?x4xf32>) -> tensor<?x4xf32>
    // expected-remark @below {{fused softmax scores, top 2, renormalisation sum}}
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

// An unknown function of the weights stays behind the router.
module {
  moe.weights @weights {
  }
  func.func @main(%z: tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    %v0 = onnx.Softmax(%z) {axis = -1 : i64}
        : (tensor<?x4xf32>) -> tensor<?x4xf32>
    // expected-remark @below {{fused softmax scores, top 2, renormalisation none}}
    %i1, %v1 = moe.select %v0 {k = 2 : i64}
        : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2 = onnx.Exp(%v1)
        : (tensor<?x2xf32>) -> tensor<?x2xf32>
    return %i1, %v2 : tensor<?x2xi32>, tensor<?x2xf32>
  }
}

// -----

// A second factor too.
module {
  moe.weights @weights {
  }
  func.func @main(%z: tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    %v0 = onnx.Softmax(%z) {axis = -1 : i64}
        : (tensor<?x4xf32>) -> tensor<?x4xf32>
    // expected-remark @below {{renormalisation sum, scale 2}}
    %i1, %v1 = moe.select %v0 {k = 2 : i64}
        : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2 = onnx.ReduceSum(%v1, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v3 = onnx.Div(%v1, %v2)
        : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    %scale = onnx.Constant {value = dense<2.000000e+00> : tensor<f32>} : () -> tensor<f32>
    %v4 = onnx.Mul(%v3, %scale)
        : (tensor<?x2xf32>, tensor<f32>) -> tensor<?x2xf32>
    return %i1, %v4 : tensor<?x2xi32>, tensor<?x2xf32>
  }
}

// -----

// The raw weights are used elsewhere: they are what the router gives.
module {
  moe.weights @weights {
  }
  func.func @main(%z: tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>) {
    %v0 = onnx.Softmax(%z) {axis = -1 : i64}
        : (tensor<?x4xf32>) -> tensor<?x4xf32>
    // expected-remark @below {{renormalisation none}}
    %i1, %v1 = moe.select %v0 {k = 2 : i64}
        : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2 = onnx.ReduceSum(%v1, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v3 = onnx.Div(%v1, %v2)
        : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    return %i1, %v3, %v1 : tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x2xf32>
  }
}

// -----

// Biased scores that are used as weights are no bias of the selection.
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
    // expected-remark @below {{fused identity scores, top 2, renormalisation sum}}
    %i2, %v2 = moe.select %v1 {k = 2 : i64}
        : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v3 = onnx.ReduceSum(%v2, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v4 = onnx.Div(%v2, %v3)
        : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    return %i2, %v4 : tensor<?x2xi32>, tensor<?x2xf32>
  }
}

// -----

// 
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
    // expected-remark @below {{fused sigmoid scores, top 2, renormalisation sum, selection bias}}
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

// Another selection than top-k.
module {
  moe.weights @weights {
  }
  func.func @main(%z: tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
    %v0 = onnx.Softmax(%z) {axis = -1 : i64}
        : (tensor<?x4xf32>) -> tensor<?x4xf32>
    // expected-remark @below {{left because the selection is no top-k of one matrix of scores}}
    %i1, %v1 = moe.select %v0 {k = 2 : i64, kind = "top_p", p = 9.0e-01 : f64}
        : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2 = onnx.ReduceSum(%v1, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v3 = onnx.Div(%v1, %v2)
        : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    return %i1, %v3 : tensor<?x2xi32>, tensor<?x2xf32>
  }
}
