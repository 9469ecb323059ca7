// Layers that share a bank get one each; experts that are regions are merged without alignment.
// RUN: moe-opt %s --merge-experts="groups=bank=0,1;bank#2=1,2;regions=2,0 weights=uniform align=none router=alias" 2>&1 | FileCheck %s

// CHECK: remark: {{.*}}layer 'bank': 3 slabs become 2: (0, 1)
// CHECK: remark: {{.*}}layer 'bank#2': 3 slabs become 2: (1, 2)
// CHECK: remark: {{.*}}layer 'regions': 3 slabs become 2: (2, 0)
// CHECK-DAG: moe.bank @bank experts(3) {{.*}} slabs([0, 0, 1])
// CHECK-DAG: moe.bank @"bank#2" experts(3) {{.*}} slabs([0, 1, 1])
// CHECK-DAG: moe.bank @regions experts(3) {{.*}} slabs([1, 0, 1])
// CHECK: moe.experts @bank(
// CHECK: moe.experts @"bank#2"(
// CHECK: moe.experts @regions(

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<3x2x4xf32>
  moe.weight.bind @up %0 : tensor<3x2x4xf32>
  %1 = moe.weight.load "w.bin" at 96 : tensor<3x4x2xf32>
  moe.weight.bind @down %1 : tensor<3x4x2xf32>
  %2 = moe.weight.load "w.bin" at 192 : tensor<3x4x4xf32>
  moe.weight.bind @matrix %2 : tensor<3x4x4xf32>
}
moe.bank @bank experts(3) hidden(4) inter(2)
    body(#moe.ffn<gated = false, activation = "relu">) up(@up) down(@down)
moe.bank @regions experts(3) hidden(4) inter(0) parameters([@matrix]) {
^bb0(%x: tensor<?x4xf32>, %w: tensor<4x4xf32>):
  %y = onnx.MatMul(%x, %w) : (tensor<?x4xf32>, tensor<4x4xf32>) -> tensor<?x4xf32>
  moe.yield %y : tensor<?x4xf32>
}
func.func @main(%x: tensor<?x4xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>) -> tensor<?x4xf32> {
  %y = moe.experts @bank(%x, %i, %w)
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x4xf32>
  %y1 = moe.experts @bank(%y, %i, %w)
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x4xf32>
  %y2 = moe.experts @regions(%y1, %i, %w)
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x4xf32>
  return %y2 : tensor<?x4xf32>
}
