// RUN: split-file %s %t
// RUN: moe-opt %t/model.mlir --keep-experts=masks=%t/keep.json -o - 2>&1 | FileCheck %s
// RUN: moe-opt %t/shared.mlir --keep-experts=masks=%t/both.json -o - 2>&1 | FileCheck %s --check-prefix=SHARED
// RUN: not moe-opt %t/model.mlir --keep-experts=masks=%t/twice.json -o /dev/null 2>&1 | FileCheck %s --check-prefix=TWICE
// RUN: not moe-opt %t/model.mlir --keep-experts=masks=%t/few.json -o /dev/null 2>&1 | FileCheck %s --check-prefix=FEW
// RUN: not moe-opt %t/model.mlir --keep-experts=masks=%t/other.json -o /dev/null 2>&1 | FileCheck %s --check-prefix=OTHER
// RUN: not moe-opt %t/model.mlir --keep-experts=masks=%t/broken.json -o /dev/null 2>&1 | FileCheck %s --check-prefix=BROKEN

// CHECK: keep-experts: layer 'layer0': 5 of 8 experts go
// CHECK: moe.weight.gather {{.*}} [0, 2, 5]
// CHECK: moe.bank @layer0 experts(3)
// CHECK: moe.route
// CHECK-SAME: tensor<?x3xf32>
// Two layers of one bank get banks of their own.
// SHARED: layer 'layer0': 6 of 8 experts go
// SHARED: layer 'layer0#2': 7 of 8 experts go
// SHARED-DAG: moe.bank @layer0 experts(2)
// SHARED-DAG: moe.bank @{{.*}} experts(1)
// TWICE: layer layer0: keep: an expert is listed twice
// FEW: {{fewer|keep|choose|takes}}
// OTHER: names a layer that the model does not have
// BROKEN: not an object

//--- keep.json
{"layers": {"layer0": {"keep": [5, 0, 2]}}}
//--- both.json
{"layers": {"layer0": {"keep": [0, 1]}, "layer0#2": {"keep": [7]}}}
//--- twice.json
{"layers": {"layer0": {"keep": [5, 5, 2]}}}
//--- few.json
{"layers": {"layer0": {"keep": [5]}}}
//--- other.json
{"layers": {"layer9": {"keep": [5, 6]}}}
//--- broken.json
[]
//--- model.mlir
moe.weights @weights {
  %w = moe.weight.load "w.bin" at 0 : tensor<16x8xf32>
  %g = moe.weight.load "w.bin" at 512 : tensor<8x32x16xf32>
  %d = moe.weight.load "w.bin" at 16896 : tensor<8x16x32xf32>
  moe.weight.bind @router %w : tensor<16x8xf32>
  moe.weight.bind @gate %g : tensor<8x32x16xf32>
  moe.weight.bind @down %d : tensor<8x16x32xf32>
}
moe.bank @layer0 experts(8) hidden(16) inter(32) body(#moe.ffn<gated = true, activation = "silu">)
    gate(@gate) up(@gate) down(@down)
func.func @main(%x: tensor<?x16xf32>) -> tensor<?x16xf32> {
  %w = moe.weight.use @router : tensor<16x8xf32>
  %z = onnx.MatMul(%x, %w) : (tensor<?x16xf32>, tensor<16x8xf32>) -> tensor<?x8xf32>
  %i, %g = moe.route(%z) router<score = softmax, k = 2, renorm = sum>
      : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %y = moe.experts @layer0(%x, %i, %g)
      : (tensor<?x16xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

//--- shared.mlir
moe.weights @weights {
  %w = moe.weight.load "w.bin" at 0 : tensor<16x8xf32>
  %g = moe.weight.load "w.bin" at 512 : tensor<8x32x16xf32>
  %d = moe.weight.load "w.bin" at 16896 : tensor<8x16x32xf32>
  moe.weight.bind @router %w : tensor<16x8xf32>
  moe.weight.bind @gate %g : tensor<8x32x16xf32>
  moe.weight.bind @down %d : tensor<8x16x32xf32>
}
moe.bank @layer0 experts(8) hidden(16) inter(32) body(#moe.ffn<gated = true, activation = "silu">)
    gate(@gate) up(@gate) down(@down)
func.func @main(%x: tensor<?x16xf32>) -> tensor<?x16xf32> {
  %w = moe.weight.use @router : tensor<16x8xf32>
  %z = onnx.MatMul(%x, %w) : (tensor<?x16xf32>, tensor<16x8xf32>) -> tensor<?x8xf32>
  %i, %g = moe.route(%z) router<score = softmax, k = 1>
      : (tensor<?x8xf32>) -> (tensor<?x1xi32>, tensor<?x1xf32>)
  %y = moe.experts @layer0(%x, %i, %g)
      : (tensor<?x16xf32>, tensor<?x1xi32>, tensor<?x1xf32>) -> tensor<?x16xf32>
  %v = onnx.MatMul(%y, %w) : (tensor<?x16xf32>, tensor<16x8xf32>) -> tensor<?x8xf32>
  %j, %h = moe.route(%v) router<score = softmax, k = 1>
      : (tensor<?x8xf32>) -> (tensor<?x1xi32>, tensor<?x1xf32>)
  %u = moe.experts @layer0(%y, %j, %h)
      : (tensor<?x16xf32>, tensor<?x1xi32>, tensor<?x1xf32>) -> tensor<?x16xf32>
  return %u : tensor<?x16xf32>
}
