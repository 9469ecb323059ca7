// RUN: moe-opt %s -split-input-file -raise-moe -canonicalize 2>/dev/null | FileCheck %s
// RUN: moe-opt %s -split-input-file -raise-moe 2>&1 >/dev/null | FileCheck %s --check-prefix=SAID
// Tokens that are the pixels of images [N, C, H, W]: the router, the choice and the experts run
// along axis 1.

// The convolutions with one place are the experts' matrices; the select reads scores [T, E].
// CHECK: moe.bank @layer0 experts(2) hidden(4) inter(3) {{.*}}up(@layer0.up) down(@layer0.down)
// CHECK-LABEL: func.func @main(
// CHECK-SAME: %[[X:.*]]: tensor<?x4x2x2xf32>)
// CHECK: %[[P:.*]] = onnx.Softmax
// CHECK: %[[S:.*]] = onnx.Transpose(%[[P]]) {perm = array<i64: 0, 2, 3, 1>}
// CHECK: %[[ROWS:.*]] = onnx.Reshape(%[[S]]
// CHECK: moe.select %[[ROWS]] {k = 1 : i64} : (tensor<?x2xf32>)
// CHECK: onnx.Transpose(%[[X]]) {perm = array<i64: 0, 2, 3, 1>}
// CHECK: %[[Y:.*]] = moe.experts @layer0
// CHECK: %[[Z:.*]] = onnx.Reshape(%[[Y]]
// CHECK: %[[R:.*]] = onnx.Transpose(%[[Z]]) {perm = array<i64: 0, 3, 1, 2>}
// CHECK: return %[[R]]
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<2x4x1x1xf32>
    moe.weight.bind @w0 %0 : tensor<2x4x1x1xf32>
    %1 = moe.weight.load "w.bin" at 32 : tensor<3x4x1x1xf32>
    moe.weight.bind @w1 %1 : tensor<3x4x1x1xf32>
    %2 = moe.weight.load "w.bin" at 80 : tensor<4x3x1x1xf32>
    moe.weight.bind @w2 %2 : tensor<4x3x1x1xf32>
    %3 = moe.weight.load "w.bin" at 128 : tensor<3x4x1x1xf32>
    moe.weight.bind @w3 %3 : tensor<3x4x1x1xf32>
    %4 = moe.weight.load "w.bin" at 176 : tensor<4x3x1x1xf32>
    moe.weight.bind @w4 %4 : tensor<4x3x1x1xf32>
  }
  func.func @main(%arg0: tensor<?x4x2x2xf32>) -> tensor<?x4x2x2xf32> {
    %0 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
    %1 = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
    %2 = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %3 = onnx.none : () -> none
    %4 = moe.weight.use @w0 : tensor<2x4x1x1xf32>
    %5 = moe.weight.use @w1 : tensor<3x4x1x1xf32>
    %6 = moe.weight.use @w2 : tensor<4x3x1x1xf32>
    %7 = moe.weight.use @w3 : tensor<3x4x1x1xf32>
    %8 = moe.weight.use @w4 : tensor<4x3x1x1xf32>
    %9 = onnx.Conv(%arg0, %4, %3) {group = 1 : i64} : (tensor<?x4x2x2xf32>, tensor<2x4x1x1xf32>, none) -> tensor<?x2x2x2xf32>
    %10 = onnx.Conv(%arg0, %5, %3) {group = 1 : i64} : (tensor<?x4x2x2xf32>, tensor<3x4x1x1xf32>, none) -> tensor<?x3x2x2xf32>
    %11 = onnx.Relu(%10) : (tensor<?x3x2x2xf32>) -> tensor<?x3x2x2xf32>
    %12 = onnx.Conv(%11, %6, %3) {group = 1 : i64} : (tensor<?x3x2x2xf32>, tensor<4x3x1x1xf32>, none) -> tensor<?x4x2x2xf32>
    %13 = onnx.Conv(%arg0, %7, %3) {group = 1 : i64} : (tensor<?x4x2x2xf32>, tensor<3x4x1x1xf32>, none) -> tensor<?x3x2x2xf32>
    %14 = onnx.Relu(%13) : (tensor<?x3x2x2xf32>) -> tensor<?x3x2x2xf32>
    %15 = onnx.Conv(%14, %8, %3) {group = 1 : i64} : (tensor<?x3x2x2xf32>, tensor<4x3x1x1xf32>, none) -> tensor<?x4x2x2xf32>
    %16 = onnx.Softmax(%9) {axis = 1 : i64} : (tensor<?x2x2x2xf32>) -> tensor<?x2x2x2xf32>
    %Values, %Indices = onnx.TopK(%16, %2) {axis = 1 : i64, largest = 1 : i64, sorted = 1 : i64} : (tensor<?x2x2x2xf32>, tensor<1xi64>) -> (tensor<?x1x2x2xf32>, tensor<?x1x2x2xi64>)
    %17 = onnx.Equal(%Indices, %1) : (tensor<?x1x2x2xi64>, tensor<i64>) -> tensor<?x1x2x2xi1>
    %18 = onnx.Cast(%17) {to = 1 : i64} : (tensor<?x1x2x2xi1>) -> tensor<?x1x2x2xf32>
    %19 = onnx.Mul(%Values, %18) : (tensor<?x1x2x2xf32>, tensor<?x1x2x2xf32>) -> tensor<?x1x2x2xf32>
    %20 = onnx.ReduceSum(%19, %2) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64} : (tensor<?x1x2x2xf32>, tensor<1xi64>) -> tensor<?x1x2x2xf32>
    %21 = onnx.Mul(%12, %20) : (tensor<?x4x2x2xf32>, tensor<?x1x2x2xf32>) -> tensor<?x4x2x2xf32>
    %22 = onnx.Equal(%Indices, %0) : (tensor<?x1x2x2xi64>, tensor<i64>) -> tensor<?x1x2x2xi1>
    %23 = onnx.Cast(%22) {to = 1 : i64} : (tensor<?x1x2x2xi1>) -> tensor<?x1x2x2xf32>
    %24 = onnx.Mul(%Values, %23) : (tensor<?x1x2x2xf32>, tensor<?x1x2x2xf32>) -> tensor<?x1x2x2xf32>
    %25 = onnx.ReduceSum(%24, %2) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64} : (tensor<?x1x2x2xf32>, tensor<1xi64>) -> tensor<?x1x2x2xf32>
    %26 = onnx.Mul(%15, %25) : (tensor<?x4x2x2xf32>, tensor<?x1x2x2xf32>) -> tensor<?x4x2x2xf32>
    %27 = onnx.Add(%21, %26) : (tensor<?x4x2x2xf32>, tensor<?x4x2x2xf32>) -> tensor<?x4x2x2xf32>
    return %27 : tensor<?x4x2x2xf32>
  }
}

