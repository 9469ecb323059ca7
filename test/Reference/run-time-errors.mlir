// What goes wrong at run time is an input error that names the node.
// RUN: split-file %s %t
// RUN: %exit-code 1 moec run --reference %t/index.mlir 2>&1 | FileCheck %t/index.mlir
// RUN: %exit-code 1 moec run --reference %t/shapes.mlir 2>&1 | FileCheck %t/shapes.mlir
// RUN: %exit-code 1 moec run --reference %t/topk.mlir 2>&1 | FileCheck %t/topk.mlir
// RUN: %exit-code 1 moec run --reference %t/expert.mlir 2>&1 | FileCheck %t/expert.mlir

//--- index.mlir
// CHECK: node "layers.3/Gather" (Gather): index 2 is outside of an axis of 2
func.func @main() -> (tensor<1xf32> {onnx.name = "y", onnx.dims = [""]}) {
  %x = onnx.Constant {value = dense<[1.0, 2.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %i = onnx.Constant {value = dense<[2]> : tensor<1xi64>} : () -> tensor<1xi64>
  %y = onnx.Gather(%x, %i) {axis = 0 : i64} : (tensor<2xf32>, tensor<1xi64>) -> tensor<1xf32>
      loc("layers.3/Gather")
  return %y : tensor<1xf32>
}

//--- shapes.mlir
// CHECK: node "sum" (Add): shapes [2] and [3] do not broadcast
func.func @main() -> (tensor<?xf32> {onnx.name = "y", onnx.dims = [""]}) {
  %n = onnx.Constant {value = dense<[3]> : tensor<1xi64>} : () -> tensor<1xi64>
  %x = onnx.Constant {value = dense<[1.0, 2.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %z = onnx.ConstantOfShape(%n) : (tensor<1xi64>) -> tensor<?xf32>
  %y = onnx.Add(%x, %z) : (tensor<2xf32>, tensor<?xf32>) -> tensor<?xf32> loc("sum")
  return %y : tensor<?xf32>
}

//--- topk.mlir
// CHECK: node "router" (TopK): k = 9 exceeds an axis of 8
func.func @main() -> (tensor<?xf32> {onnx.name = "y", onnx.dims = [""]}) {
  %k = onnx.Constant {value = dense<[9]> : tensor<1xi64>} : () -> tensor<1xi64>
  %x = onnx.Constant {value = dense<1.0> : tensor<8xf32>} : () -> tensor<8xf32>
  %y, %i = onnx.TopK(%x, %k) : (tensor<8xf32>, tensor<1xi64>) -> (tensor<?xf32>, tensor<?xi64>)
      loc("router")
  return %y : tensor<?xf32>
}

//--- expert.mlir
// CHECK: node "layer 0" (moe.experts): expert id 5 of 4 experts
moe.bank @double experts(4) hidden(1) inter(0) {
^bb0(%x: tensor<?x1xf32>):
  %y = onnx.Add(%x, %x) : (tensor<?x1xf32>, tensor<?x1xf32>) -> tensor<?x1xf32>
  moe.yield %y : tensor<?x1xf32>
}
func.func @main() -> (tensor<1x1xf32> {onnx.name = "y", onnx.dims = ["", ""]}) {
  %x = onnx.Constant {value = dense<1.0> : tensor<1x1xf32>} : () -> tensor<1x1xf32>
  %i = onnx.Constant {value = dense<5> : tensor<1x1xi32>} : () -> tensor<1x1xi32>
  %y = moe.experts @double (%x, %i, %x)
      : (tensor<1x1xf32>, tensor<1x1xi32>, tensor<1x1xf32>) -> tensor<1x1xf32> loc("layer 0")
  return %y : tensor<1x1xf32>
}
