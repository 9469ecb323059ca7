// What ONNX cannot say is refused, all of it at once, and nothing is written.
// RUN: rm -rf %t && mkdir -p %t && echo old > %t/out.onnx
// RUN: %exit-code 3 moec export %s -o %t/out.onnx -O0 2>&1 | FileCheck %s
// RUN: grep old %t/out.onnx
// RUN: ls %t | count 1

// CHECK: unsupported.mlir: node "unsupported.mlir:[[#@LINE+5]]" (probe): is unsupported by export: operators of ONNX cannot say it
// CHECK: unsupported.mlir: node "unsupported.mlir:[[#@LINE+5]]" (dispatch): is unsupported by export
func.func @main(%x: tensor<?x32xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>)
    -> tensor<?x32xf32> {

  moe.probe "routing"(%i, %w) {experts = 8 : i64, layer = "layer0"} : tensor<?x2xi32>, tensor<?x2xf32>
  %r, %ri, %rw, %from = moe.dispatch %x, %i, %w {devices = 1 : i64, placement = array<i64: 0, 0>}
      : (tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x2xf32>)
      -> (tensor<?x32xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<?x2xi32>)
  return %r : tensor<?x32xf32>
}
