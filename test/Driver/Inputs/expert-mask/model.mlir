// Six experts of which two are chosen by a sigmoid and a bias, which favours 0 and 3.
moe.weights @weights {
  %up = moe.weight.load "w.bin" at 0 : tensor<6x5x4xf32>
  %down = moe.weight.load "w.bin" at 480 : tensor<6x4x5xf32>
  %bias = moe.weight.literal dense<[9.0, 0.0, 0.1, 9.0, 0.2, -9.0]> : tensor<6xf32>
  moe.weight.bind @up %up : tensor<6x5x4xf32>
  moe.weight.bind @down %down : tensor<6x4x5xf32>
  moe.weight.bind @bias %bias : tensor<6xf32>
}
moe.bank @layer experts(6) hidden(4) inter(5) body(#moe.ffn<gated = false, activation = "silu">)
    up(@up) down(@down)
func.func @main(%x: tensor<?x4xf32> {onnx.name = "x", onnx.dims = ["tokens", ""]},
                %z: tensor<?x6xf32> {onnx.name = "z", onnx.dims = ["tokens", ""]})
    -> (tensor<?x4xf32> {onnx.name = "y", onnx.dims = ["tokens", ""]}) {
  %b = moe.weight.use @bias : tensor<6xf32>
  %ids, %w = moe.route(%z, %b) router<score = sigmoid, k = 2, renorm = sum>
      : (tensor<?x6xf32>, tensor<6xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %y = moe.experts @layer(%x, %ids, %w)
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}
