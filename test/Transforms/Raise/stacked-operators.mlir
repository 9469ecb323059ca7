// RUN: moe-opt %s -split-input-file -raise-moe -canonicalize -share-experts=banks-only=true 2>/dev/null | FileCheck %s
// Operators on experts' results side by side, before several gates weigh them.

// The pair behind the stack is the last of each expert's operations. Scales differ: parameters,
// so that the experts are of one kind and the gates share the bank.
// CHECK: moe.bank @layer0 experts(2) hidden(4) inter(0) parameters([@layer0.p0, @layer0.p1]) {
// CHECK-NEXT: ^bb0(%[[X:.*]]: tensor<?x4xf32>, %[[W:.*]]: tensor<4x3xf32>, %[[S:.*]]: tensor<f32>):
// CHECK: %[[M:.*]] = onnx.MatMul(%[[X]], %[[W]])
// CHECK: %[[Q:.*]] = onnx.QuantizeLinear(%[[M]], %[[S]]
// CHECK: %[[D:.*]] = onnx.DequantizeLinear(%[[Q]], %[[S]]
// CHECK: %[[R:.*]] = onnx.Relu(%[[D]])
// CHECK: %[[P:.*]] = onnx.QuantizeLinear(%[[R]]
// CHECK: %[[Y:.*]] = onnx.DequantizeLinear(%[[P]]
// CHECK: moe.yield %[[Y]]
// CHECK-NOT: moe.bank
// CHECK-LABEL: func.func @main
// CHECK-NOT: onnx.Concat
// CHECK: moe.experts @layer0(
// CHECK: moe.experts @layer0(
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<4x3xf32>
    moe.weight.bind @a %0 : tensor<4x3xf32>
    %1 = moe.weight.load "w.bin" at 48 : tensor<4x3xf32>
    moe.weight.bind @b %1 : tensor<4x3xf32>
  }
  func.func @main(%x: tensor<?x4xf32>, %g: tensor<?x2xf32>, %h: tensor<?x2xf32>) -> (tensor<?x1x3xf32>, tensor<?x1x3xf32>) {
    %one = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %z = onnx.Constant {value = dense<128> : tensor<ui8>} : () -> tensor<ui8>
    %s = onnx.Constant {value = dense<0.25> : tensor<f32>} : () -> tensor<f32>
    %s0 = onnx.Constant {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
    %s1 = onnx.Constant {value = dense<0.125> : tensor<f32>} : () -> tensor<f32>
    %a = moe.weight.use @a : tensor<4x3xf32>
    %b = moe.weight.use @b : tensor<4x3xf32>
    %m0 = onnx.MatMul(%x, %a) : (tensor<?x4xf32>, tensor<4x3xf32>) -> tensor<?x3xf32>
    %d0q = onnx.QuantizeLinear(%m0, %s0, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64, precision = 0 : i64, saturate = 1 : i64} : (tensor<?x3xf32>, tensor<f32>, tensor<ui8>) -> tensor<?x3xui8>
    %d0 = onnx.DequantizeLinear(%d0q, %s0, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64} : (tensor<?x3xui8>, tensor<f32>, tensor<ui8>) -> tensor<?x3xf32>
    %r0 = onnx.Relu(%d0) : (tensor<?x3xf32>) -> tensor<?x3xf32>
    %u0 = onnx.Unsqueeze(%r0, %one) : (tensor<?x3xf32>, tensor<1xi64>) -> tensor<?x1x3xf32>
    %m1 = onnx.MatMul(%x, %b) : (tensor<?x4xf32>, tensor<4x3xf32>) -> tensor<?x3xf32>
    %d1q = onnx.QuantizeLinear(%m1, %s1, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64, precision = 0 : i64, saturate = 1 : i64} : (tensor<?x3xf32>, tensor<f32>, tensor<ui8>) -> tensor<?x3xui8>
    %d1 = onnx.DequantizeLinear(%d1q, %s1, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64} : (tensor<?x3xui8>, tensor<f32>, tensor<ui8>) -> tensor<?x3xf32>
    %r1 = onnx.Relu(%d1) : (tensor<?x3xf32>) -> tensor<?x3xf32>
    %u1 = onnx.Unsqueeze(%r1, %one) : (tensor<?x3xf32>, tensor<1xi64>) -> tensor<?x1x3xf32>
    %c = onnx.Concat(%u0, %u1) {axis = 1 : i64} : (tensor<?x1x3xf32>, tensor<?x1x3xf32>) -> tensor<?x2x3xf32>
    %eq = onnx.QuantizeLinear(%c, %s, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64, precision = 0 : i64, saturate = 1 : i64} : (tensor<?x2x3xf32>, tensor<f32>, tensor<ui8>) -> tensor<?x2x3xui8>
    %e = onnx.DequantizeLinear(%eq, %s, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64} : (tensor<?x2x3xui8>, tensor<f32>, tensor<ui8>) -> tensor<?x2x3xf32>
    %vg = onnx.Unsqueeze(%g, %one) : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1x2xf32>
    %wgq = onnx.QuantizeLinear(%vg, %s, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64, precision = 0 : i64, saturate = 1 : i64} : (tensor<?x1x2xf32>, tensor<f32>, tensor<ui8>) -> tensor<?x1x2xui8>
    %wg = onnx.DequantizeLinear(%wgq, %s, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64} : (tensor<?x1x2xui8>, tensor<f32>, tensor<ui8>) -> tensor<?x1x2xf32>
    %yg = onnx.MatMul(%wg, %e) : (tensor<?x1x2xf32>, tensor<?x2x3xf32>) -> tensor<?x1x3xf32>
    %vh = onnx.Unsqueeze(%h, %one) : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1x2xf32>
    %whq = onnx.QuantizeLinear(%vh, %s, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64, precision = 0 : i64, saturate = 1 : i64} : (tensor<?x1x2xf32>, tensor<f32>, tensor<ui8>) -> tensor<?x1x2xui8>
    %wh = onnx.DequantizeLinear(%whq, %s, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64} : (tensor<?x1x2xui8>, tensor<f32>, tensor<ui8>) -> tensor<?x1x2xf32>
    %yh = onnx.MatMul(%wh, %e) : (tensor<?x1x2xf32>, tensor<?x2x3xf32>) -> tensor<?x1x3xf32>
    return %yg, %yh : tensor<?x1x3xf32>, tensor<?x1x3xf32>
  }
}

