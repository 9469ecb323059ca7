// RUN: moe-opt %s -split-input-file -raise-moe -canonicalize -cse 2>/dev/null | FileCheck %s
// RUN: moe-opt %s -split-input-file -raise-moe 2>&1 >/dev/null | FileCheck %s --check-prefix=SAID
// Results of experts that are images, side by side; of each slot of a top-k the chosen one is
// gathered, its id copied over all channels and places.

// CHECK: moe.bank @layer0 experts(2) hidden(0) inter(0) parameters(
// CHECK-NEXT: ^bb0(%[[X:.*]]: tensor<?x2x?x?xf32>
// CHECK: onnx.Conv(%[[X]]
// CHECK-LABEL: func.func @main(
// CHECK-SAME: %[[IN:.*]]: tensor<?x2x?x?xf32>)
// CHECK: %[[IDS:.*]], %[[WEIGHTS:.*]] = moe.select
// CHECK: %[[Y:.*]] = moe.experts @layer0(%[[IN]], %[[IDS]], %[[WEIGHTS]])
// CHECK: return
// SAID: remark: moe-raise: raised 2 experts, top 2
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<2x2x1x1xf32>
    moe.weight.bind @w0 %0 : tensor<2x2x1x1xf32>
    %1 = moe.weight.load "w.bin" at 16 : tensor<2xf32>
    moe.weight.bind @w1 %1 : tensor<2xf32>
    %2 = moe.weight.load "w.bin" at 24 : tensor<3x2x3x3xf32>
    moe.weight.bind @w3 %2 : tensor<3x2x3x3xf32>
    %3 = moe.weight.load "w.bin" at 240 : tensor<3xf32>
    moe.weight.bind @w4 %3 : tensor<3xf32>
    %4 = moe.weight.load "w.bin" at 252 : tensor<2x3x1x1xf32>
    moe.weight.bind @w5 %4 : tensor<2x3x1x1xf32>
    %5 = moe.weight.load "w.bin" at 276 : tensor<2xf32>
    moe.weight.bind @w6 %5 : tensor<2xf32>
    %6 = moe.weight.load "w.bin" at 284 : tensor<3x2x3x3xf32>
    moe.weight.bind @w7 %6 : tensor<3x2x3x3xf32>
    %7 = moe.weight.load "w.bin" at 500 : tensor<3xf32>
    moe.weight.bind @w8 %7 : tensor<3xf32>
    %8 = moe.weight.load "w.bin" at 512 : tensor<2x3x1x1xf32>
    moe.weight.bind @w9 %8 : tensor<2x3x1x1xf32>
    %9 = moe.weight.load "w.bin" at 536 : tensor<2xf32>
    moe.weight.bind @w10 %9 : tensor<2xf32>
  }
  func.func @main(%arg0: tensor<?x2x?x?xf32>) -> tensor<?x2x?x?xf32> {
    %0 = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %1 = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %2 = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
    %3 = onnx.Constant {value = dense<[-1, 1, 1, 1, 1]> : tensor<5xi64>} : () -> tensor<5xi64>
    %4 = onnx.Constant {value = dense<3> : tensor<i64>} : () -> tensor<i64>
    %5 = onnx.Constant {value = dense<0> : tensor<1xi64>} : () -> tensor<1xi64>
    %6 = onnx.Constant {value = dense<4> : tensor<i64>} : () -> tensor<i64>
    %7 = onnx.Constant {value = dense<[-1, 1, 1, 1]> : tensor<4xi64>} : () -> tensor<4xi64>
    %8 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
    %9 = moe.weight.use @w0 : tensor<2x2x1x1xf32>
    %10 = moe.weight.use @w1 : tensor<2xf32>
    %11 = moe.weight.use @w3 : tensor<3x2x3x3xf32>
    %12 = moe.weight.use @w4 : tensor<3xf32>
    %13 = moe.weight.use @w5 : tensor<2x3x1x1xf32>
    %14 = moe.weight.use @w6 : tensor<2xf32>
    %15 = moe.weight.use @w7 : tensor<3x2x3x3xf32>
    %16 = moe.weight.use @w8 : tensor<3xf32>
    %17 = moe.weight.use @w9 : tensor<2x3x1x1xf32>
    %18 = moe.weight.use @w10 : tensor<2xf32>
    %19 = onnx.GlobalAveragePool(%arg0) : (tensor<?x2x?x?xf32>) -> tensor<?x2x1x1xf32>
    %20 = onnx.Conv(%19, %9, %10) {group = 1 : i64} : (tensor<?x2x1x1xf32>, tensor<2x2x1x1xf32>, tensor<2xf32>) -> tensor<?x2x1x1xf32>
    %21 = onnx.Flatten(%20) {axis = 1 : i64} : (tensor<?x2x1x1xf32>) -> tensor<?x2xf32>
    %22 = onnx.Softmax(%21) {axis = -1 : i64} : (tensor<?x2xf32>) -> tensor<?x2xf32>
    %Values, %Indices = onnx.TopK(%22, %0) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64} : (tensor<?x2xf32>, tensor<1xi64>) -> (tensor<?x2xf32>, tensor<?x2xi64>)
    %23 = onnx.Conv(%arg0, %11, %12) {group = 1 : i64, pads = array<i64: 1, 1, 1, 1>} : (tensor<?x2x?x?xf32>, tensor<3x2x3x3xf32>, tensor<3xf32>) -> tensor<?x3x?x?xf32>
    %24 = onnx.Relu(%23) : (tensor<?x3x?x?xf32>) -> tensor<?x3x?x?xf32>
    %25 = onnx.Conv(%24, %13, %14) {group = 1 : i64} : (tensor<?x3x?x?xf32>, tensor<2x3x1x1xf32>, tensor<2xf32>) -> tensor<?x2x?x?xf32>
    %26 = onnx.Conv(%arg0, %15, %16) {group = 1 : i64, pads = array<i64: 1, 1, 1, 1>} : (tensor<?x2x?x?xf32>, tensor<3x2x3x3xf32>, tensor<3xf32>) -> tensor<?x3x?x?xf32>
    %27 = onnx.Relu(%26) : (tensor<?x3x?x?xf32>) -> tensor<?x3x?x?xf32>
    %28 = onnx.Conv(%27, %17, %18) {group = 1 : i64} : (tensor<?x3x?x?xf32>, tensor<2x3x1x1xf32>, tensor<2xf32>) -> tensor<?x2x?x?xf32>
    %29 = onnx.Unsqueeze(%25, %1) : (tensor<?x2x?x?xf32>, tensor<1xi64>) -> tensor<?x1x2x?x?xf32>
    %30 = onnx.Unsqueeze(%28, %1) : (tensor<?x2x?x?xf32>, tensor<1xi64>) -> tensor<?x1x2x?x?xf32>
    %31 = onnx.Concat(%29, %30) {axis = 1 : i64} : (tensor<?x1x2x?x?xf32>, tensor<?x1x2x?x?xf32>) -> tensor<?x2x2x?x?xf32>
    %32 = onnx.Gather(%Indices, %2) {axis = 1 : i64} : (tensor<?x2xi64>, tensor<i64>) -> tensor<?xi64>
    %33 = onnx.Reshape(%32, %3) {allowzero = 0 : i64} : (tensor<?xi64>, tensor<5xi64>) -> tensor<?x1x1x1x1xi64>
    %34 = onnx.Shape(%31) : (tensor<?x2x2x?x?xf32>) -> tensor<5xi64>
    %35 = onnx.Gather(%34, %4) {axis = 0 : i64} : (tensor<5xi64>, tensor<i64>) -> tensor<i64>
    %36 = onnx.Unsqueeze(%35, %5) : (tensor<i64>, tensor<1xi64>) -> tensor<1xi64>
    %37 = onnx.Gather(%34, %6) {axis = 0 : i64} : (tensor<5xi64>, tensor<i64>) -> tensor<i64>
    %38 = onnx.Unsqueeze(%37, %5) : (tensor<i64>, tensor<1xi64>) -> tensor<1xi64>
    %39 = onnx.Concat(%1, %1, %0, %36, %38) {axis = 0 : i64} : (tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<5xi64>
    %40 = onnx.Expand(%33, %39) : (tensor<?x1x1x1x1xi64>, tensor<5xi64>) -> tensor<?x1x2x?x?xi64>
    %41 = onnx.GatherElements(%31, %40) {axis = 1 : i64} : (tensor<?x2x2x?x?xf32>, tensor<?x1x2x?x?xi64>) -> tensor<?x1x2x?x?xf32>
    %42 = onnx.Squeeze(%41, %1) : (tensor<?x1x2x?x?xf32>, tensor<1xi64>) -> tensor<?x2x?x?xf32>
    %43 = onnx.Gather(%Values, %2) {axis = 1 : i64} : (tensor<?x2xf32>, tensor<i64>) -> tensor<?xf32>
    %44 = onnx.Reshape(%43, %7) {allowzero = 0 : i64} : (tensor<?xf32>, tensor<4xi64>) -> tensor<?x1x1x1xf32>
    %45 = onnx.Mul(%42, %44) : (tensor<?x2x?x?xf32>, tensor<?x1x1x1xf32>) -> tensor<?x2x?x?xf32>
    %46 = onnx.Gather(%Indices, %8) {axis = 1 : i64} : (tensor<?x2xi64>, tensor<i64>) -> tensor<?xi64>
    %47 = onnx.Reshape(%46, %3) {allowzero = 0 : i64} : (tensor<?xi64>, tensor<5xi64>) -> tensor<?x1x1x1x1xi64>
    %48 = onnx.Expand(%47, %39) : (tensor<?x1x1x1x1xi64>, tensor<5xi64>) -> tensor<?x1x2x?x?xi64>
    %49 = onnx.GatherElements(%31, %48) {axis = 1 : i64} : (tensor<?x2x2x?x?xf32>, tensor<?x1x2x?x?xi64>) -> tensor<?x1x2x?x?xf32>
    %50 = onnx.Squeeze(%49, %1) : (tensor<?x1x2x?x?xf32>, tensor<1xi64>) -> tensor<?x2x?x?xf32>
    %51 = onnx.Gather(%Values, %8) {axis = 1 : i64} : (tensor<?x2xf32>, tensor<i64>) -> tensor<?xf32>
    %52 = onnx.Reshape(%51, %7) {allowzero = 0 : i64} : (tensor<?xf32>, tensor<4xi64>) -> tensor<?x1x1x1xf32>
    %53 = onnx.Mul(%50, %52) : (tensor<?x2x?x?xf32>, tensor<?x1x1x1xf32>) -> tensor<?x2x?x?xf32>
    %54 = onnx.Add(%45, %53) : (tensor<?x2x?x?xf32>, tensor<?x2x?x?xf32>) -> tensor<?x2x?x?xf32>
    return %54 : tensor<?x2x?x?xf32>
  }
}

