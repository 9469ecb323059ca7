// RUN: moe-opt %s -raise-moe -canonicalize 2>/dev/null | FileCheck %s
// Experts whose matrices are inputs of the graph: the only thing of its own that an expert has is
// its place in them.

// CHECK: moe.weight.literal dense<{{.*}}> : tensor<i64>
// CHECK: moe.bank @layer0 experts(2) hidden(4) inter(0) parameters([@layer0.p0]) {
// CHECK-NEXT: ^bb0(%[[X:.*]]: tensor<?x4xf32>, %[[E:.*]]: tensor<i64>, %[[UP:.*]]: tensor<2x5x4xf32>, %[[DOWN:.*]]: tensor<2x4x5xf32>):
// CHECK: onnx.Gather(%[[UP]], %[[E]])
// CHECK: onnx.Relu
// CHECK: onnx.Gather(%[[DOWN]], %[[E]])
// CHECK-NOT: moe.bank
// CHECK: moe.experts @layer0({{.*}}) {contexts = ["whole", "whole"]
// CHECK-NOT: onnx.MatMul
module {
  moe.weights @weights {
  }
  func.func @main(%arg0: tensor<3x4xf32>, %arg1: tensor<3x2xf32>, %arg2: tensor<2x5x4xf32>, %arg3: tensor<2x4x5xf32>) -> tensor<3x4xf32> {
    %0 = onnx.Constant {value = dense<1> : tensor<3xi64>} : () -> tensor<3xi64>
    %1 = onnx.Constant {value = dense<3> : tensor<1xi64>} : () -> tensor<1xi64>
    %2 = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %3 = onnx.Constant {value = dense<[-1, 1, 4]> : tensor<3xi64>} : () -> tensor<3xi64>
    %4 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
    %5 = onnx.Constant {value = dense<0> : tensor<1xi64>} : () -> tensor<1xi64>
    %6 = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
    %7 = onnx.Constant {value = dense<0> : tensor<2xi64>} : () -> tensor<2xi64>
    %8 = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %9 = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %10 = onnx.none : () -> none
    %11 = onnx.Softmax(%arg1) {axis = -1 : i64} : (tensor<3x2xf32>) -> tensor<3x2xf32>
    %Values, %Indices = onnx.TopK(%11, %9) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64} : (tensor<3x2xf32>, tensor<1xi64>) -> (tensor<3x1xf32>, tensor<3x1xi64>)
    %12 = onnx.ReduceSum(%Values, %8) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64} : (tensor<3x1xf32>, tensor<1xi64>) -> tensor<3x1xf32>
    %13 = onnx.Div(%Values, %12) : (tensor<3x1xf32>, tensor<3x1xf32>) -> tensor<3x1xf32>
    %14 = onnx.Reshape(%Indices, %8) {allowzero = 0 : i64} : (tensor<3x1xi64>, tensor<1xi64>) -> tensor<3xi64>
    %Values_0, %Indices_1 = onnx.TopK(%14, %1) {axis = -1 : i64, largest = 0 : i64, sorted = 1 : i64} : (tensor<3xi64>, tensor<1xi64>) -> (tensor<3xi64>, tensor<3xi64>)
    %15 = onnx.Gather(%arg0, %Indices_1) {axis = 0 : i64} : (tensor<3x4xf32>, tensor<3xi64>) -> tensor<3x4xf32>
    %16 = onnx.ScatterElements(%7, %14, %0) {axis = 0 : i64, reduction = "add"} : (tensor<2xi64>, tensor<3xi64>, tensor<3xi64>) -> tensor<2xi64>
    %17 = onnx.CumSum(%16, %6) {exclusive = 0 : i64, reverse = 0 : i64} : (tensor<2xi64>, tensor<i64>) -> tensor<2xi64>
    %18:2 = onnx.Split(%17, %10) {axis = 0 : i64, num_outputs = 2 : i64} : (tensor<2xi64>, none) -> (tensor<1xi64>, tensor<1xi64>)
    %19 = onnx.Slice(%15, %5, %18#0, %5, %10) : (tensor<3x4xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, none) -> tensor<?x4xf32>
    %20 = onnx.Gather(%arg2, %6) {axis = 0 : i64} : (tensor<2x5x4xf32>, tensor<i64>) -> tensor<5x4xf32>
    %21 = onnx.Transpose(%20) {perm = array<i64: 1, 0>} : (tensor<5x4xf32>) -> tensor<4x5xf32>
    %22 = onnx.MatMul(%19, %21) : (tensor<?x4xf32>, tensor<4x5xf32>) -> tensor<?x5xf32>
    %23 = onnx.Relu(%22) : (tensor<?x5xf32>) -> tensor<?x5xf32>
    %24 = onnx.Gather(%arg3, %6) {axis = 0 : i64} : (tensor<2x4x5xf32>, tensor<i64>) -> tensor<4x5xf32>
    %25 = onnx.Transpose(%24) {perm = array<i64: 1, 0>} : (tensor<4x5xf32>) -> tensor<5x4xf32>
    %26 = onnx.MatMul(%23, %25) : (tensor<?x5xf32>, tensor<5x4xf32>) -> tensor<?x4xf32>
    %27 = onnx.Slice(%15, %18#0, %18#1, %5, %10) : (tensor<3x4xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, none) -> tensor<?x4xf32>
    %28 = onnx.Gather(%arg2, %4) {axis = 0 : i64} : (tensor<2x5x4xf32>, tensor<i64>) -> tensor<5x4xf32>
    %29 = onnx.Transpose(%28) {perm = array<i64: 1, 0>} : (tensor<5x4xf32>) -> tensor<4x5xf32>
    %30 = onnx.MatMul(%27, %29) : (tensor<?x4xf32>, tensor<4x5xf32>) -> tensor<?x5xf32>
    %31 = onnx.Relu(%30) : (tensor<?x5xf32>) -> tensor<?x5xf32>
    %32 = onnx.Gather(%arg3, %4) {axis = 0 : i64} : (tensor<2x4x5xf32>, tensor<i64>) -> tensor<4x5xf32>
    %33 = onnx.Transpose(%32) {perm = array<i64: 1, 0>} : (tensor<4x5xf32>) -> tensor<5x4xf32>
    %34 = onnx.MatMul(%31, %33) : (tensor<?x5xf32>, tensor<5x4xf32>) -> tensor<?x4xf32>
    %35 = onnx.Shape(%Indices_1) : (tensor<3xi64>) -> tensor<1xi64>
    %Values_2, %Indices_3 = onnx.TopK(%Indices_1, %35) {axis = -1 : i64, largest = 0 : i64, sorted = 1 : i64} : (tensor<3xi64>, tensor<1xi64>) -> (tensor<3xi64>, tensor<3xi64>)
    %36 = onnx.Concat(%26, %34) {axis = 0 : i64} : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %37 = onnx.Gather(%36, %Indices_3) {axis = 0 : i64} : (tensor<?x4xf32>, tensor<3xi64>) -> tensor<3x4xf32>
    %38 = onnx.Reshape(%37, %3) {allowzero = 0 : i64} : (tensor<3x4xf32>, tensor<3xi64>) -> tensor<3x1x4xf32>
    %39 = onnx.Unsqueeze(%13, %2) : (tensor<3x1xf32>, tensor<1xi64>) -> tensor<3x1x1xf32>
    %40 = onnx.Mul(%38, %39) : (tensor<3x1x4xf32>, tensor<3x1x1xf32>) -> tensor<3x1x4xf32>
    %41 = onnx.ReduceSum(%40, %9) {keepdims = 0 : i64, noop_with_empty_axes = 0 : i64} : (tensor<3x1x4xf32>, tensor<1xi64>) -> tensor<3x4xf32>
    return %41 : tensor<3x4xf32>
  }
}