// -----

// A product with the weights that is rounded before the sum: each expert reads its weight, all
// are added as they are.
// CHECK: moe.bank @layer0 experts(2) hidden(4) inter(0) parameters(
// CHECK-NEXT: ^bb0(%{{.*}}: tensor<?x4xf32>, {{.*}}, %[[G:.*]]: tensor<?x2xf32>):
// CHECK: %[[C:.*]] = onnx.Gather(%[[G]]
// CHECK: onnx.QuantizeLinear
// CHECK-LABEL: func.func @main
// CHECK: %[[ONES:.*]] = onnx.Expand
// CHECK: moe.experts @layer0(%{{.*}}, %[[ONES]], %{{.*}}) {contexts = ["rows"]
// CHECK-NOT: onnx.ReduceSum
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<4x3xf32>
    moe.weight.bind @a %0 : tensor<4x3xf32>
    %1 = moe.weight.load "w.bin" at 48 : tensor<4x3xf32>
    moe.weight.bind @b %1 : tensor<4x3xf32>
  }
  func.func @main(%x: tensor<?x4xf32>, %g: tensor<?x2xf32>) -> tensor<?x3xf32> {
    %last = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %one = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %z = onnx.Constant {value = dense<128> : tensor<ui8>} : () -> tensor<ui8>
    %s = onnx.Constant {value = dense<0.25> : tensor<f32>} : () -> tensor<f32>
    %s0 = onnx.Constant {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
    %s1 = onnx.Constant {value = dense<0.125> : tensor<f32>} : () -> tensor<f32>
    %a = moe.weight.use @a : tensor<4x3xf32>
    %b = moe.weight.use @b : tensor<4x3xf32>
    %m0 = onnx.MatMul(%x, %a) : (tensor<?x4xf32>, tensor<4x3xf32>) -> tensor<?x3xf32>
    %d0q = onnx.QuantizeLinear(%m0, %s0, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64, precision = 0 : i64, saturate = 1 : i64} : (tensor<?x3xf32>, tensor<f32>, tensor<ui8>) -> tensor<?x3xui8>
    %d0 = onnx.DequantizeLinear(%d0q, %s0, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64} : (tensor<?x3xui8>, tensor<f32>, tensor<ui8>) -> tensor<?x3xf32>
    %r0 = onnx.Relu(%d0) : (tensor<?x3xf32>) -> tensor<?x3xf32>
    %u0 = onnx.Unsqueeze(%r0, %one) : (tensor<?x3xf32>, tensor<1xi64>) -> tensor<?x1x3xf32>
    %m1 = onnx.MatMul(%x, %b) : (tensor<?x4xf32>, tensor<4x3xf32>) -> tensor<?x3xf32>
    %d1q = onnx.QuantizeLinear(%m1, %s1, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64, precision = 0 : i64, saturate = 1 : i64} : (tensor<?x3xf32>, tensor<f32>, tensor<ui8>) -> tensor<?x3xui8>
    %d1 = onnx.DequantizeLinear(%d1q, %s1, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64} : (tensor<?x3xui8>, tensor<f32>, tensor<ui8>) -> tensor<?x3xf32>
    %r1 = onnx.Relu(%d1) : (tensor<?x3xf32>) -> tensor<?x3xf32>
    %u1 = onnx.Unsqueeze(%r1, %one) : (tensor<?x3xf32>, tensor<1xi64>) -> tensor<?x1x3xf32>
    %c = onnx.Concat(%u0, %u1) {axis = 1 : i64} : (tensor<?x1x3xf32>, tensor<?x1x3xf32>) -> tensor<?x2x3xf32>
    %eq = onnx.QuantizeLinear(%c, %s, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64, precision = 0 : i64, saturate = 1 : i64} : (tensor<?x2x3xf32>, tensor<f32>, tensor<ui8>) -> tensor<?x2x3xui8>
    %e = onnx.DequantizeLinear(%eq, %s, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64} : (tensor<?x2x3xui8>, tensor<f32>, tensor<ui8>) -> tensor<?x2x3xf32>
    %vg = onnx.Unsqueeze(%g, %last) : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x2x1xf32>
    %wq = onnx.QuantizeLinear(%vg, %s, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64, precision = 0 : i64, saturate = 1 : i64} : (tensor<?x2x1xf32>, tensor<f32>, tensor<ui8>) -> tensor<?x2x1xui8>
    %w = onnx.DequantizeLinear(%wq, %s, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64} : (tensor<?x2x1xui8>, tensor<f32>, tensor<ui8>) -> tensor<?x2x1xf32>
    %p = onnx.Mul(%e, %w) : (tensor<?x2x3xf32>, tensor<?x2x1xf32>) -> tensor<?x2x3xf32>
    %rq = onnx.QuantizeLinear(%p, %s, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64, precision = 0 : i64, saturate = 1 : i64} : (tensor<?x2x3xf32>, tensor<f32>, tensor<ui8>) -> tensor<?x2x3xui8>
    %r = onnx.DequantizeLinear(%rq, %s, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64} : (tensor<?x2x3xui8>, tensor<f32>, tensor<ui8>) -> tensor<?x2x3xf32>
    %y = onnx.ReduceSum(%r, %one) {keepdims = 0 : i64, noop_with_empty_axes = 0 : i64} : (tensor<?x2x3xf32>, tensor<1xi64>) -> tensor<?x3xf32>
    return %y : tensor<?x3xf32>
  }
}