// -----

// The same by pairs of a token and its id.
// CHECK-LABEL: func.func @main(
// CHECK: moe.experts @layer0(
// CHECK-NOT: onnx.GatherND
// SAID: remark: moe-raise: raised 2 experts, top 2
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<2x2x1x1xf32>
    moe.weight.bind @w0 %0 : tensor<2x2x1x1xf32>
    %1 = moe.weight.load "w.bin" at 16 : tensor<2xf32>
    moe.weight.bind @w1 %1 : tensor<2xf32>
    %2 = moe.weight.load "w.bin" at 24 : tensor<3x2x3x3xf32>
    moe.weight.bind @w3 %2 : tensor<3x2x3x3xf32>
    %3 = moe.weight.load "w.bin" at 240 : tensor<3xf32>
    moe.weight.bind @w4 %3 : tensor<3xf32>
    %4 = moe.weight.load "w.bin" at 252 : tensor<2x3x1x1xf32>
    moe.weight.bind @w5 %4 : tensor<2x3x1x1xf32>
    %5 = moe.weight.load "w.bin" at 276 : tensor<2xf32>
    moe.weight.bind @w6 %5 : tensor<2xf32>
    %6 = moe.weight.load "w.bin" at 284 : tensor<3x2x3x3xf32>
    moe.weight.bind @w7 %6 : tensor<3x2x3x3xf32>
    %7 = moe.weight.load "w.bin" at 500 : tensor<3xf32>
    moe.weight.bind @w8 %7 : tensor<3xf32>
    %8 = moe.weight.load "w.bin" at 512 : tensor<2x3x1x1xf32>
    moe.weight.bind @w9 %8 : tensor<2x3x1x1xf32>
    %9 = moe.weight.load "w.bin" at 536 : tensor<2xf32>
    moe.weight.bind @w10 %9 : tensor<2xf32>
  }
  func.func @main(%arg0: tensor<?x2x5x4xf32>) -> tensor<?x2x5x4xf32> {
    %0 = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %1 = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %2 = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
    %3 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
    %4 = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %5 = onnx.Constant {value = dense<[-1, 1, 1, 1]> : tensor<4xi64>} : () -> tensor<4xi64>
    %6 = moe.weight.use @w0 : tensor<2x2x1x1xf32>
    %7 = moe.weight.use @w1 : tensor<2xf32>
    %8 = moe.weight.use @w3 : tensor<3x2x3x3xf32>
    %9 = moe.weight.use @w4 : tensor<3xf32>
    %10 = moe.weight.use @w5 : tensor<2x3x1x1xf32>
    %11 = moe.weight.use @w6 : tensor<2xf32>
    %12 = moe.weight.use @w7 : tensor<3x2x3x3xf32>
    %13 = moe.weight.use @w8 : tensor<3xf32>
    %14 = moe.weight.use @w9 : tensor<2x3x1x1xf32>
    %15 = moe.weight.use @w10 : tensor<2xf32>
    %16 = onnx.GlobalAveragePool(%arg0) : (tensor<?x2x5x4xf32>) -> tensor<?x2x1x1xf32>
    %17 = onnx.Conv(%16, %6, %7) {group = 1 : i64} : (tensor<?x2x1x1xf32>, tensor<2x2x1x1xf32>, tensor<2xf32>) -> tensor<?x2x1x1xf32>
    %18 = onnx.Flatten(%17) {axis = 1 : i64} : (tensor<?x2x1x1xf32>) -> tensor<?x2xf32>
    %19 = onnx.Softmax(%18) {axis = -1 : i64} : (tensor<?x2xf32>) -> tensor<?x2xf32>
    %Values, %Indices = onnx.TopK(%19, %0) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64} : (tensor<?x2xf32>, tensor<1xi64>) -> (tensor<?x2xf32>, tensor<?x2xi64>)
    %20 = onnx.Conv(%arg0, %8, %9) {group = 1 : i64, pads = array<i64: 1, 1, 1, 1>} : (tensor<?x2x5x4xf32>, tensor<3x2x3x3xf32>, tensor<3xf32>) -> tensor<?x3x5x4xf32>
    %21 = onnx.Relu(%20) : (tensor<?x3x5x4xf32>) -> tensor<?x3x5x4xf32>
    %22 = onnx.Conv(%21, %10, %11) {group = 1 : i64} : (tensor<?x3x5x4xf32>, tensor<2x3x1x1xf32>, tensor<2xf32>) -> tensor<?x2x5x4xf32>
    %23 = onnx.Conv(%arg0, %12, %13) {group = 1 : i64, pads = array<i64: 1, 1, 1, 1>} : (tensor<?x2x5x4xf32>, tensor<3x2x3x3xf32>, tensor<3xf32>) -> tensor<?x3x5x4xf32>
    %24 = onnx.Relu(%23) : (tensor<?x3x5x4xf32>) -> tensor<?x3x5x4xf32>
    %25 = onnx.Conv(%24, %14, %15) {group = 1 : i64} : (tensor<?x3x5x4xf32>, tensor<2x3x1x1xf32>, tensor<2xf32>) -> tensor<?x2x5x4xf32>
    %26 = onnx.Unsqueeze(%22, %1) : (tensor<?x2x5x4xf32>, tensor<1xi64>) -> tensor<?x1x2x5x4xf32>
    %27 = onnx.Unsqueeze(%25, %1) : (tensor<?x2x5x4xf32>, tensor<1xi64>) -> tensor<?x1x2x5x4xf32>
    %28 = onnx.Concat(%26, %27) {axis = 1 : i64} : (tensor<?x1x2x5x4xf32>, tensor<?x1x2x5x4xf32>) -> tensor<?x2x2x5x4xf32>
    %29 = onnx.Gather(%Indices, %2) {axis = 1 : i64} : (tensor<?x2xi64>, tensor<i64>) -> tensor<?xi64>
    %30 = onnx.Shape(%arg0) : (tensor<?x2x5x4xf32>) -> tensor<4xi64>
    %31 = onnx.Gather(%30, %2) {axis = 0 : i64} : (tensor<4xi64>, tensor<i64>) -> tensor<i64>
    %32 = onnx.Range(%2, %31, %3) {stash_type = 1 : i64} : (tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<?xi64>
    %33 = onnx.Unsqueeze(%32, %4) : (tensor<?xi64>, tensor<1xi64>) -> tensor<?x1xi64>
    %34 = onnx.Unsqueeze(%29, %4) : (tensor<?xi64>, tensor<1xi64>) -> tensor<?x1xi64>
    %35 = onnx.Concat(%33, %34) {axis = -1 : i64} : (tensor<?x1xi64>, tensor<?x1xi64>) -> tensor<?x2xi64>
    %36 = onnx.GatherND(%28, %35) {batch_dims = 0 : i64} : (tensor<?x2x2x5x4xf32>, tensor<?x2xi64>) -> tensor<?x2x5x4xf32>
    %37 = onnx.Gather(%Values, %2) {axis = 1 : i64} : (tensor<?x2xf32>, tensor<i64>) -> tensor<?xf32>
    %38 = onnx.Reshape(%37, %5) {allowzero = 0 : i64} : (tensor<?xf32>, tensor<4xi64>) -> tensor<?x1x1x1xf32>
    %39 = onnx.Mul(%36, %38) : (tensor<?x2x5x4xf32>, tensor<?x1x1x1xf32>) -> tensor<?x2x5x4xf32>
    %40 = onnx.Gather(%Indices, %3) {axis = 1 : i64} : (tensor<?x2xi64>, tensor<i64>) -> tensor<?xi64>
    %41 = onnx.Unsqueeze(%40, %4) : (tensor<?xi64>, tensor<1xi64>) -> tensor<?x1xi64>
    %42 = onnx.Concat(%33, %41) {axis = -1 : i64} : (tensor<?x1xi64>, tensor<?x1xi64>) -> tensor<?x2xi64>
    %43 = onnx.GatherND(%28, %42) {batch_dims = 0 : i64} : (tensor<?x2x2x5x4xf32>, tensor<?x2xi64>) -> tensor<?x2x5x4xf32>
    %44 = onnx.Gather(%Values, %3) {axis = 1 : i64} : (tensor<?x2xf32>, tensor<i64>) -> tensor<?xf32>
    %45 = onnx.Reshape(%44, %5) {allowzero = 0 : i64} : (tensor<?xf32>, tensor<4xi64>) -> tensor<?x1x1x1xf32>
    %46 = onnx.Mul(%43, %45) : (tensor<?x2x5x4xf32>, tensor<?x1x1x1xf32>) -> tensor<?x2x5x4xf32>
    %47 = onnx.Add(%39, %46) : (tensor<?x2x5x4xf32>, tensor<?x2x5x4xf32>) -> tensor<?x2x5x4xf32>
    return %47 : tensor<?x2x5x4xf32>
  }
}

