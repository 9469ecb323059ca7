// RUN: moe-opt %s -split-input-file -share-experts | FileCheck %s
// Gates over experts that they share, in part: all run once, and each gate weighs
// the results of its own.

// CHECK: moe.bank @[[ALL:.*]] experts(3) hidden(4) inter(5)
// CHECK-NOT: moe.bank
// CHECK: func.func @main(%[[X:.*]]: tensor<?x4xf32>, %[[A:.*]]: tensor<?x2xf32>, %[[B:.*]]: tensor<?x2xf32>)
// CHECK: %[[R:.*]] = moe.experts @[[ALL]](%[[X]], %{{.*}}) {combine = "none"} : (tensor<?x4xf32>, tensor<?x3xf32>) -> tensor<?x3x4xf32>
// CHECK-NOT: moe.experts
// CHECK: %[[WA:.*]] = onnx.Unsqueeze(%[[A]],
// CHECK: onnx.MatMul(%[[WA]],
// CHECK: %[[WB:.*]] = onnx.Unsqueeze(%[[B]],
// CHECK: onnx.MatMul(%[[WB]],
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<1x5x4xf32>
    %1 = moe.weight.load "w.bin" at 80 : tensor<1x5x4xf32>
    %2 = moe.weight.load "w.bin" at 160 : tensor<1x5x4xf32>
    %3 = moe.weight.load "w.bin" at 240 : tensor<1x4x5xf32>
    %4 = moe.weight.concat %0, %1 axis 0 : (tensor<1x5x4xf32>, tensor<1x5x4xf32>) -> tensor<2x5x4xf32>
    %5 = moe.weight.concat %2, %1 axis 0 : (tensor<1x5x4xf32>, tensor<1x5x4xf32>) -> tensor<2x5x4xf32>
    %6 = moe.weight.concat %3, %3 axis 0 : (tensor<1x4x5xf32>, tensor<1x4x5xf32>) -> tensor<2x4x5xf32>
    moe.weight.bind @a.up %4 : tensor<2x5x4xf32>
    moe.weight.bind @a.down %6 : tensor<2x4x5xf32>
    moe.weight.bind @b.up %5 : tensor<2x5x4xf32>
    moe.weight.bind @b.down %6 : tensor<2x4x5xf32>
  }
  moe.bank @a experts(2) hidden(4) inter(5) body(#moe.ffn<gated = false, activation = "relu">) up(@a.up) down(@a.down)
  moe.bank @b experts(2) hidden(4) inter(5) body(#moe.ffn<gated = false, activation = "relu">) up(@b.up) down(@b.down)
  func.func @main(%x: tensor<?x4xf32>, %ga: tensor<?x2xf32>, %gb: tensor<?x2xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
    %ya = moe.experts @a(%x, %ga) : (tensor<?x4xf32>, tensor<?x2xf32>) -> tensor<?x4xf32>
    %yb = moe.experts @b(%x, %gb) : (tensor<?x4xf32>, tensor<?x2xf32>) -> tensor<?x4xf32>
    return %ya, %yb : tensor<?x4xf32>, tensor<?x4xf32>
  }
}

// -----

// Other tokens, other experts: they stay apart. Banks of the same experts become one.
// CHECK: moe.bank @a
// CHECK-NOT: moe.bank
// CHECK-COUNT-2: moe.experts @a(%{{.*}}, %{{.*}}) : (tensor<?x4xf32>, tensor<?x2xf32>) -> tensor<?x4xf32>
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<2x5x4xf32>
    %1 = moe.weight.load "w.bin" at 160 : tensor<2x4x5xf32>
    moe.weight.bind @a.up %0 : tensor<2x5x4xf32>
    moe.weight.bind @a.down %1 : tensor<2x4x5xf32>
    moe.weight.bind @b.up %0 : tensor<2x5x4xf32>
    moe.weight.bind @b.down %1 : tensor<2x4x5xf32>
  }
  moe.bank @a experts(2) hidden(4) inter(5) body(#moe.ffn<gated = false, activation = "relu">) up(@a.up) down(@a.down)
  moe.bank @b experts(2) hidden(4) inter(5) body(#moe.ffn<gated = false, activation = "relu">) up(@b.up) down(@b.down)
  func.func @main(%x: tensor<?x4xf32>, %z: tensor<?x4xf32>, %ga: tensor<?x2xf32>, %gb: tensor<?x2xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
    %ya = moe.experts @a(%x, %ga) : (tensor<?x4xf32>, tensor<?x2xf32>) -> tensor<?x4xf32>
    %yb = moe.experts @b(%z, %gb) : (tensor<?x4xf32>, tensor<?x2xf32>) -> tensor<?x4xf32>
    return %ya, %yb : tensor<?x4xf32>, tensor<?x4xf32>
  }
}

// -----

// Experts of two gates that read tokens of three tensors: one's own, the other's own, and those
// of the expert they share. It runs once, and each reads what it read.
// CHECK: moe.bank @[[ALL:.*]] experts(3) hidden(4) inter(0){{.*}} kinds([0, 1, 2])
// CHECK: ^bb0(%[[T:.*]]: tensor<?x4xf32>, %[[W:.*]]: tensor<4x4xf32>, %{{.*}}: tensor<?x4xf32>, %{{.*}}: tensor<?x4xf32>):
// CHECK: onnx.MatMul(%[[T]], %[[W]])
// CHECK: ^bb0(%{{.*}}: tensor<?x4xf32>, %[[W:.*]]: tensor<4x4xf32>, %[[C:.*]]: tensor<?x4xf32>, %{{.*}}: tensor<?x4xf32>):
// CHECK: onnx.MatMul(%[[C]], %[[W]])
// CHECK: ^bb0(%{{.*}}: tensor<?x4xf32>, %[[W:.*]]: tensor<4x4xf32>, %{{.*}}: tensor<?x4xf32>, %[[C:.*]]: tensor<?x4xf32>):
// CHECK: onnx.MatMul(%[[C]], %[[W]])
// CHECK: func.func @main(%[[A:.*]]: tensor<?x4xf32>, %[[B:.*]]: tensor<?x4xf32>, %[[S:.*]]: tensor<?x4xf32>, %
// CHECK: moe.experts @[[ALL]](%[[A]], %{{.*}}, %[[S]], %[[B]]) {combine = "none", contexts = ["rows", "rows"]}
// CHECK-NOT: moe.experts
// CHECK-COUNT-2: onnx.MatMul
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<1x4x4xf32>
    %1 = moe.weight.load "w.bin" at 64 : tensor<1x4x4xf32>
    %2 = moe.weight.load "w.bin" at 128 : tensor<1x4x4xf32>
    moe.weight.bind @a %0 : tensor<1x4x4xf32>
    moe.weight.bind @b %1 : tensor<1x4x4xf32>
    moe.weight.bind @s %2 : tensor<1x4x4xf32>
  }
  moe.bank @one experts(2) hidden(4) inter(0) parameters([[@a], [@s]]) kinds([0, 1]) {
  ^bb0(%t: tensor<?x4xf32>, %w: tensor<4x4xf32>, %c: tensor<?x4xf32>):
    %y = onnx.MatMul(%t, %w) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
    moe.yield %y : tensor<?x4xf32>
  }, {
  ^bb0(%t: tensor<?x4xf32>, %w: tensor<4x4xf32>, %c: tensor<?x4xf32>):
    %y = onnx.MatMul(%c, %w) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
    moe.yield %y : tensor<?x4xf32>
  }
  moe.bank @two experts(2) hidden(4) inter(0) parameters([[@b], [@s]]) kinds([0, 1]) {
  ^bb0(%t: tensor<?x4xf32>, %w: tensor<4x4xf32>, %c: tensor<?x4xf32>):
    %y = onnx.MatMul(%c, %w) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
    moe.yield %y : tensor<?x4xf32>
  }, {
  ^bb0(%t: tensor<?x4xf32>, %w: tensor<4x4xf32>, %c: tensor<?x4xf32>):
    %y = onnx.MatMul(%t, %w) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
    moe.yield %y : tensor<?x4xf32>
  }
  func.func @main(%a: tensor<?x4xf32>, %b: tensor<?x4xf32>, %s: tensor<?x4xf32>, %ga: tensor<?x2xf32>, %gb: tensor<?x2xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
    %ya = moe.experts @one(%a, %ga, %s) {contexts = ["rows"]} : (tensor<?x4xf32>, tensor<?x2xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %yb = moe.experts @two(%s, %gb, %b) {contexts = ["rows"]} : (tensor<?x4xf32>, tensor<?x2xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    return %ya, %yb : tensor<?x4xf32>, tensor<?x4xf32>
  }
}

// -----

// What one of them reads is the other's result: they stay apart.
// CHECK-COUNT-2: moe.experts {{.*}} {contexts = ["rows"]} : (tensor<?x4xf32>, tensor<?x2xf32>
module {
  moe.weights @weights {
    %0 = moe.weight.load "w.bin" at 0 : tensor<1x4x4xf32>
    %1 = moe.weight.load "w.bin" at 64 : tensor<1x4x4xf32>
    moe.weight.bind @a %0 : tensor<1x4x4xf32>
    moe.weight.bind @s %1 : tensor<1x4x4xf32>
  }
  moe.bank @one experts(2) hidden(4) inter(0) parameters([[@a], [@s]]) kinds([0, 1]) {
  ^bb0(%t: tensor<?x4xf32>, %w: tensor<4x4xf32>, %c: tensor<?x4xf32>):
    %y = onnx.MatMul(%t, %w) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
    moe.yield %y : tensor<?x4xf32>
  }, {
  ^bb0(%t: tensor<?x4xf32>, %w: tensor<4x4xf32>, %c: tensor<?x4xf32>):
    %y = onnx.MatMul(%c, %w) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
    moe.yield %y : tensor<?x4xf32>
  }
  func.func @main(%a: tensor<?x4xf32>, %s: tensor<?x4xf32>, %ga: tensor<?x2xf32>, %gb: tensor<?x2xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
    %ya = moe.experts @one(%a, %ga, %s) {contexts = ["rows"]} : (tensor<?x4xf32>, tensor<?x2xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    %yb = moe.experts @one(%ya, %gb, %s) {contexts = ["rows"]} : (tensor<?x4xf32>, tensor<?x2xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
    return %ya, %yb : tensor<?x4xf32>, tensor<?x4xf32>
  }
}
