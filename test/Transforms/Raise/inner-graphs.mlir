// RUN: moe-opt %s -raise-moe='remarks=false' -canonicalize | FileCheck %s
// Layers inside of a branch, as decoders that are merged from two models have them; tokens and weights
// come from around it. Both branches use the same parameters.

// CHECK: moe.bank @layer0 experts(2) hidden(4) inter(5) {{.*}} up(@layer0.up) down(@layer0.down)
// CHECK: moe.bank @layer1 experts(2) hidden(4) inter(5) {{.*}} up(@layer0.up) down(@layer0.down)
// CHECK: func.func @main
// CHECK: onnx.If
// CHECK: %[[A:.*]] = moe.experts @layer0(%arg1, %{{.*}})
// CHECK: onnx.yield(%[[A]])
// CHECK: }, {
// CHECK: %[[N:.*]] = onnx.Neg(%arg1)
// CHECK: %[[B:.*]] = moe.experts @layer1(%[[N]], %{{.*}})
// CHECK: onnx.yield(%[[B]])
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<4x5xf32>
    moe.weight.bind @u0 %0 : tensor<4x5xf32>
    %1 = moe.weight.load "w.bin" at 80 : tensor<4x5xf32>
    moe.weight.bind @u1 %1 : tensor<4x5xf32>
    %2 = moe.weight.load "w.bin" at 160 : tensor<5x4xf32>
    moe.weight.bind @d0 %2 : tensor<5x4xf32>
    %3 = moe.weight.load "w.bin" at 240 : tensor<5x4xf32>
    moe.weight.bind @d1 %3 : tensor<5x4xf32>
  }
  func.func @main(%c: tensor<i1>, %x: tensor<?x4xf32>, %z: tensor<?x2xf32>) -> tensor<?x4xf32> {
    %u0 = moe.weight.use @u0 : tensor<4x5xf32>
    %u1 = moe.weight.use @u1 : tensor<4x5xf32>
    %d0 = moe.weight.use @d0 : tensor<5x4xf32>
    %d1 = moe.weight.use @d1 : tensor<5x4xf32>
    %i0 = onnx.Constant {value = dense<[0]> : tensor<1xi64>} : () -> tensor<1xi64>
    %i1 = onnx.Constant {value = dense<[1]> : tensor<1xi64>} : () -> tensor<1xi64>
    %s = onnx.Softmax(%z) {axis = -1 : i64} : (tensor<?x2xf32>) -> tensor<?x2xf32>
    %y = onnx.If(%c) ({
      %h0 = onnx.MatMul(%x, %u0) : (tensor<?x4xf32>, tensor<4x5xf32>) -> tensor<?x5xf32>
      %r0 = onnx.Relu(%h0) : (tensor<?x5xf32>) -> tensor<?x5xf32>
      %e0 = onnx.MatMul(%r0, %d0) : (tensor<?x5xf32>, tensor<5x4xf32>) -> tensor<?x4xf32>
      %h1 = onnx.MatMul(%x, %u1) : (tensor<?x4xf32>, tensor<4x5xf32>) -> tensor<?x5xf32>
      %r1 = onnx.Relu(%h1) : (tensor<?x5xf32>) -> tensor<?x5xf32>
      %e1 = onnx.MatMul(%r1, %d1) : (tensor<?x5xf32>, tensor<5x4xf32>) -> tensor<?x4xf32>
      %p0 = onnx.Gather(%s, %i0) {axis = 1 : i64} : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
      %p1 = onnx.Gather(%s, %i1) {axis = 1 : i64} : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
      %t0 = onnx.Mul(%e0, %p0) : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
      %t1 = onnx.Mul(%e1, %p1) : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
      %a = onnx.Add(%t0, %t1) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
      onnx.yield(%a) : (tensor<?x4xf32>) -> ()
    }, {
      %n = onnx.Neg(%x) : (tensor<?x4xf32>) -> tensor<?x4xf32>
      %h0 = onnx.MatMul(%n, %u0) : (tensor<?x4xf32>, tensor<4x5xf32>) -> tensor<?x5xf32>
      %r0 = onnx.Relu(%h0) : (tensor<?x5xf32>) -> tensor<?x5xf32>
      %e0 = onnx.MatMul(%r0, %d0) : (tensor<?x5xf32>, tensor<5x4xf32>) -> tensor<?x4xf32>
      %h1 = onnx.MatMul(%n, %u1) : (tensor<?x4xf32>, tensor<4x5xf32>) -> tensor<?x5xf32>
      %r1 = onnx.Relu(%h1) : (tensor<?x5xf32>) -> tensor<?x5xf32>
      %e1 = onnx.MatMul(%r1, %d1) : (tensor<?x5xf32>, tensor<5x4xf32>) -> tensor<?x4xf32>
      %p0 = onnx.Gather(%s, %i0) {axis = 1 : i64} : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
      %p1 = onnx.Gather(%s, %i1) {axis = 1 : i64} : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
      %t0 = onnx.Mul(%e0, %p0) : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
      %t1 = onnx.Mul(%e1, %p1) : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
      %b = onnx.Add(%t0, %t1) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
      onnx.yield(%b) : (tensor<?x4xf32>) -> ()
    }) : (tensor<i1>) -> tensor<?x4xf32>
    return %y : tensor<?x4xf32>
  }
}
