// Neurons of a dropped expert go where there are such neurons; the router loses its column.
// RUN: rm -rf %t && mkdir -p %t && %python %S/Inputs/merge.py %t
// RUN: moe-opt %s --recombine-neurons="profile=%t/p.moep folder=%t drop=1 criterion=frequency alpha=0.2" 2>&1 | FileCheck %s
// RUN: moe-opt %s --recombine-neurons="profile=%t/p.moep folder=%t budget=1 alpha=1 remarks=false" 2>&1 | FileCheck %s --check-prefix=NONE
// RUN: not moe-opt %s --recombine-neurons="profile=%t/p.moep drop=3" 2>&1 | FileCheck %s --check-prefix=MANY
// RUN: not moe-opt %s --recombine-neurons="drop=1" 2>&1 | FileCheck %s --check-prefix=PROFILE
// RUN: not moe-opt %s --recombine-neurons="profile=%t/p.moep drop=1 alpha=2" 2>&1 | FileCheck %s --check-prefix=ALPHA
// RUN: not moe-opt %s --recombine-neurons="profile=%t/p.moep drop=1 start=random" 2>&1 | FileCheck %s --check-prefix=START

// CHECK: remark: {{.*}}recombine-neurons: layer 'bank': 1 of 4 experts go ({{[0-3]}}); {{[1-3]}} of their 3 neurons went to {{[1-3]}} others
// CHECK: moe.weight.literal dense_resource<up.recombined> : tensor<{{.}}x3x4xf16>
// CHECK: moe.weight.literal dense_resource<down.recombined> : tensor<{{.}}x4x3xf16>
// CHECK: moe.bank @bank experts(3)
// CHECK: moe.route{{.*}} : (tensor<?x3xf32>)

// NONE-NOT: dense_resource
// NONE: moe.bank @bank experts(3)

// MANY: error: recombine-neurons: layer 'bank': cannot drop 3 of 4 experts; 2 may go
// PROFILE: error: recombine-neurons: needs a profile: profile=FILE
// ALPHA: error: recombine-neurons: alpha is a cosine, from -1 to 1
// START: error: recombine-neurons: there is no start "random"; it is own or largest

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
func.func @main(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %r = moe.weight.use @router : tensor<4x4xf32>
  %z = onnx.MatMul(%x, %r) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
  %i, %w = moe.route(%z) router<score = softmax, k = 2, renorm = sum>
      : (tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %y = moe.experts @bank(%x, %i, %w)
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}