// -----

// Experts that read the pixels around are no functions of a pixel.
// SAID: remark: moe-raise: refused because an expert's body mixes tokens, or is not known to treat them one by one, at Conv
// CHECK-LABEL: func.func @main
// CHECK: onnx.TopK
// CHECK-NOT: moe.experts
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<2x4x1x1xf32>
    moe.weight.bind @w0 %0 : tensor<2x4x1x1xf32>
    %1 = moe.weight.load "w.bin" at 32 : tensor<3x4x3x3xf32>
    moe.weight.bind @w1 %1 : tensor<3x4x3x3xf32>
    %2 = moe.weight.load "w.bin" at 464 : tensor<3xf32>
    moe.weight.bind @w2 %2 : tensor<3xf32>
    %3 = moe.weight.load "w.bin" at 476 : tensor<4x3x1x1xf32>
    moe.weight.bind @w3 %3 : tensor<4x3x1x1xf32>
    %4 = moe.weight.load "w.bin" at 524 : tensor<3x4x3x3xf32>
    moe.weight.bind @w4 %4 : tensor<3x4x3x3xf32>
    %5 = moe.weight.load "w.bin" at 956 : tensor<3xf32>
    moe.weight.bind @w5 %5 : tensor<3xf32>
    %6 = moe.weight.load "w.bin" at 968 : tensor<4x3x1x1xf32>
    moe.weight.bind @w6 %6 : tensor<4x3x1x1xf32>
  }
  func.func @main(%arg0: tensor<?x4x2x2xf32>) -> tensor<?x4x2x2xf32> {
    %0 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
    %1 = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
    %2 = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %3 = onnx.none : () -> none
    %4 = moe.weight.use @w0 : tensor<2x4x1x1xf32>
    %5 = moe.weight.use @w1 : tensor<3x4x3x3xf32>
    %6 = moe.weight.use @w2 : tensor<3xf32>
    %7 = moe.weight.use @w3 : tensor<4x3x1x1xf32>
    %8 = moe.weight.use @w4 : tensor<3x4x3x3xf32>
    %9 = moe.weight.use @w5 : tensor<3xf32>
    %10 = moe.weight.use @w6 : tensor<4x3x1x1xf32>
    %11 = onnx.Conv(%arg0, %4, %3) {group = 1 : i64} : (tensor<?x4x2x2xf32>, tensor<2x4x1x1xf32>, none) -> tensor<?x2x2x2xf32>
    %12 = onnx.Conv(%arg0, %5, %6) {group = 1 : i64, pads = array<i64: 1, 1, 1, 1>} : (tensor<?x4x2x2xf32>, tensor<3x4x3x3xf32>, tensor<3xf32>) -> tensor<?x3x2x2xf32>
    %13 = onnx.Relu(%12) : (tensor<?x3x2x2xf32>) -> tensor<?x3x2x2xf32>
    %14 = onnx.Conv(%13, %7, %3) {group = 1 : i64} : (tensor<?x3x2x2xf32>, tensor<4x3x1x1xf32>, none) -> tensor<?x4x2x2xf32>
    %15 = onnx.Conv(%arg0, %8, %9) {group = 1 : i64, pads = array<i64: 1, 1, 1, 1>} : (tensor<?x4x2x2xf32>, tensor<3x4x3x3xf32>, tensor<3xf32>) -> tensor<?x3x2x2xf32>
    %16 = onnx.Relu(%15) : (tensor<?x3x2x2xf32>) -> tensor<?x3x2x2xf32>
    %17 = onnx.Conv(%16, %10, %3) {group = 1 : i64} : (tensor<?x3x2x2xf32>, tensor<4x3x1x1xf32>, none) -> tensor<?x4x2x2xf32>
    %18 = onnx.Softmax(%11) {axis = 1 : i64} : (tensor<?x2x2x2xf32>) -> tensor<?x2x2x2xf32>
    %Values, %Indices = onnx.TopK(%18, %2) {axis = 1 : i64, largest = 1 : i64, sorted = 1 : i64} : (tensor<?x2x2x2xf32>, tensor<1xi64>) -> (tensor<?x1x2x2xf32>, tensor<?x1x2x2xi64>)
    %19 = onnx.Equal(%Indices, %1) : (tensor<?x1x2x2xi64>, tensor<i64>) -> tensor<?x1x2x2xi1>
    %20 = onnx.Cast(%19) {to = 1 : i64} : (tensor<?x1x2x2xi1>) -> tensor<?x1x2x2xf32>
    %21 = onnx.Mul(%Values, %20) : (tensor<?x1x2x2xf32>, tensor<?x1x2x2xf32>) -> tensor<?x1x2x2xf32>
    %22 = onnx.ReduceSum(%21, %2) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64} : (tensor<?x1x2x2xf32>, tensor<1xi64>) -> tensor<?x1x2x2xf32>
    %23 = onnx.Mul(%14, %22) : (tensor<?x4x2x2xf32>, tensor<?x1x2x2xf32>) -> tensor<?x4x2x2xf32>
    %24 = onnx.Equal(%Indices, %0) : (tensor<?x1x2x2xi64>, tensor<i64>) -> tensor<?x1x2x2xi1>
    %25 = onnx.Cast(%24) {to = 1 : i64} : (tensor<?x1x2x2xi1>) -> tensor<?x1x2x2xf32>
    %26 = onnx.Mul(%Values, %25) : (tensor<?x1x2x2xf32>, tensor<?x1x2x2xf32>) -> tensor<?x1x2x2xf32>
    %27 = onnx.ReduceSum(%26, %2) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64} : (tensor<?x1x2x2xf32>, tensor<1xi64>) -> tensor<?x1x2x2xf32>
    %28 = onnx.Mul(%17, %27) : (tensor<?x4x2x2xf32>, tensor<?x1x2x2xf32>) -> tensor<?x4x2x2xf32>
    %29 = onnx.Add(%23, %28) : (tensor<?x4x2x2xf32>, tensor<?x4x2x2xf32>) -> tensor<?x4x2x2xf32>
    return %29 : tensor<?x4x2x2xf32>
  }
}

