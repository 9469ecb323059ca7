// RUN: moec compile %s --emit=llvm -o %t.ll
// RUN: FileCheck %s --input-file=%t.ll

// Shape arithmetic leaves no trace, elementwise ops fuse into one vectorised nest, the product is a
// call of the kernel through the runtime's table.

// CHECK-LABEL: define void @moe_main(ptr
// CHECK-NOT: call void @nest_{{[0-9]+}}_map
// CHECK: call{{.*}} void @nest_0_map
// CHECK-NOT: call void @nest_{{[0-9]+}}_map
// CHECK: ret void
// CHECK: define internal {{.*}}void @nest_0_map(ptr {{.*}}noalias
// CHECK: <8 x float>
func.func @main(%x: tensor<?x?x8xf32> {onnx.name = "x", onnx.dims = ["b", "s", ""]},
                %y: tensor<?x?xf32> {onnx.name = "y", onnx.dims = ["k", "n"]})
    -> (tensor<?x?xf32> {onnx.name = "z"}) {
  %shape = onnx.Shape(%x) : (tensor<?x?x8xf32>) -> tensor<3xi64>
  %i = onnx.Constant {value = dense<[2]> : tensor<1xi64>} : () -> tensor<1xi64>
  %last = onnx.Gather(%shape, %i) : (tensor<3xi64>, tensor<1xi64>) -> tensor<1xi64>
  %all = onnx.Constant {value = dense<[-1]> : tensor<1xi64>} : () -> tensor<1xi64>
  %to = onnx.Concat(%all, %last) {axis = 0 : i64} : (tensor<1xi64>, tensor<1xi64>) -> tensor<2xi64>
  %rows = onnx.Reshape(%x, %to) : (tensor<?x?x8xf32>, tensor<2xi64>) -> tensor<?x8xf32>
  %s = onnx.Sigmoid(%rows) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %a = onnx.Mul(%s, %rows) : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %z = onnx.MatMul(%a, %y) : (tensor<?x8xf32>, tensor<?x?xf32>) -> tensor<?x?xf32>
  return %z : tensor<?x?xf32>
}
