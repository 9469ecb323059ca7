// Experts that are constant or zero and experts that share parameters: the exported graph computes what
// the IR says, in compiled code, the interpreter and ONNX Runtime, and stores each slab once.

// REQUIRES: onnxruntime
// RUN: rm -rf %t && mkdir -p %t && cp %s %t/bank.mlir
// RUN: %python -c "import numpy as np; np.random.default_rng(3).normal(size=400).astype('f4').tofile('%t/w.bin')"
// RUN: moec export %t/bank.mlir -o %t/bank.onnx
// RUN: moec verify %t/bank.onnx --dim tokens=40 | FileCheck %s --check-prefix=VERIFY
// VERIFY-DAG: onnxruntime
// RUN: moec run %t/bank.mlir --seed 3 --dim tokens=40 --save %t/ir
// RUN: moec run %t/bank.onnx --seed 3 --dim tokens=40 --save %t/onnx
// RUN: %python -c "import numpy as np; a, b = (np.load('%t/' + f + '/output_0.npy') for f in ('ir', 'onnx')); assert a.shape == (40, 4) and abs(a).max() > 1; np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)"
// RUN: %python -c "import onnx; g = onnx.load('%t/bank.onnx').graph; print(sorted(list(i.dims) for i in g.initializer if len(i.dims) == 2 and i.dims[0] > 3), sum(n.op_type == 'Gemm' for n in g.node))" | FileCheck %s --check-prefix=STORED
// STORED: {{\[}}[4, 5], [4, 5], [5, 4], [5, 4]] 4

moe.weights @weights {
  %up = moe.weight.load "w.bin" at 0 : tensor<3x5x4xf32>
  %down = moe.weight.load "w.bin" at 240 : tensor<3x4x5xf32>
  %c = moe.weight.load "w.bin" at 480 : tensor<2x4xf32>
  moe.weight.bind @up %up : tensor<3x5x4xf32>
  moe.weight.bind @down %down : tensor<3x4x5xf32>
  moe.weight.bind @c %c : tensor<2x4xf32>
}
moe.bank @bank experts(8) hidden(4) inter(5) body(#moe.ffn<gated = false, activation = "silu">)
    up(@up) down(@down) slabs([2, -1, 0, 2, -1, 0, -1, 2])
    storage(["dense", "constant", "dense", "dense", "zero", "dense", "constant", "dense"])
    constants(@c)
func.func @main(%x: tensor<?x4xf32> {onnx.name = "x", onnx.dims = ["tokens", ""]},
                %z: tensor<?x8xf32> {onnx.name = "z", onnx.dims = ["tokens", ""]})
    -> (tensor<?x4xf32> {onnx.name = "y", onnx.dims = ["tokens", ""]}) {
  %h = moe.logit_hook %z {layer = "bank", k = 3 : i64} : tensor<?x8xf32>
  %ids, %w = moe.route(%h) router<score = softmax, k = 3>
      : (tensor<?x8xf32>) -> (tensor<?x3xi32>, tensor<?x3xf32>)
  %y = moe.experts @bank(%x, %ids, %w)
      : (tensor<?x4xf32>, tensor<?x3xi32>, tensor<?x3xf32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}