// -----

// The last channel is not taken.
// CHECK-LABEL: func.func @main(
// CHECK: onnx.GatherElements
// CHECK-NOT: moe.experts
// SAID: remark: moe-raise: refused
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<2x2x1x1xf32>
    moe.weight.bind @w0 %0 : tensor<2x2x1x1xf32>
    %1 = moe.weight.load "w.bin" at 16 : tensor<2xf32>
    moe.weight.bind @w1 %1 : tensor<2xf32>
    %2 = moe.weight.load "w.bin" at 24 : tensor<3x2x3x3xf32>
    moe.weight.bind @w3 %2 : tensor<3x2x3x3xf32>
    %3 = moe.weight.load "w.bin" at 240 : tensor<3xf32>
    moe.weight.bind @w4 %3 : tensor<3xf32>
    %4 = moe.weight.load "w.bin" at 252 : tensor<2x3x1x1xf32>
    moe.weight.bind @w5 %4 : tensor<2x3x1x1xf32>
    %5 = moe.weight.load "w.bin" at 276 : tensor<2xf32>
    moe.weight.bind @w6 %5 : tensor<2xf32>
    %6 = moe.weight.load "w.bin" at 284 : tensor<3x2x3x3xf32>
    moe.weight.bind @w7 %6 : tensor<3x2x3x3xf32>
    %7 = moe.weight.load "w.bin" at 500 : tensor<3xf32>
    moe.weight.bind @w8 %7 : tensor<3xf32>
    %8 = moe.weight.load "w.bin" at 512 : tensor<2x3x1x1xf32>
    moe.weight.bind @w9 %8 : tensor<2x3x1x1xf32>
    %9 = moe.weight.load "w.bin" at 536 : tensor<2xf32>
    moe.weight.bind @w10 %9 : tensor<2xf32>
  }
  func.func @main(%arg0: tensor<?x2x5x4xf32>) -> tensor<?x1x5x4xf32> {
    %0 = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %1 = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %2 = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
    %3 = onnx.Constant {value = dense<[-1, 1, 1, 1, 1]> : tensor<5xi64>} : () -> tensor<5xi64>
    %4 = onnx.Constant {value = dense<[1, 1, 1, 5, 4]> : tensor<5xi64>} : () -> tensor<5xi64>
    %5 = onnx.Constant {value = dense<[-1, 1, 1, 1]> : tensor<4xi64>} : () -> tensor<4xi64>
    %6 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
    %7 = moe.weight.use @w0 : tensor<2x2x1x1xf32>
    %8 = moe.weight.use @w1 : tensor<2xf32>
    %9 = moe.weight.use @w3 : tensor<3x2x3x3xf32>
    %10 = moe.weight.use @w4 : tensor<3xf32>
    %11 = moe.weight.use @w5 : tensor<2x3x1x1xf32>
    %12 = moe.weight.use @w6 : tensor<2xf32>
    %13 = moe.weight.use @w7 : tensor<3x2x3x3xf32>
    %14 = moe.weight.use @w8 : tensor<3xf32>
    %15 = moe.weight.use @w9 : tensor<2x3x1x1xf32>
    %16 = moe.weight.use @w10 : tensor<2xf32>
    %17 = onnx.GlobalAveragePool(%arg0) : (tensor<?x2x5x4xf32>) -> tensor<?x2x1x1xf32>
    %18 = onnx.Conv(%17, %7, %8) {group = 1 : i64} : (tensor<?x2x1x1xf32>, tensor<2x2x1x1xf32>, tensor<2xf32>) -> tensor<?x2x1x1xf32>
    %19 = onnx.Flatten(%18) {axis = 1 : i64} : (tensor<?x2x1x1xf32>) -> tensor<?x2xf32>
    %20 = onnx.Softmax(%19) {axis = -1 : i64} : (tensor<?x2xf32>) -> tensor<?x2xf32>
    %Values, %Indices = onnx.TopK(%20, %0) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64} : (tensor<?x2xf32>, tensor<1xi64>) -> (tensor<?x2xf32>, tensor<?x2xi64>)
    %21 = onnx.Conv(%arg0, %9, %10) {group = 1 : i64, pads = array<i64: 1, 1, 1, 1>} : (tensor<?x2x5x4xf32>, tensor<3x2x3x3xf32>, tensor<3xf32>) -> tensor<?x3x5x4xf32>
    %22 = onnx.Relu(%21) : (tensor<?x3x5x4xf32>) -> tensor<?x3x5x4xf32>
    %23 = onnx.Conv(%22, %11, %12) {group = 1 : i64} : (tensor<?x3x5x4xf32>, tensor<2x3x1x1xf32>, tensor<2xf32>) -> tensor<?x2x5x4xf32>
    %24 = onnx.Conv(%arg0, %13, %14) {group = 1 : i64, pads = array<i64: 1, 1, 1, 1>} : (tensor<?x2x5x4xf32>, tensor<3x2x3x3xf32>, tensor<3xf32>) -> tensor<?x3x5x4xf32>
    %25 = onnx.Relu(%24) : (tensor<?x3x5x4xf32>) -> tensor<?x3x5x4xf32>
    %26 = onnx.Conv(%25, %15, %16) {group = 1 : i64} : (tensor<?x3x5x4xf32>, tensor<2x3x1x1xf32>, tensor<2xf32>) -> tensor<?x2x5x4xf32>
    %27 = onnx.Unsqueeze(%23, %1) : (tensor<?x2x5x4xf32>, tensor<1xi64>) -> tensor<?x1x2x5x4xf32>
    %28 = onnx.Unsqueeze(%26, %1) : (tensor<?x2x5x4xf32>, tensor<1xi64>) -> tensor<?x1x2x5x4xf32>
    %29 = onnx.Concat(%27, %28) {axis = 1 : i64} : (tensor<?x1x2x5x4xf32>, tensor<?x1x2x5x4xf32>) -> tensor<?x2x2x5x4xf32>
    %30 = onnx.Gather(%Indices, %2) {axis = 1 : i64} : (tensor<?x2xi64>, tensor<i64>) -> tensor<?xi64>
    %31 = onnx.Reshape(%30, %3) {allowzero = 0 : i64} : (tensor<?xi64>, tensor<5xi64>) -> tensor<?x1x1x1x1xi64>
    %32 = onnx.Expand(%31, %4) : (tensor<?x1x1x1x1xi64>, tensor<5xi64>) -> tensor<?x1x1x5x4xi64>
    %33 = onnx.GatherElements(%29, %32) {axis = 1 : i64} : (tensor<?x2x2x5x4xf32>, tensor<?x1x1x5x4xi64>) -> tensor<?x1x1x5x4xf32>
    %34 = onnx.Squeeze(%33, %1) : (tensor<?x1x1x5x4xf32>, tensor<1xi64>) -> tensor<?x1x5x4xf32>
    %35 = onnx.Gather(%Values, %2) {axis = 1 : i64} : (tensor<?x2xf32>, tensor<i64>) -> tensor<?xf32>
    %36 = onnx.Reshape(%35, %5) {allowzero = 0 : i64} : (tensor<?xf32>, tensor<4xi64>) -> tensor<?x1x1x1xf32>
    %37 = onnx.Mul(%34, %36) : (tensor<?x1x5x4xf32>, tensor<?x1x1x1xf32>) -> tensor<?x1x5x4xf32>
    %38 = onnx.Gather(%Indices, %6) {axis = 1 : i64} : (tensor<?x2xi64>, tensor<i64>) -> tensor<?xi64>
    %39 = onnx.Reshape(%38, %3) {allowzero = 0 : i64} : (tensor<?xi64>, tensor<5xi64>) -> tensor<?x1x1x1x1xi64>
    %40 = onnx.Expand(%39, %4) : (tensor<?x1x1x1x1xi64>, tensor<5xi64>) -> tensor<?x1x1x5x4xi64>
    %41 = onnx.GatherElements(%29, %40) {axis = 1 : i64} : (tensor<?x2x2x5x4xf32>, tensor<?x1x1x5x4xi64>) -> tensor<?x1x1x5x4xf32>
    %42 = onnx.Squeeze(%41, %1) : (tensor<?x1x1x5x4xf32>, tensor<1xi64>) -> tensor<?x1x5x4xf32>
    %43 = onnx.Gather(%Values, %6) {axis = 1 : i64} : (tensor<?x2xf32>, tensor<i64>) -> tensor<?xf32>
    %44 = onnx.Reshape(%43, %5) {allowzero = 0 : i64} : (tensor<?xf32>, tensor<4xi64>) -> tensor<?x1x1x1xf32>
    %45 = onnx.Mul(%42, %44) : (tensor<?x1x5x4xf32>, tensor<?x1x1x1xf32>) -> tensor<?x1x5x4xf32>
    %46 = onnx.Add(%37, %45) : (tensor<?x1x5x4xf32>, tensor<?x1x5x4xf32>) -> tensor<?x1x5x4xf32>
    return %46 : tensor<?x1x5x4xf32>
  }
}
