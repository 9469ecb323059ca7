// What the moe ops compute: ties, NaN, empty slots, weights of zero.
// RUN: moec run --reference %s | FileCheck %s

moe.weights @weights {
  // Expert e multiplies by e + 1: up is 1, down is e + 1.
  %one = moe.weight.literal dense<1.0> : tensor<3x1x1xf32>
  %factor = moe.weight.literal dense<[[[1.0]], [[2.0]], [[3.0]]]> : tensor<3x1x1xf32>
  %swapped = moe.weight.gather %factor axis 0 [2, 1, 0] : tensor<3x1x1xf32> -> tensor<3x1x1xf32>
  %mean = moe.weight.combine %factor, %swapped [0.5, 0.5]
      : (tensor<3x1x1xf32>, tensor<3x1x1xf32>) -> tensor<3x1x1xf32>
  moe.weight.bind @one %one : tensor<3x1x1xf32>
  moe.weight.bind @factor %factor : tensor<3x1x1xf32>
  moe.weight.bind @mean %mean : tensor<3x1x1xf32>
}
moe.bank @scale experts(3) hidden(1) inter(1)
    body(#moe.ffn<gated = false, activation = "identity">) up(@one) down(@factor)
moe.bank @scale_pruned experts(2) hidden(1) inter(1)
    body(#moe.ffn<gated = false, activation = "identity">) up(@one) down(@factor) slabs([2, 2])

// CHECK: ties: i32[2x2] = {{\[\[}}1, 2], [0, 1]]
// CHECK-NEXT: tie_weights: f32[2x2] = {{\[\[}}0.5, 0.5], [nan, nan]]
// CHECK-NEXT: used: i32[2x2] = {{\[\[}}0, -1], [2, 1]]
// Token 0: 10 * 1 * 1; the other slot is empty. Token 1: 100 * (3 * 2 - 2 * 1).
// CHECK-NEXT: combined: f32[2x1] = {{\[\[}}10], [400]]
// CHECK-NEXT: apart: f32[2x2x1] = {{\[\[\[}}10], [0]], {{\[\[}}600], [-200]]]
// A weight of exactly 0 does not run its expert: 0 * NaN is not added.
// CHECK-NEXT: not_run: f32[1x1] = {{\[\[}}0]]
// CHECK-NEXT: shared_slab: f32[2x1] = {{\[\[}}30], [600]]
// CHECK-NEXT: merged_weights: f32[3x1x1] = {{\[\[\[}}2]], {{\[\[}}2]], {{\[\[}}2]]]
func.func @main() -> (tensor<2x2xi32> {onnx.name = "ties", onnx.dims = ["", ""]},
                      tensor<2x2xf32> {onnx.name = "tie_weights", onnx.dims = ["", ""]},
                      tensor<2x2xi32> {onnx.name = "used", onnx.dims = ["", ""]},
                      tensor<2x1xf32> {onnx.name = "combined", onnx.dims = ["", ""]},
                      tensor<2x2x1xf32> {onnx.name = "apart", onnx.dims = ["", "", ""]},
                      tensor<1x1xf32> {onnx.name = "not_run", onnx.dims = ["", ""]},
                      tensor<2x1xf32> {onnx.name = "shared_slab", onnx.dims = ["", ""]},
                      tensor<3x1x1xf32> {onnx.name = "merged_weights", onnx.dims = ["", "", ""]}) {
  %z = onnx.Constant {value = dense<[[1.0, 3.0, 3.0, 0.0], [0.0, 0x7FC00000, 1.0, 2.0]]> : tensor<2x4xf32>}
      : () -> tensor<2x4xf32>
  %ties, %tie_weights = moe.route(%z) router<score = sigmoid, k = 2, renorm = sum>
      : (tensor<2x4xf32>) -> (tensor<2x2xi32>, tensor<2x2xf32>)
  %p = onnx.Constant {value = dense<[[1.0, 0.0, 0.0], [0.0, -1.0, 2.0]]> : tensor<2x3xf32>}
      : () -> tensor<2x3xf32>
  %given = onnx.Constant {value = dense<[[0, -1], [2, 1]]> : tensor<2x2xi32>} : () -> tensor<2x2xi32>
  %used, %w = moe.select %p, %given {kind = "external"}
      : (tensor<2x3xf32>, tensor<2x2xi32>) -> (tensor<2x2xi32>, tensor<2x2xf32>)
  %x = onnx.Constant {value = dense<[[10.0], [100.0]]> : tensor<2x1xf32>} : () -> tensor<2x1xf32>
  %combined = moe.experts @scale (%x, %used, %w)
      : (tensor<2x1xf32>, tensor<2x2xi32>, tensor<2x2xf32>) -> tensor<2x1xf32>
  %apart = moe.experts @scale (%x, %used, %w) {combine = "none"}
      : (tensor<2x1xf32>, tensor<2x2xi32>, tensor<2x2xf32>) -> tensor<2x2x1xf32>
  %nan = onnx.Constant {value = dense<0x7FC00000> : tensor<1x1xf32>} : () -> tensor<1x1xf32>
  %zeros = onnx.Constant {value = dense<0.0> : tensor<1x3xf32>} : () -> tensor<1x3xf32>
  %not_run = moe.experts @scale (%nan, %zeros) : (tensor<1x1xf32>, tensor<1x3xf32>) -> tensor<1x1xf32>
  %dense = onnx.Constant {value = dense<[[1.0, 0.0], [1.0, 1.0]]> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  %shared = moe.experts @scale_pruned (%x, %dense) : (tensor<2x1xf32>, tensor<2x2xf32>) -> tensor<2x1xf32>
  %merged = moe.weight.use @mean : tensor<3x1x1xf32>
  return %ties, %tie_weights, %used, %combined, %apart, %not_run, %shared, %merged
      : tensor<2x2xi32>, tensor<2x2xf32>, tensor<2x2xi32>, tensor<2x1xf32>, tensor<2x2x1xf32>,
        tensor<1x1xf32>, tensor<2x1xf32>, tensor<3x1x1xf32>
}
