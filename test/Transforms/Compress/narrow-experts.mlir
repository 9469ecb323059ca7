// Every expert loses one of three neurons, its own; weights stay stored as they were.
// RUN: rm -rf %t && mkdir -p %t && %python %S/Inputs/layer.py %t
// RUN: moe-opt %s --narrow-experts="profile=%t/p.moep folder=%t drop=1 multiple=1" 2>&1 | FileCheck %s
// RUN: moe-opt %s --narrow-experts="profile=%t/p.moep folder=%t budget=1,0 multiple=1 criterion=magnitude min-tokens=1000" 2>&1 | FileCheck %s --check-prefix=BUDGET
// RUN: not moe-opt %s --narrow-experts="drop=1" 2>&1 | FileCheck %s --check-prefix=PROFILE
// RUN: not moe-opt %s --narrow-experts="profile=%t/none.moep drop=1" 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: not moe-opt %s --narrow-experts="profile=%t/p.moep folder=%t" 2>&1 | FileCheck %s --check-prefix=DROP
// RUN: not moe-opt %s --narrow-experts="profile=%t/p.moep folder=%t drop=3" 2>&1 | FileCheck %s --check-prefix=ALL
// RUN: not moe-opt %s --narrow-experts="profile=%t/p.moep folder=%t drop=1 criterion=norm" 2>&1 | FileCheck %s --check-prefix=CRITERION
// RUN: not moe-opt %s --narrow-experts="profile=%t/p.moep folder=%t budget=4,0" 2>&1 | FileCheck %s --check-prefix=BYTES
// RUN: not moe-opt %s --narrow-experts="profile=%t/p.moep folder=%t budget=1" 2>&1 | FileCheck %s --check-prefix=LIST
// RUN: not moe-opt %s --narrow-experts="profile=%t/p.moep folder=%t drop=1 multiple=0" 2>&1 | FileCheck %s --check-prefix=POSITIVE

// CHECK: remark: narrow-experts: bank: width 3 -> 2; {{[0-9.]+}} % of obs stays (400 tokens); 1 protected experts are narrowed, too
// CHECK: remark: narrow-experts: shared: left: unsupported: its experts are regions
// CHECK: %[[UP:.*]] = moe.weight.load "w.bin" at 32 : tensor<4x3x4xf16>
// CHECK: %[[ONE:.*]] = moe.weight.gather %[[UP]] axis 0 [0]
// CHECK: moe.weight.gather %[[ONE]] axis 1 [{{[012], [012]}}] : tensor<1x3x4xf16> -> tensor<1x2x4xf16>
// CHECK: moe.weight.concat {{.*}} axis 0 : {{.*}} -> tensor<4x2x4xf32>
// CHECK: moe.weight.concat {{.*}} axis 0 : {{.*}} -> tensor<4x4x2xf32>
// CHECK: moe.bank @bank experts(4) hidden(4) inter(2)

// BUDGET: remark: narrow-experts: bank: width 3 -> 2; {{.*}} % of magnitude stays (400 tokens); 4 of 4 slabs, with fewer than 1000 tokens, by their weights
// BUDGET: moe.bank @bank experts(4) hidden(4) inter(2)

// PROFILE: error: narrow-experts: needs a profile
// NONE: error: narrow-experts: {{.*}}none.moep
// DROP: error: narrow-experts: needs drop
// ALL: error: narrow-experts: layer 'bank': cannot drop 3 of 3 neurons
// CRITERION: error: narrow-experts: there is no criterion "norm"
// BYTES: error: narrow-experts: layer 'bank': cannot lose the bytes of 4 of 4 experts
// LIST: error: narrow-experts: budget "1" is not uniform and has 1 numbers for 2 layers
// POSITIVE: error: narrow-experts: multiple and ridge have to be positive

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
    attributes {moe.protected = array<i64: 2>}
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