// -----

// What reads several experts together is no part of one.
// CHECK-LABEL: func.func @main
// CHECK-NOT: moe.experts
// CHECK: onnx.Softmax
// CHECK-NOT: moe.experts
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<4x3xf32>
    moe.weight.bind @a %0 : tensor<4x3xf32>
    %1 = moe.weight.load "w.bin" at 48 : tensor<4x3xf32>
    moe.weight.bind @b %1 : tensor<4x3xf32>
  }
  func.func @main(%x: tensor<?x4xf32>, %g: tensor<?x2xf32>, %h: tensor<?x2xf32>) -> (tensor<?x1x3xf32>) {
    %one = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %z = onnx.Constant {value = dense<128> : tensor<ui8>} : () -> tensor<ui8>
    %s = onnx.Constant {value = dense<0.25> : tensor<f32>} : () -> tensor<f32>
    %s0 = onnx.Constant {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
    %s1 = onnx.Constant {value = dense<0.125> : tensor<f32>} : () -> tensor<f32>
    %a = moe.weight.use @a : tensor<4x3xf32>
    %b = moe.weight.use @b : tensor<4x3xf32>
    %m0 = onnx.MatMul(%x, %a) : (tensor<?x4xf32>, tensor<4x3xf32>) -> tensor<?x3xf32>
    %d0q = onnx.QuantizeLinear(%m0, %s0, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64, precision = 0 : i64, saturate = 1 : i64} : (tensor<?x3xf32>, tensor<f32>, tensor<ui8>) -> tensor<?x3xui8>
    %d0 = onnx.DequantizeLinear(%d0q, %s0, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64} : (tensor<?x3xui8>, tensor<f32>, tensor<ui8>) -> tensor<?x3xf32>
    %r0 = onnx.Relu(%d0) : (tensor<?x3xf32>) -> tensor<?x3xf32>
    %u0 = onnx.Unsqueeze(%r0, %one) : (tensor<?x3xf32>, tensor<1xi64>) -> tensor<?x1x3xf32>
    %m1 = onnx.MatMul(%x, %b) : (tensor<?x4xf32>, tensor<4x3xf32>) -> tensor<?x3xf32>
    %d1q = onnx.QuantizeLinear(%m1, %s1, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64, precision = 0 : i64, saturate = 1 : i64} : (tensor<?x3xf32>, tensor<f32>, tensor<ui8>) -> tensor<?x3xui8>
    %d1 = onnx.DequantizeLinear(%d1q, %s1, %z) {axis = 1 : i64, block_size = 0 : i64, output_dtype = 0 : i64} : (tensor<?x3xui8>, tensor<f32>, tensor<ui8>) -> tensor<?x3xf32>
    %r1 = onnx.Relu(%d1) : (tensor<?x3xf32>) -> tensor<?x3xf32>
    %u1 = onnx.Unsqueeze(%r1, %one) : (tensor<?x3xf32>, tensor<1xi64>) -> tensor<?x1x3xf32>
    %c = onnx.Concat(%u0, %u1) {axis = 1 : i64} : (tensor<?x1x3xf32>, tensor<?x1x3xf32>) -> tensor<?x2x3xf32>
    %e = onnx.Softmax(%c) {axis = 1 : i64} : (tensor<?x2x3xf32>) -> tensor<?x2x3xf32>
    %vg = onnx.Unsqueeze(%g, %one) : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1x2xf32>
    %yg = onnx.MatMul(%vg, %e) : (tensor<?x1x2xf32>, tensor<?x2x3xf32>) -> tensor<?x1x3xf32>
    return %yg : tensor<?x1x3xf32>
  }
}
