// y = relu(a + b) for vectors of any equal length.
module {
  moe.weights @weights {
  }
  func.func @main(%a: tensor<?xf32> {onnx.name = "a", onnx.dims = ["n"]},
                  %b: tensor<?xf32> {onnx.name = "b", onnx.dims = ["n"]})
      -> (tensor<?xf32> {onnx.name = "y", onnx.dims = ["n"]}) {
    %s = "onnx.Add"(%a, %b) : (tensor<?xf32>, tensor<?xf32>) -> tensor<?xf32>
    %y = "onnx.Relu"(%s) : (tensor<?xf32>) -> tensor<?xf32>
    return %y : tensor<?xf32>
  }
}
