// Repairs of a layer whose down weights were changed and whose output lacks a constant.
// RUN: rm -rf %t && mkdir -p %t && %python %S/Inputs/layer.py %t
// RUN: moe-opt %s --repair-down="profile=%t/p.moep folder=%t" -o %t/down.mlir 2>&1 | FileCheck %s --check-prefix=SAID
// RUN: FileCheck %s --check-prefix=DOWN --input-file=%t/down.mlir
// RUN: moe-opt %t/down.mlir --repair-bias="profile=%t/p.moep folder=%t" 2>&1 | FileCheck %s --check-prefix=BIAS
// RUN: moe-opt %s --repair-linear="profile=%t/p.moep folder=%t" 2>&1 | FileCheck %s --check-prefix=LINEAR
// RUN: moe-opt %s --refit-router="profile=%t/p.moep folder=%t" 2>&1 | FileCheck %s --check-prefix=ROUTER
// RUN: not moe-opt %s --repair-bias="profile=%t/none.moep folder=%t" 2>&1 | FileCheck %s --check-prefix=NONE

// SAID: remark: repair-down: bank: 12 unknowns, ridge 0.0{{.*}}: error [[#%d,]].{{.*}}, held out {{.*}} (40 of 400 tokens)
// SAID: remark: repair-down: shared: left: unsupported: its experts are regions
// DOWN: moe.weight.literal dense_resource<bank.down> : tensor<4x4x3xf16>
// DOWN: moe.weight.bind @down

// BIAS: remark: repair-bias: bank: error
// BIAS: moe.experts @bank({{.*}}) {moe.repaired = "bias"}
// BIAS: moe.weight.use @bank.repair_bias : tensor<4xf32>
// BIAS-NEXT: onnx.Add

// LINEAR: remark: repair-linear: bank: ridge {{.*}}, 48 bytes more: error
// LINEAR: moe.experts @bank({{.*}}) {moe.repaired = "linear"}
// LINEAR: onnx.MatMul(%{{.*}}, %{{.*}}) : (tensor<?x4xf32>, tensor<4x4xf32>)

// ROUTER: remark: refit-router: bank: left: its router gets what it got before; give current-profile
// NONE: error: repair-bias: {{.*}}none.moep

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4x4xf16>
  %1 = moe.weight.cast %0 : tensor<4x4xf16> -> tensor<4x4xf32>
  moe.weight.bind @router %1 : tensor<4x4xf32>
  %2 = moe.weight.load "w.bin" at 32 : tensor<4x3x4xf16>
  %3 = moe.weight.cast %2 : tensor<4x3x4xf16> -> tensor<4x3x4xf32>
  moe.weight.bind @up %3 : tensor<4x3x4xf32>
  %4 = moe.weight.load "w.bin" at 128 : tensor<4x4x3xf16>
  %5 = moe.weight.cast %4 : tensor<4x4x3xf16> -> tensor<4x4x3xf32>
  moe.weight.bind @down %5 : tensor<4x4x3xf32>
}
moe.bank @bank experts(4) hidden(4) inter(3)
    body(#moe.ffn<gated = false, activation = "relu">) up(@up) down(@down)
moe.bank @shared experts(4) hidden(4) inter(0) {
^bb0(%x: tensor<?x4xf32>):
  %y = onnx.Add(%x, %x) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
  moe.yield %y : tensor<?x4xf32>
}
func.func @main(%x: tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  %r = moe.weight.use @router : tensor<4x4xf32>
  %z = onnx.MatMul(%x, %r) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
  %i, %w = moe.route(%z) router<score = softmax, k = 2, renorm = sum>
      : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %y = moe.experts @bank(%x, %i, %w)
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x4xf32>
  %s = moe.experts @shared(%x, %i, %w)
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x4xf32>
  return %y, %s : tensor<?x4xf32>, tensor<?x4xf32>
}