// -----

// Experts of three layers are one region.
// CHECK: moe.bank @layer0 experts(2) hidden(4) inter(0) parameters(
// CHECK-NEXT: ^bb0(%{{.*}}: tensor<?x4xf32>
// CHECK-COUNT-3: onnx.MatMul
// CHECK-LABEL: func.func @main(
// CHECK: moe.experts @layer0(
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<2x4x1x1xf32>
    moe.weight.bind @w0 %0 : tensor<2x4x1x1xf32>
    %1 = moe.weight.load "w.bin" at 32 : tensor<3x4x1x1xf32>
    moe.weight.bind @w1 %1 : tensor<3x4x1x1xf32>
    %2 = moe.weight.load "w.bin" at 80 : tensor<3xf32>
    moe.weight.bind @w2 %2 : tensor<3xf32>
    %3 = moe.weight.load "w.bin" at 92 : tensor<3x3x1x1xf32>
    moe.weight.bind @w3 %3 : tensor<3x3x1x1xf32>
    %4 = moe.weight.load "w.bin" at 128 : tensor<3xf32>
    moe.weight.bind @w4 %4 : tensor<3xf32>
    %5 = moe.weight.load "w.bin" at 140 : tensor<4x3x1x1xf32>
    moe.weight.bind @w5 %5 : tensor<4x3x1x1xf32>
    %6 = moe.weight.load "w.bin" at 188 : tensor<4xf32>
    moe.weight.bind @w6 %6 : tensor<4xf32>
    %7 = moe.weight.load "w.bin" at 204 : tensor<3x4x1x1xf32>
    moe.weight.bind @w7 %7 : tensor<3x4x1x1xf32>
    %8 = moe.weight.load "w.bin" at 252 : tensor<3xf32>
    moe.weight.bind @w8 %8 : tensor<3xf32>
    %9 = moe.weight.load "w.bin" at 264 : tensor<3x3x1x1xf32>
    moe.weight.bind @w9 %9 : tensor<3x3x1x1xf32>
    %10 = moe.weight.load "w.bin" at 300 : tensor<3xf32>
    moe.weight.bind @w10 %10 : tensor<3xf32>
    %11 = moe.weight.load "w.bin" at 312 : tensor<4x3x1x1xf32>
    moe.weight.bind @w11 %11 : tensor<4x3x1x1xf32>
    %12 = moe.weight.load "w.bin" at 360 : tensor<4xf32>
    moe.weight.bind @w12 %12 : tensor<4xf32>
  }
  func.func @main(%arg0: tensor<?x4x2x2xf32>) -> tensor<?x4x2x2xf32> {
    %0 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
    %1 = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
    %2 = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %3 = onnx.none : () -> none
    %4 = moe.weight.use @w0 : tensor<2x4x1x1xf32>
    %5 = moe.weight.use @w1 : tensor<3x4x1x1xf32>
    %6 = moe.weight.use @w2 : tensor<3xf32>
    %7 = moe.weight.use @w3 : tensor<3x3x1x1xf32>
    %8 = moe.weight.use @w4 : tensor<3xf32>
    %9 = moe.weight.use @w5 : tensor<4x3x1x1xf32>
    %10 = moe.weight.use @w6 : tensor<4xf32>
    %11 = moe.weight.use @w7 : tensor<3x4x1x1xf32>
    %12 = moe.weight.use @w8 : tensor<3xf32>
    %13 = moe.weight.use @w9 : tensor<3x3x1x1xf32>
    %14 = moe.weight.use @w10 : tensor<3xf32>
    %15 = moe.weight.use @w11 : tensor<4x3x1x1xf32>
    %16 = moe.weight.use @w12 : tensor<4xf32>
    %17 = onnx.Conv(%arg0, %4, %3) {group = 1 : i64} : (tensor<?x4x2x2xf32>, tensor<2x4x1x1xf32>, none) -> tensor<?x2x2x2xf32>
    %18 = onnx.Conv(%arg0, %5, %6) {group = 1 : i64} : (tensor<?x4x2x2xf32>, tensor<3x4x1x1xf32>, tensor<3xf32>) -> tensor<?x3x2x2xf32>
    %19 = onnx.Relu(%18) : (tensor<?x3x2x2xf32>) -> tensor<?x3x2x2xf32>
    %20 = onnx.Conv(%19, %7, %8) {group = 1 : i64} : (tensor<?x3x2x2xf32>, tensor<3x3x1x1xf32>, tensor<3xf32>) -> tensor<?x3x2x2xf32>
    %21 = onnx.Relu(%20) : (tensor<?x3x2x2xf32>) -> tensor<?x3x2x2xf32>
    %22 = onnx.Conv(%21, %9, %10) {group = 1 : i64} : (tensor<?x3x2x2xf32>, tensor<4x3x1x1xf32>, tensor<4xf32>) -> tensor<?x4x2x2xf32>
    %23 = onnx.Conv(%arg0, %11, %12) {group = 1 : i64} : (tensor<?x4x2x2xf32>, tensor<3x4x1x1xf32>, tensor<3xf32>) -> tensor<?x3x2x2xf32>
    %24 = onnx.Relu(%23) : (tensor<?x3x2x2xf32>) -> tensor<?x3x2x2xf32>
    %25 = onnx.Conv(%24, %13, %14) {group = 1 : i64} : (tensor<?x3x2x2xf32>, tensor<3x3x1x1xf32>, tensor<3xf32>) -> tensor<?x3x2x2xf32>
    %26 = onnx.Relu(%25) : (tensor<?x3x2x2xf32>) -> tensor<?x3x2x2xf32>
    %27 = onnx.Conv(%26, %15, %16) {group = 1 : i64} : (tensor<?x3x2x2xf32>, tensor<4x3x1x1xf32>, tensor<4xf32>) -> tensor<?x4x2x2xf32>
    %28 = onnx.Softmax(%17) {axis = 1 : i64} : (tensor<?x2x2x2xf32>) -> tensor<?x2x2x2xf32>
    %Values, %Indices = onnx.TopK(%28, %2) {axis = 1 : i64, largest = 1 : i64, sorted = 1 : i64} : (tensor<?x2x2x2xf32>, tensor<1xi64>) -> (tensor<?x1x2x2xf32>, tensor<?x1x2x2xi64>)
    %29 = onnx.Equal(%Indices, %1) : (tensor<?x1x2x2xi64>, tensor<i64>) -> tensor<?x1x2x2xi1>
    %30 = onnx.Cast(%29) {to = 1 : i64} : (tensor<?x1x2x2xi1>) -> tensor<?x1x2x2xf32>
    %31 = onnx.Mul(%Values, %30) : (tensor<?x1x2x2xf32>, tensor<?x1x2x2xf32>) -> tensor<?x1x2x2xf32>
    %32 = onnx.ReduceSum(%31, %2) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64} : (tensor<?x1x2x2xf32>, tensor<1xi64>) -> tensor<?x1x2x2xf32>
    %33 = onnx.Mul(%22, %32) : (tensor<?x4x2x2xf32>, tensor<?x1x2x2xf32>) -> tensor<?x4x2x2xf32>
    %34 = onnx.Equal(%Indices, %0) : (tensor<?x1x2x2xi64>, tensor<i64>) -> tensor<?x1x2x2xi1>
    %35 = onnx.Cast(%34) {to = 1 : i64} : (tensor<?x1x2x2xi1>) -> tensor<?x1x2x2xf32>
    %36 = onnx.Mul(%Values, %35) : (tensor<?x1x2x2xf32>, tensor<?x1x2x2xf32>) -> tensor<?x1x2x2xf32>
    %37 = onnx.ReduceSum(%36, %2) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64} : (tensor<?x1x2x2xf32>, tensor<1xi64>) -> tensor<?x1x2x2xf32>
    %38 = onnx.Mul(%27, %37) : (tensor<?x4x2x2xf32>, tensor<?x1x2x2xf32>) -> tensor<?x4x2x2xf32>
    %39 = onnx.Add(%33, %38) : (tensor<?x4x2x2xf32>, tensor<?x4x2x2xf32>) -> tensor<?x4x2x2xf32>
    return %39 : tensor<?x4x2x2xf32>
  }
}
