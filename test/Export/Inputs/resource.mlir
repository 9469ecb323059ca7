// A weight whose bytes are a resource: [2, 0.5, -1].
moe.weights @weights {
  %0 = moe.weight.literal dense_resource<scale> : tensor<3xf16>
  %1 = moe.weight.cast %0 : tensor<3xf16> -> tensor<3xf32>
  moe.weight.bind @scale %1 : tensor<3xf32>
}
func.func @main(%x: tensor<3xf32> {onnx.name = "x"}) -> (tensor<3xf32> {onnx.name = "y"}) {
  %s = moe.weight.use @scale : tensor<3xf32>
  %y = onnx.Mul(%x, %s) : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
  return %y : tensor<3xf32>
}
{-#
  dialect_resources: {
    builtin: {
      scale: "0x400000000040003800BC"
    }
  }
#-}
