// RUN: moe-opt %s -split-input-file -fold-weights -raise-moe 2>/dev/null | FileCheck %s
// Each family of graphs becomes a bank, a selection and an application of it.

// Gathered weights, gate and up in one tensor.
// 
// CHECK: moe.weight.bind @layer0.gate
// CHECK: moe.bank @layer0 experts(4) hidden(8) inter(16) body(#moe.ffn<gated = true, activation = "silu">)
// CHECK-SAME: gate(@layer0.gate) up(@layer0.up) down(@down)
// CHECK: %[[IDS:.*]], %[[V:.*]] = moe.select
// CHECK: %[[W:.*]] = onnx.Div
// CHECK-NOT: onnx.GatherND
// CHECK: moe.experts @layer0(%{{.*}}, %[[IDS]], %[[W]])
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x4xf32>
    moe.weight.bind @router %w0 : tensor<8x4xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<4x32x8xf32>
    moe.weight.bind @gate_up %w1 : tensor<4x32x8xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<4x8x16xf32>
    moe.weight.bind @down %w2 : tensor<4x8x16xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x4xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x4xf32>) -> tensor<?x4xf32>
    %v1 = onnx.Softmax(%v0) {axis = -1 : i64}
        : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %k = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2, %v3 = onnx.TopK(%v1, %k) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x4xf32>, tensor<1xi64>) -> (tensor<?x2xf32>, tensor<?x2xi64>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v4 = onnx.ReduceSum(%v2, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v5 = onnx.Div(%v2, %v4)
        : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    %one = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v6 = onnx.Unsqueeze(%x, %one)
        : (tensor<?x8xf32>, tensor<1xi64>) -> tensor<?x1x8xf32>
    %times = onnx.Constant {value = dense<[1, 2, 1]> : tensor<3xi64>} : () -> tensor<3xi64>
    %v7 = onnx.Tile(%v6, %times)
        : (tensor<?x1x8xf32>, tensor<3xi64>) -> tensor<?x2x8xf32>
    %rows = onnx.Constant {value = dense<[-1, 8]> : tensor<2xi64>} : () -> tensor<2xi64>
    %v8 = onnx.Reshape(%v7, %rows)
        : (tensor<?x2x8xf32>, tensor<2xi64>) -> tensor<?x8xf32>
    %v9 = onnx.Reshape(%v3, %last)
        : (tensor<?x2xi64>, tensor<1xi64>) -> tensor<?xi64>
    %v10 = onnx.Unsqueeze(%v9, %last)
        : (tensor<?xi64>, tensor<1xi64>) -> tensor<?x1xi64>
    %gate_up = moe.weight.use @gate_up : tensor<4x32x8xf32>
    %v11 = onnx.GatherND(%gate_up, %v10)
        : (tensor<4x32x8xf32>, tensor<?x1xi64>) -> tensor<?x32x8xf32>
    %v12 = onnx.Unsqueeze(%v8, %last)
        : (tensor<?x8xf32>, tensor<1xi64>) -> tensor<?x8x1xf32>
    %v13 = onnx.MatMul(%v11, %v12)
        : (tensor<?x32x8xf32>, tensor<?x8x1xf32>) -> tensor<?x32x1xf32>
    %v14 = onnx.Squeeze(%v13, %last)
        : (tensor<?x32x1xf32>, tensor<1xi64>) -> tensor<?x32xf32>
    %none = onnx.none : () -> none
    %v15, %v16 = onnx.Split(%v14, %none) {axis = 1 : i64, num_outputs = 2 : i64}
        : (tensor<?x32xf32>, none) -> (tensor<?x16xf32>, tensor<?x16xf32>)
    %v17 = onnx.Sigmoid(%v15)
        : (tensor<?x16xf32>) -> tensor<?x16xf32>
    %v18 = onnx.Mul(%v15, %v17)
        : (tensor<?x16xf32>, tensor<?x16xf32>) -> tensor<?x16xf32>
    %v19 = onnx.Mul(%v18, %v16)
        : (tensor<?x16xf32>, tensor<?x16xf32>) -> tensor<?x16xf32>
    %down = moe.weight.use @down : tensor<4x8x16xf32>
    %v20 = onnx.GatherND(%down, %v10)
        : (tensor<4x8x16xf32>, tensor<?x1xi64>) -> tensor<?x8x16xf32>
    %v21 = onnx.Unsqueeze(%v19, %last)
        : (tensor<?x16xf32>, tensor<1xi64>) -> tensor<?x16x1xf32>
    %v22 = onnx.MatMul(%v20, %v21)
        : (tensor<?x8x16xf32>, tensor<?x16x1xf32>) -> tensor<?x8x1xf32>
    %v23 = onnx.Squeeze(%v22, %last)
        : (tensor<?x8x1xf32>, tensor<1xi64>) -> tensor<?x8xf32>
    %v24 = onnx.Reshape(%v5, %last)
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?xf32>
    %v25 = onnx.Unsqueeze(%v24, %last)
        : (tensor<?xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v26 = onnx.Mul(%v23, %v25)
        : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
    %slots = onnx.Constant {value = dense<[-1, 2, 8]> : tensor<3xi64>} : () -> tensor<3xi64>
    %v27 = onnx.Reshape(%v26, %slots)
        : (tensor<?x8xf32>, tensor<3xi64>) -> tensor<?x2x8xf32>
    %v28 = onnx.ReduceSum(%v27, %one) {keepdims = 0 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2x8xf32>, tensor<1xi64>) -> tensor<?x8xf32>
    return %v28 : tensor<?x8xf32>
  }
}

// -----

// The same with a bias.
// 
// CHECK: moe.bank @layer0 {{.*}} gate_bias(@layer0.gate_bias) up_bias(@layer0.up_bias)
// CHECK: moe.experts
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x4xf32>
    moe.weight.bind @router %w0 : tensor<8x4xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<4x32x8xf32>
    moe.weight.bind @gate_up %w1 : tensor<4x32x8xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<4x32xf32>
    moe.weight.bind @bias %w2 : tensor<4x32xf32>
    %w3 = moe.weight.load "w.bin" at 12288 : tensor<4x8x16xf32>
    moe.weight.bind @down %w3 : tensor<4x8x16xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x4xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x4xf32>) -> tensor<?x4xf32>
    %v1 = onnx.Softmax(%v0) {axis = -1 : i64}
        : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %k = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2, %v3 = onnx.TopK(%v1, %k) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x4xf32>, tensor<1xi64>) -> (tensor<?x2xf32>, tensor<?x2xi64>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v4 = onnx.ReduceSum(%v2, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v5 = onnx.Div(%v2, %v4)
        : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    %one = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v6 = onnx.Unsqueeze(%x, %one)
        : (tensor<?x8xf32>, tensor<1xi64>) -> tensor<?x1x8xf32>
    %times = onnx.Constant {value = dense<[1, 2, 1]> : tensor<3xi64>} : () -> tensor<3xi64>
    %v7 = onnx.Tile(%v6, %times)
        : (tensor<?x1x8xf32>, tensor<3xi64>) -> tensor<?x2x8xf32>
    %rows = onnx.Constant {value = dense<[-1, 8]> : tensor<2xi64>} : () -> tensor<2xi64>
    %v8 = onnx.Reshape(%v7, %rows)
        : (tensor<?x2x8xf32>, tensor<2xi64>) -> tensor<?x8xf32>
    %v9 = onnx.Reshape(%v3, %last)
        : (tensor<?x2xi64>, tensor<1xi64>) -> tensor<?xi64>
    %v10 = onnx.Unsqueeze(%v9, %last)
        : (tensor<?xi64>, tensor<1xi64>) -> tensor<?x1xi64>
    %gate_up = moe.weight.use @gate_up : tensor<4x32x8xf32>
    %v11 = onnx.GatherND(%gate_up, %v10)
        : (tensor<4x32x8xf32>, tensor<?x1xi64>) -> tensor<?x32x8xf32>
    %v12 = onnx.Unsqueeze(%v8, %last)
        : (tensor<?x8xf32>, tensor<1xi64>) -> tensor<?x8x1xf32>
    %v13 = onnx.MatMul(%v11, %v12)
        : (tensor<?x32x8xf32>, tensor<?x8x1xf32>) -> tensor<?x32x1xf32>
    %v14 = onnx.Squeeze(%v13, %last)
        : (tensor<?x32x1xf32>, tensor<1xi64>) -> tensor<?x32xf32>
    %bias = moe.weight.use @bias : tensor<4x32xf32>
    %v15 = onnx.GatherND(%bias, %v10)
        : (tensor<4x32xf32>, tensor<?x1xi64>) -> tensor<?x32xf32>
    %v16 = onnx.Add(%v14, %v15)
        : (tensor<?x32xf32>, tensor<?x32xf32>) -> tensor<?x32xf32>
    %none = onnx.none : () -> none
    %v17, %v18 = onnx.Split(%v16, %none) {axis = 1 : i64, num_outputs = 2 : i64}
        : (tensor<?x32xf32>, none) -> (tensor<?x16xf32>, tensor<?x16xf32>)
    %v19 = onnx.Sigmoid(%v17)
        : (tensor<?x16xf32>) -> tensor<?x16xf32>
    %v20 = onnx.Mul(%v17, %v19)
        : (tensor<?x16xf32>, tensor<?x16xf32>) -> tensor<?x16xf32>
    %v21 = onnx.Mul(%v20, %v18)
        : (tensor<?x16xf32>, tensor<?x16xf32>) -> tensor<?x16xf32>
    %down = moe.weight.use @down : tensor<4x8x16xf32>
    %v22 = onnx.GatherND(%down, %v10)
        : (tensor<4x8x16xf32>, tensor<?x1xi64>) -> tensor<?x8x16xf32>
    %v23 = onnx.Unsqueeze(%v21, %last)
        : (tensor<?x16xf32>, tensor<1xi64>) -> tensor<?x16x1xf32>
    %v24 = onnx.MatMul(%v22, %v23)
        : (tensor<?x8x16xf32>, tensor<?x16x1xf32>) -> tensor<?x8x1xf32>
    %v25 = onnx.Squeeze(%v24, %last)
        : (tensor<?x8x1xf32>, tensor<1xi64>) -> tensor<?x8xf32>
    %v26 = onnx.Reshape(%v5, %last)
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?xf32>
    %v27 = onnx.Unsqueeze(%v26, %last)
        : (tensor<?xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v28 = onnx.Mul(%v25, %v27)
        : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
    %slots = onnx.Constant {value = dense<[-1, 2, 8]> : tensor<3xi64>} : () -> tensor<3xi64>
    %v29 = onnx.Reshape(%v28, %slots)
        : (tensor<?x8xf32>, tensor<3xi64>) -> tensor<?x2x8xf32>
    %v30 = onnx.ReduceSum(%v29, %one) {keepdims = 0 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2x8xf32>, tensor<1xi64>) -> tensor<?x8xf32>
    return %v30 : tensor<?x8xf32>
  }
}

// -----

// One expert, one slot.
// 
// CHECK: moe.bank @layer0 experts(1)
// CHECK: moe.select {{.*}} {k = 1 : i64}
// CHECK: moe.experts
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x1xf32>
    moe.weight.bind @router %w0 : tensor<8x1xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<1x32x8xf32>
    moe.weight.bind @gate_up %w1 : tensor<1x32x8xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<1x8x16xf32>
    moe.weight.bind @down %w2 : tensor<1x8x16xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x1xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x1xf32>) -> tensor<?x1xf32>
    %v1 = onnx.Softmax(%v0) {axis = -1 : i64}
        : (tensor<?x1xf32>) -> tensor<?x1xf32>
    %k = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2, %v3 = onnx.TopK(%v1, %k) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x1xf32>, tensor<1xi64>) -> (tensor<?x1xf32>, tensor<?x1xi64>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v4 = onnx.ReduceSum(%v2, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x1xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v5 = onnx.Div(%v2, %v4)
        : (tensor<?x1xf32>, tensor<?x1xf32>) -> tensor<?x1xf32>
    %one = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v6 = onnx.Unsqueeze(%x, %one)
        : (tensor<?x8xf32>, tensor<1xi64>) -> tensor<?x1x8xf32>
    %times = onnx.Constant {value = dense<[1, 1, 1]> : tensor<3xi64>} : () -> tensor<3xi64>
    %v7 = onnx.Tile(%v6, %times)
        : (tensor<?x1x8xf32>, tensor<3xi64>) -> tensor<?x1x8xf32>
    %rows = onnx.Constant {value = dense<[-1, 8]> : tensor<2xi64>} : () -> tensor<2xi64>
    %v8 = onnx.Reshape(%v7, %rows)
        : (tensor<?x1x8xf32>, tensor<2xi64>) -> tensor<?x8xf32>
    %v9 = onnx.Reshape(%v3, %last)
        : (tensor<?x1xi64>, tensor<1xi64>) -> tensor<?xi64>
    %v10 = onnx.Unsqueeze(%v9, %last)
        : (tensor<?xi64>, tensor<1xi64>) -> tensor<?x1xi64>
    %gate_up = moe.weight.use @gate_up : tensor<1x32x8xf32>
    %v11 = onnx.GatherND(%gate_up, %v10)
        : (tensor<1x32x8xf32>, tensor<?x1xi64>) -> tensor<?x32x8xf32>
    %v12 = onnx.Unsqueeze(%v8, %last)
        : (tensor<?x8xf32>, tensor<1xi64>) -> tensor<?x8x1xf32>
    %v13 = onnx.MatMul(%v11, %v12)
        : (tensor<?x32x8xf32>, tensor<?x8x1xf32>) -> tensor<?x32x1xf32>
    %v14 = onnx.Squeeze(%v13, %last)
        : (tensor<?x32x1xf32>, tensor<1xi64>) -> tensor<?x32xf32>
    %none = onnx.none : () -> none
    %v15, %v16 = onnx.Split(%v14, %none) {axis = 1 : i64, num_outputs = 2 : i64}
        : (tensor<?x32xf32>, none) -> (tensor<?x16xf32>, tensor<?x16xf32>)
    %v17 = onnx.Sigmoid(%v15)
        : (tensor<?x16xf32>) -> tensor<?x16xf32>
    %v18 = onnx.Mul(%v15, %v17)
        : (tensor<?x16xf32>, tensor<?x16xf32>) -> tensor<?x16xf32>
    %v19 = onnx.Mul(%v18, %v16)
        : (tensor<?x16xf32>, tensor<?x16xf32>) -> tensor<?x16xf32>
    %down = moe.weight.use @down : tensor<1x8x16xf32>
    %v20 = onnx.GatherND(%down, %v10)
        : (tensor<1x8x16xf32>, tensor<?x1xi64>) -> tensor<?x8x16xf32>
    %v21 = onnx.Unsqueeze(%v19, %last)
        : (tensor<?x16xf32>, tensor<1xi64>) -> tensor<?x16x1xf32>
    %v22 = onnx.MatMul(%v20, %v21)
        : (tensor<?x8x16xf32>, tensor<?x16x1xf32>) -> tensor<?x8x1xf32>
    %v23 = onnx.Squeeze(%v22, %last)
        : (tensor<?x8x1xf32>, tensor<1xi64>) -> tensor<?x8xf32>
    %v24 = onnx.Reshape(%v5, %last)
        : (tensor<?x1xf32>, tensor<1xi64>) -> tensor<?xf32>
    %v25 = onnx.Unsqueeze(%v24, %last)
        : (tensor<?xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v26 = onnx.Mul(%v23, %v25)
        : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
    %slots = onnx.Constant {value = dense<[-1, 1, 8]> : tensor<3xi64>} : () -> tensor<3xi64>
    %v27 = onnx.Reshape(%v26, %slots)
        : (tensor<?x8xf32>, tensor<3xi64>) -> tensor<?x1x8xf32>
    %v28 = onnx.ReduceSum(%v27, %one) {keepdims = 0 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x1x8xf32>, tensor<1xi64>) -> tensor<?x8xf32>
    return %v28 : tensor<?x8xf32>
  }
}

// -----

// Masks: each expert computes all tokens. Their matrices become one tensor.
// 
// CHECK: moe.weight.concat
// CHECK: moe.bank @layer0 experts(3) hidden(8) inter(16) body(#moe.ffn<gated = false, activation = "relu">)
// CHECK-NOT: onnx.Equal
// CHECK: moe.experts
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x3xf32>
    moe.weight.bind @router %w0 : tensor<8x3xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<8x16xf32>
    moe.weight.bind @up0 %w1 : tensor<8x16xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<16x8xf32>
    moe.weight.bind @down0 %w2 : tensor<16x8xf32>
    %w3 = moe.weight.load "w.bin" at 12288 : tensor<8x16xf32>
    moe.weight.bind @up1 %w3 : tensor<8x16xf32>
    %w4 = moe.weight.load "w.bin" at 16384 : tensor<16x8xf32>
    moe.weight.bind @down1 %w4 : tensor<16x8xf32>
    %w5 = moe.weight.load "w.bin" at 20480 : tensor<8x16xf32>
    moe.weight.bind @up2 %w5 : tensor<8x16xf32>
    %w6 = moe.weight.load "w.bin" at 24576 : tensor<16x8xf32>
    moe.weight.bind @down2 %w6 : tensor<16x8xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x3xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x3xf32>) -> tensor<?x3xf32>
    %v1 = onnx.Softmax(%v0) {axis = -1 : i64}
        : (tensor<?x3xf32>) -> tensor<?x3xf32>
    %k = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2, %v3 = onnx.TopK(%v1, %k) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x3xf32>, tensor<1xi64>) -> (tensor<?x2xf32>, tensor<?x2xi64>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v4 = onnx.ReduceSum(%v2, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v5 = onnx.Div(%v2, %v4)
        : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    %up0 = moe.weight.use @up0 : tensor<8x16xf32>
    %down0 = moe.weight.use @down0 : tensor<16x8xf32>
    %v6 = onnx.MatMul(%x, %up0)
        : (tensor<?x8xf32>, tensor<8x16xf32>) -> tensor<?x16xf32>
    %v7 = onnx.Relu(%v6)
        : (tensor<?x16xf32>) -> tensor<?x16xf32>
    %v8 = onnx.MatMul(%v7, %down0)
        : (tensor<?x16xf32>, tensor<16x8xf32>) -> tensor<?x8xf32>
    %e0_9 = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
    %v9 = onnx.Equal(%v3, %e0_9)
        : (tensor<?x2xi64>, tensor<i64>) -> tensor<?x2xi1>
    %v10 = onnx.Cast(%v9) {to = 1 : i64}
        : (tensor<?x2xi1>) -> tensor<?x2xf32>
    %v11 = onnx.Mul(%v10, %v5)
        : (tensor<?x2xf32>, tensor<?x2xf32>) -> tensor<?x2xf32>
    %v12 = onnx.ReduceSum(%v11, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v13 = onnx.Mul(%v8, %v12)
        : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
    %up1 = moe.weight.use @up1 : tensor<8x16xf32>
    %down1 = moe.weight.use @down1 : tensor<16x8xf32>
    %v14 = onnx.MatMul(%x, %up1)
        : (tensor<?x8xf32>, tensor<8x16xf32>) -> tensor<?x16xf32>
    %v15 = onnx.Relu(%v14)
        : (tensor<?x16xf32>) -> tensor<?x16xf32>
    %v16 = onnx.MatMul(%v15, %down1)
        : (tensor<?x16xf32>, tensor<16x8xf32>) -> tensor<?x8xf32>
    %e1_17 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
    %v17 = onnx.Equal(%v3, %e1_17)
        : (tensor<?x2xi64>, tensor<i64>) -> tensor<?x2xi1>
    %v18 = onnx.Cast(%v17) {to = 1 : i64}
        : (tensor<?x2xi1>) -> tensor<?x2xf32>
    %v19 = onnx.Mul(%v18, %v5)
        : (tensor<?x2xf32>, tensor<?x2xf32>) -> tensor<?x2xf32>
    %v20 = onnx.ReduceSum(%v19, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v21 = onnx.Mul(%v16, %v20)
        : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
    %v22 = onnx.Add(%v13, %v21)
        : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
    %up2 = moe.weight.use @up2 : tensor<8x16xf32>
    %down2 = moe.weight.use @down2 : tensor<16x8xf32>
    %v23 = onnx.MatMul(%x, %up2)
        : (tensor<?x8xf32>, tensor<8x16xf32>) -> tensor<?x16xf32>
    %v24 = onnx.Relu(%v23)
        : (tensor<?x16xf32>) -> tensor<?x16xf32>
    %v25 = onnx.MatMul(%v24, %down2)
        : (tensor<?x16xf32>, tensor<16x8xf32>) -> tensor<?x8xf32>
    %e2_26 = onnx.Constant {value = dense<2> : tensor<i64>} : () -> tensor<i64>
    %v26 = onnx.Equal(%v3, %e2_26)
        : (tensor<?x2xi64>, tensor<i64>) -> tensor<?x2xi1>
    %v27 = onnx.Cast(%v26) {to = 1 : i64}
        : (tensor<?x2xi1>) -> tensor<?x2xf32>
    %v28 = onnx.Mul(%v27, %v5)
        : (tensor<?x2xf32>, tensor<?x2xf32>) -> tensor<?x2xf32>
    %v29 = onnx.ReduceSum(%v28, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v30 = onnx.Mul(%v25, %v29)
        : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
    %v31 = onnx.Add(%v22, %v30)
        : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
    return %v31 : tensor<?x8xf32>
  }
}

// -----

// Slices 0 and 1 of stacked tensors are those tensors.
// 
// CHECK-NOT: moe.weight.concat
// CHECK: moe.bank @layer0 {{.*}} down(@layer0.down)
// CHECK: moe.experts
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x2xf32>
    moe.weight.bind @router %w0 : tensor<8x2xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<2x8x16xf32>
    moe.weight.bind @up %w1 : tensor<2x8x16xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<2x16x8xf32>
    moe.weight.bind @down %w2 : tensor<2x16x8xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x2xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x2xf32>) -> tensor<?x2xf32>
    %v1 = onnx.Softmax(%v0) {axis = -1 : i64}
        : (tensor<?x2xf32>) -> tensor<?x2xf32>
    %k = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v2, %v3 = onnx.TopK(%v1, %k) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> (tensor<?x1xf32>, tensor<?x1xi64>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v4 = onnx.ReduceSum(%v2, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x1xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v5 = onnx.Div(%v2, %v4)
        : (tensor<?x1xf32>, tensor<?x1xf32>) -> tensor<?x1xf32>
    %up = moe.weight.use @up : tensor<2x8x16xf32>
    %down = moe.weight.use @down : tensor<2x16x8xf32>
    %s0 = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
    %v6 = onnx.Gather(%up, %s0) {axis = 0 : i64}
        : (tensor<2x8x16xf32>, tensor<i64>) -> tensor<8x16xf32>
    %v7 = onnx.Gather(%down, %s0) {axis = 0 : i64}
        : (tensor<2x16x8xf32>, tensor<i64>) -> tensor<16x8xf32>
    %v8 = onnx.MatMul(%x, %v6)
        : (tensor<?x8xf32>, tensor<8x16xf32>) -> tensor<?x16xf32>
    %v9 = onnx.Relu(%v8)
        : (tensor<?x16xf32>) -> tensor<?x16xf32>
    %v10 = onnx.MatMul(%v9, %v7)
        : (tensor<?x16xf32>, tensor<16x8xf32>) -> tensor<?x8xf32>
    %e0_11 = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
    %v11 = onnx.Equal(%v3, %e0_11)
        : (tensor<?x1xi64>, tensor<i64>) -> tensor<?x1xi1>
    %v12 = onnx.Cast(%v11) {to = 1 : i64}
        : (tensor<?x1xi1>) -> tensor<?x1xf32>
    %v13 = onnx.Mul(%v12, %v5)
        : (tensor<?x1xf32>, tensor<?x1xf32>) -> tensor<?x1xf32>
    %v14 = onnx.ReduceSum(%v13, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x1xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v15 = onnx.Mul(%v10, %v14)
        : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
    %s1 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
    %v16 = onnx.Gather(%up, %s1) {axis = 0 : i64}
        : (tensor<2x8x16xf32>, tensor<i64>) -> tensor<8x16xf32>
    %v17 = onnx.Gather(%down, %s1) {axis = 0 : i64}
        : (tensor<2x16x8xf32>, tensor<i64>) -> tensor<16x8xf32>
    %v18 = onnx.MatMul(%x, %v16)
        : (tensor<?x8xf32>, tensor<8x16xf32>) -> tensor<?x16xf32>
    %v19 = onnx.Relu(%v18)
        : (tensor<?x16xf32>) -> tensor<?x16xf32>
    %v20 = onnx.MatMul(%v19, %v17)
        : (tensor<?x16xf32>, tensor<16x8xf32>) -> tensor<?x8xf32>
    %e1_21 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
    %v21 = onnx.Equal(%v3, %e1_21)
        : (tensor<?x1xi64>, tensor<i64>) -> tensor<?x1xi1>
    %v22 = onnx.Cast(%v21) {to = 1 : i64}
        : (tensor<?x1xi1>) -> tensor<?x1xf32>
    %v23 = onnx.Mul(%v22, %v5)
        : (tensor<?x1xf32>, tensor<?x1xf32>) -> tensor<?x1xf32>
    %v24 = onnx.ReduceSum(%v23, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x1xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v25 = onnx.Mul(%v20, %v24)
        : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
    %v26 = onnx.Add(%v15, %v25)
        : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
    return %v26 : tensor<?x8xf32>
  }
}

// -----

// A node of ONNX Runtime.
// 
// CHECK: moe.bank @layer0 experts(2) hidden(8) inter(16) {{.*}} gate(@fc1) up(@fc3) down(@fc2)
// CHECK: onnx.Softmax
// CHECK: moe.select
// CHECK: moe.experts
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x2xf32>
    moe.weight.bind @router %w0 : tensor<8x2xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<2x16x8xf32>
    moe.weight.bind @fc1 %w1 : tensor<2x16x8xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<2x8x16xf32>
    moe.weight.bind @fc2 %w2 : tensor<2x8x16xf32>
    %w3 = moe.weight.load "w.bin" at 12288 : tensor<2x16x8xf32>
    moe.weight.bind @fc3 %w3 : tensor<2x16x8xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x2xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x2xf32>) -> tensor<?x2xf32>
    %none = onnx.none : () -> none
    %fc1 = moe.weight.use @fc1 : tensor<2x16x8xf32>
    %fc2 = moe.weight.use @fc2 : tensor<2x8x16xf32>
    %fc3 = moe.weight.use @fc3 : tensor<2x16x8xf32>
    %v1 = onnx.custom(%x, %v0, %fc1, %none, %fc2, %none, %fc3) {attributes = {activation_type = "silu", k = 1 : i64}, domain = "com.microsoft", op_type = "MoE"}
        : (tensor<?x8xf32>, tensor<?x2xf32>, tensor<2x16x8xf32>, none, tensor<2x8x16xf32>, none, tensor<2x16x8xf32>) -> tensor<?x8xf32>
    return %v1 : tensor<?x8xf32>
  }
}
