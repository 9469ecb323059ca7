// RUN: moe-opt %s -split-input-file -raise-moe='remarks=false' -canonicalize | FileCheck %s
// A sum with a term for each slot and expert, Where(id_j == e, w_j f_e(x), 0).

// Slots outside.
// CHECK-LABEL: func.func @main
// CHECK-NOT: onnx.Where
// CHECK: moe.experts @layer0
module {
  moe.weights @weights {
    %up0 = moe.weight.load "w.bin" at 0 : tensor<4x5xf32>
    moe.weight.bind @up0 %up0 : tensor<4x5xf32>
    %down0 = moe.weight.load "w.bin" at 80 : tensor<5x4xf32>
    moe.weight.bind @down0 %down0 : tensor<5x4xf32>
    %up1 = moe.weight.load "w.bin" at 160 : tensor<4x5xf32>
    moe.weight.bind @up1 %up1 : tensor<4x5xf32>
    %down1 = moe.weight.load "w.bin" at 240 : tensor<5x4xf32>
    moe.weight.bind @down1 %down1 : tensor<5x4xf32>
  }
  func.func @main(%x: tensor<?x4xf32>, %p: tensor<?x2xf32>) -> tensor<?x4xf32> {
    %up0 = moe.weight.use @up0 : tensor<4x5xf32>
    %down0 = moe.weight.use @down0 : tensor<5x4xf32>
    %up1 = moe.weight.use @up1 : tensor<4x5xf32>
    %down1 = moe.weight.use @down1 : tensor<5x4xf32>
    %0 = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
    %1 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
    %two = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %zero = onnx.Constant {value = dense<0.0> : tensor<f32>} : () -> tensor<f32>
    %v, %i = onnx.TopK(%p, %two) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> (tensor<?x2xf32>, tensor<?x2xi64>)
    %h0 = onnx.MatMul(%x, %up0) : (tensor<?x4xf32>, tensor<4x5xf32>) -> tensor<?x5xf32>
    %r0 = onnx.Relu(%h0) : (tensor<?x5xf32>) -> tensor<?x5xf32>
    %y0 = onnx.MatMul(%r0, %down0) : (tensor<?x5xf32>, tensor<5x4xf32>) -> tensor<?x4xf32>
    %h1 = onnx.MatMul(%x, %up1) : (tensor<?x4xf32>, tensor<4x5xf32>) -> tensor<?x5xf32>
    %r1 = onnx.Relu(%h1) : (tensor<?x5xf32>) -> tensor<?x5xf32>
    %y1 = onnx.MatMul(%r1, %down1) : (tensor<?x5xf32>, tensor<5x4xf32>) -> tensor<?x4xf32>
    %i0 = onnx.Gather(%i, %0) {axis = 1 : i64} : (tensor<?x2xi64>, tensor<i64>) -> tensor<?xi64>
    %g0 = onnx.Gather(%v, %0) {axis = 1 : i64} : (tensor<?x2xf32>, tensor<i64>) -> tensor<?xf32>
    %w0 = onnx.Unsqueeze(%g0, %last) : (tensor<?xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %i1 = onnx.Gather(%i, %1) {axis = 1 : i64} : (tensor<?x2xi64>, tensor<i64>) -> tensor<?xi64>
    %g1 = onnx.Gather(%v, %1) {axis = 1 : i64} : (tensor<?x2xf32>, tensor<i64>) -> tensor<?xf32>
    %w1 = onnx.Unsqueeze(%g1, %last) : (tensor<?xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %e00 = onnx.Equal(%i0, %0) : (tensor<?xi64>, tensor<i64>) -> tensor<?xi1>
    %m00 = onnx.Unsqueeze(%e00, %last) : (tensor<?xi1>, tensor<1xi64>) -> tensor<?x1xi1>
    %p00 = onnx.Mul(%w0, %y0) : (tensor<?x1xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %t00 = onnx.Where(%m00, %p00, %zero) : (tensor<?x1xi1>, tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xf32>
    %e01 = onnx.Equal(%i0, %1) : (tensor<?xi64>, tensor<i64>) -> tensor<?xi1>
    %m01 = onnx.Unsqueeze(%e01, %last) : (tensor<?xi1>, tensor<1xi64>) -> tensor<?x1xi1>
    %p01 = onnx.Mul(%w0, %y1) : (tensor<?x1xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %t01 = onnx.Where(%m01, %p01, %zero) : (tensor<?x1xi1>, tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xf32>
    %s01 = onnx.Add(%t00, %t01) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %e10 = onnx.Equal(%i1, %0) : (tensor<?xi64>, tensor<i64>) -> tensor<?xi1>
    %m10 = onnx.Unsqueeze(%e10, %last) : (tensor<?xi1>, tensor<1xi64>) -> tensor<?x1xi1>
    %p10 = onnx.Mul(%w1, %y0) : (tensor<?x1xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %t10 = onnx.Where(%m10, %p10, %zero) : (tensor<?x1xi1>, tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xf32>
    %s10 = onnx.Add(%s01, %t10) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %e11 = onnx.Equal(%i1, %1) : (tensor<?xi64>, tensor<i64>) -> tensor<?xi1>
    %m11 = onnx.Unsqueeze(%e11, %last) : (tensor<?xi1>, tensor<1xi64>) -> tensor<?x1xi1>
    %p11 = onnx.Mul(%w1, %y1) : (tensor<?x1xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %t11 = onnx.Where(%m11, %p11, %zero) : (tensor<?x1xi1>, tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xf32>
    %s11 = onnx.Add(%s10, %t11) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    return %s11 : tensor<?x4xf32>
  }
}

// -----

// Experts outside; the sum starts with the tokens.
// CHECK-LABEL: func.func @main
// CHECK-NOT: onnx.Where
// CHECK: %[[y:.+]] = moe.experts @layer0
// CHECK: onnx.Add(%{{.*}}%[[y]]
module {
  moe.weights @weights {
    %up0 = moe.weight.load "w.bin" at 0 : tensor<4x5xf32>
    moe.weight.bind @up0 %up0 : tensor<4x5xf32>
    %down0 = moe.weight.load "w.bin" at 80 : tensor<5x4xf32>
    moe.weight.bind @down0 %down0 : tensor<5x4xf32>
    %up1 = moe.weight.load "w.bin" at 160 : tensor<4x5xf32>
    moe.weight.bind @up1 %up1 : tensor<4x5xf32>
    %down1 = moe.weight.load "w.bin" at 240 : tensor<5x4xf32>
    moe.weight.bind @down1 %down1 : tensor<5x4xf32>
  }
  func.func @main(%x: tensor<?x4xf32>, %p: tensor<?x2xf32>) -> tensor<?x4xf32> {
    %up0 = moe.weight.use @up0 : tensor<4x5xf32>
    %down0 = moe.weight.use @down0 : tensor<5x4xf32>
    %up1 = moe.weight.use @up1 : tensor<4x5xf32>
    %down1 = moe.weight.use @down1 : tensor<5x4xf32>
    %0 = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
    %1 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
    %two = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %zero = onnx.Constant {value = dense<0.0> : tensor<f32>} : () -> tensor<f32>
    %v, %i = onnx.TopK(%p, %two) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> (tensor<?x2xf32>, tensor<?x2xi64>)
    %h0 = onnx.MatMul(%x, %up0) : (tensor<?x4xf32>, tensor<4x5xf32>) -> tensor<?x5xf32>
    %r0 = onnx.Relu(%h0) : (tensor<?x5xf32>) -> tensor<?x5xf32>
    %y0 = onnx.MatMul(%r0, %down0) : (tensor<?x5xf32>, tensor<5x4xf32>) -> tensor<?x4xf32>
    %h1 = onnx.MatMul(%x, %up1) : (tensor<?x4xf32>, tensor<4x5xf32>) -> tensor<?x5xf32>
    %r1 = onnx.Relu(%h1) : (tensor<?x5xf32>) -> tensor<?x5xf32>
    %y1 = onnx.MatMul(%r1, %down1) : (tensor<?x5xf32>, tensor<5x4xf32>) -> tensor<?x4xf32>
    %i0 = onnx.Gather(%i, %0) {axis = 1 : i64} : (tensor<?x2xi64>, tensor<i64>) -> tensor<?xi64>
    %g0 = onnx.Gather(%v, %0) {axis = 1 : i64} : (tensor<?x2xf32>, tensor<i64>) -> tensor<?xf32>
    %w0 = onnx.Unsqueeze(%g0, %last) : (tensor<?xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %i1 = onnx.Gather(%i, %1) {axis = 1 : i64} : (tensor<?x2xi64>, tensor<i64>) -> tensor<?xi64>
    %g1 = onnx.Gather(%v, %1) {axis = 1 : i64} : (tensor<?x2xf32>, tensor<i64>) -> tensor<?xf32>
    %w1 = onnx.Unsqueeze(%g1, %last) : (tensor<?xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %e00 = onnx.Equal(%i0, %0) : (tensor<?xi64>, tensor<i64>) -> tensor<?xi1>
    %m00 = onnx.Unsqueeze(%e00, %last) : (tensor<?xi1>, tensor<1xi64>) -> tensor<?x1xi1>
    %p00 = onnx.Mul(%w0, %y0) : (tensor<?x1xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %t00 = onnx.Where(%m00, %p00, %zero) : (tensor<?x1xi1>, tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xf32>
    %e10 = onnx.Equal(%i1, %0) : (tensor<?xi64>, tensor<i64>) -> tensor<?xi1>
    %m10 = onnx.Unsqueeze(%e10, %last) : (tensor<?xi1>, tensor<1xi64>) -> tensor<?x1xi1>
    %p10 = onnx.Mul(%w1, %y0) : (tensor<?x1xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %t10 = onnx.Where(%m10, %p10, %zero) : (tensor<?x1xi1>, tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xf32>
    %s00 = onnx.Add(%x, %t00) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %s10 = onnx.Add(%s00, %t10) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %e01 = onnx.Equal(%i0, %1) : (tensor<?xi64>, tensor<i64>) -> tensor<?xi1>
    %m01 = onnx.Unsqueeze(%e01, %last) : (tensor<?xi1>, tensor<1xi64>) -> tensor<?x1xi1>
    %p01 = onnx.Mul(%w0, %y1) : (tensor<?x1xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %t01 = onnx.Where(%m01, %p01, %zero) : (tensor<?x1xi1>, tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xf32>
    %s01 = onnx.Add(%s10, %t01) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %e11 = onnx.Equal(%i1, %1) : (tensor<?xi64>, tensor<i64>) -> tensor<?xi1>
    %m11 = onnx.Unsqueeze(%e11, %last) : (tensor<?xi1>, tensor<1xi64>) -> tensor<?x1xi1>
    %p11 = onnx.Mul(%w1, %y1) : (tensor<?x1xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %t11 = onnx.Where(%m11, %p11, %zero) : (tensor<?x1xi1>, tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xf32>
    %s11 = onnx.Add(%s01, %t11) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    return %s11 : tensor<?x4xf32>
  }
}

// -----

// One term has the weight of another slot.
// CHECK-LABEL: func.func @main
// CHECK-NOT: moe.experts
// CHECK: return
module {
  moe.weights @weights {
    %up0 = moe.weight.load "w.bin" at 0 : tensor<4x5xf32>
    moe.weight.bind @up0 %up0 : tensor<4x5xf32>
    %down0 = moe.weight.load "w.bin" at 80 : tensor<5x4xf32>
    moe.weight.bind @down0 %down0 : tensor<5x4xf32>
    %up1 = moe.weight.load "w.bin" at 160 : tensor<4x5xf32>
    moe.weight.bind @up1 %up1 : tensor<4x5xf32>
    %down1 = moe.weight.load "w.bin" at 240 : tensor<5x4xf32>
    moe.weight.bind @down1 %down1 : tensor<5x4xf32>
  }
  func.func @main(%x: tensor<?x4xf32>, %p: tensor<?x2xf32>) -> tensor<?x4xf32> {
    %up0 = moe.weight.use @up0 : tensor<4x5xf32>
    %down0 = moe.weight.use @down0 : tensor<5x4xf32>
    %up1 = moe.weight.use @up1 : tensor<4x5xf32>
    %down1 = moe.weight.use @down1 : tensor<5x4xf32>
    %0 = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
    %1 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
    %two = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %zero = onnx.Constant {value = dense<0.0> : tensor<f32>} : () -> tensor<f32>
    %v, %i = onnx.TopK(%p, %two) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> (tensor<?x2xf32>, tensor<?x2xi64>)
    %h0 = onnx.MatMul(%x, %up0) : (tensor<?x4xf32>, tensor<4x5xf32>) -> tensor<?x5xf32>
    %r0 = onnx.Relu(%h0) : (tensor<?x5xf32>) -> tensor<?x5xf32>
    %y0 = onnx.MatMul(%r0, %down0) : (tensor<?x5xf32>, tensor<5x4xf32>) -> tensor<?x4xf32>
    %h1 = onnx.MatMul(%x, %up1) : (tensor<?x4xf32>, tensor<4x5xf32>) -> tensor<?x5xf32>
    %r1 = onnx.Relu(%h1) : (tensor<?x5xf32>) -> tensor<?x5xf32>
    %y1 = onnx.MatMul(%r1, %down1) : (tensor<?x5xf32>, tensor<5x4xf32>) -> tensor<?x4xf32>
    %i0 = onnx.Gather(%i, %0) {axis = 1 : i64} : (tensor<?x2xi64>, tensor<i64>) -> tensor<?xi64>
    %g0 = onnx.Gather(%v, %0) {axis = 1 : i64} : (tensor<?x2xf32>, tensor<i64>) -> tensor<?xf32>
    %w0 = onnx.Unsqueeze(%g0, %last) : (tensor<?xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %i1 = onnx.Gather(%i, %1) {axis = 1 : i64} : (tensor<?x2xi64>, tensor<i64>) -> tensor<?xi64>
    %g1 = onnx.Gather(%v, %1) {axis = 1 : i64} : (tensor<?x2xf32>, tensor<i64>) -> tensor<?xf32>
    %w1 = onnx.Unsqueeze(%g1, %last) : (tensor<?xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %e00 = onnx.Equal(%i0, %0) : (tensor<?xi64>, tensor<i64>) -> tensor<?xi1>
    %m00 = onnx.Unsqueeze(%e00, %last) : (tensor<?xi1>, tensor<1xi64>) -> tensor<?x1xi1>
    %p00 = onnx.Mul(%w0, %y0) : (tensor<?x1xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %t00 = onnx.Where(%m00, %p00, %zero) : (tensor<?x1xi1>, tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xf32>
    %e01 = onnx.Equal(%i0, %1) : (tensor<?xi64>, tensor<i64>) -> tensor<?xi1>
    %m01 = onnx.Unsqueeze(%e01, %last) : (tensor<?xi1>, tensor<1xi64>) -> tensor<?x1xi1>
    %p01 = onnx.Mul(%w0, %y1) : (tensor<?x1xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %t01 = onnx.Where(%m01, %p01, %zero) : (tensor<?x1xi1>, tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xf32>
    %s01 = onnx.Add(%t00, %t01) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %e10 = onnx.Equal(%i1, %0) : (tensor<?xi64>, tensor<i64>) -> tensor<?xi1>
    %m10 = onnx.Unsqueeze(%e10, %last) : (tensor<?xi1>, tensor<1xi64>) -> tensor<?x1xi1>
    %p10 = onnx.Mul(%w1, %y0) : (tensor<?x1xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %t10 = onnx.Where(%m10, %p10, %zero) : (tensor<?x1xi1>, tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xf32>
    %s10 = onnx.Add(%s01, %t10) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %e11 = onnx.Equal(%i1, %1) : (tensor<?xi64>, tensor<i64>) -> tensor<?xi1>
    %m11 = onnx.Unsqueeze(%e11, %last) : (tensor<?xi1>, tensor<1xi64>) -> tensor<?x1xi1>
    %p11 = onnx.Mul(%w0, %y1) : (tensor<?x1xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %t11 = onnx.Where(%m11, %p11, %zero) : (tensor<?x1xi1>, tensor<?x4xf32>, tensor<f32>) -> tensor<?x4xf32>
    %s11 = onnx.Add(%s10, %t11) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    return %s11 : tensor<?x4xf32>
  }
}
