// RUN: moe-opt %s -split-input-file -fold-weights -raise-moe -verify-diagnostics
// Every obligation that fails is named, and where.

// A raised layer is reported too.
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
    // expected-remark @below {{raised 4 experts, top 2, as @layer0}}
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

// An expert of the router is missing.
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
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x3xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x3xf32>) -> tensor<?x3xf32>
    %v1 = onnx.Softmax(%v0) {axis = -1 : i64}
        : (tensor<?x3xf32>) -> tensor<?x3xf32>
    %k = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    // expected-remark @below {{refused because expert(s) 2 of 3 missing (does the exporter drop}}
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
    return %v22 : tensor<?x8xf32>
  }
}

// -----

// An expert is there twice.
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x2xf32>
    moe.weight.bind @router %w0 : tensor<8x2xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<8x16xf32>
    moe.weight.bind @up0 %w1 : tensor<8x16xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<16x8xf32>
    moe.weight.bind @down0 %w2 : tensor<16x8xf32>
    %w3 = moe.weight.load "w.bin" at 12288 : tensor<16x8xf32>
    moe.weight.bind @down0b %w3 : tensor<16x8xf32>
    %w4 = moe.weight.load "w.bin" at 16384 : tensor<8x16xf32>
    moe.weight.bind @up1 %w4 : tensor<8x16xf32>
    %w5 = moe.weight.load "w.bin" at 20480 : tensor<16x8xf32>
    moe.weight.bind @down1 %w5 : tensor<16x8xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x2xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x2xf32>) -> tensor<?x2xf32>
    %v1 = onnx.Softmax(%v0) {axis = -1 : i64}
        : (tensor<?x2xf32>) -> tensor<?x2xf32>
    %k = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    // expected-remark @below {{refused because expert(s) 1 of 2 missing, 0 duplicated}}
    %v2, %v3 = onnx.TopK(%v1, %k) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> (tensor<?x2xf32>, tensor<?x2xi64>)
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
    %down0b = moe.weight.use @down0b : tensor<16x8xf32>
    %v14 = onnx.MatMul(%x, %up0)
        : (tensor<?x8xf32>, tensor<8x16xf32>) -> tensor<?x16xf32>
    %v15 = onnx.Relu(%v14)
        : (tensor<?x16xf32>) -> tensor<?x16xf32>
    %v16 = onnx.MatMul(%v15, %down0b)
        : (tensor<?x16xf32>, tensor<16x8xf32>) -> tensor<?x8xf32>
    %e0_17 = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
    %v17 = onnx.Equal(%v3, %e0_17)
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
    %up1 = moe.weight.use @up1 : tensor<8x16xf32>
    %down1 = moe.weight.use @down1 : tensor<16x8xf32>
    %v23 = onnx.MatMul(%x, %up1)
        : (tensor<?x8xf32>, tensor<8x16xf32>) -> tensor<?x16xf32>
    %v24 = onnx.Relu(%v23)
        : (tensor<?x16xf32>) -> tensor<?x16xf32>
    %v25 = onnx.MatMul(%v24, %down1)
        : (tensor<?x16xf32>, tensor<16x8xf32>) -> tensor<?x8xf32>
    %e1_26 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
    %v26 = onnx.Equal(%v3, %e1_26)
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

// What all experts read is no obstacle: a region reads it by its name.
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x2xf32>
    moe.weight.bind @router %w0 : tensor<8x2xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<8x16xf32>
    moe.weight.bind @up %w1 : tensor<8x16xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<16x8xf32>
    moe.weight.bind @down0 %w2 : tensor<16x8xf32>
    %w3 = moe.weight.load "w.bin" at 12288 : tensor<16x8xf32>
    moe.weight.bind @down1 %w3 : tensor<16x8xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x2xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x2xf32>) -> tensor<?x2xf32>
    %v1 = onnx.Softmax(%v0) {axis = -1 : i64}
        : (tensor<?x2xf32>) -> tensor<?x2xf32>
    %k = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    // expected-remark @below {{raised 2 experts, top 2, as @layer0}}
    %v2, %v3 = onnx.TopK(%v1, %k) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> (tensor<?x2xf32>, tensor<?x2xi64>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v4 = onnx.ReduceSum(%v2, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v5 = onnx.Div(%v2, %v4)
        : (tensor<?x2xf32>, tensor<?x1xf32>) -> tensor<?x2xf32>
    %up = moe.weight.use @up : tensor<8x16xf32>
    %v6 = onnx.MatMul(%x, %up)
        : (tensor<?x8xf32>, tensor<8x16xf32>) -> tensor<?x16xf32>
    %v7 = onnx.Relu(%v6)
        : (tensor<?x16xf32>) -> tensor<?x16xf32>
    %down0 = moe.weight.use @down0 : tensor<16x8xf32>
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
    %down1 = moe.weight.use @down1 : tensor<16x8xf32>
    %v14 = onnx.MatMul(%v7, %down1)
        : (tensor<?x16xf32>, tensor<16x8xf32>) -> tensor<?x8xf32>
    %e1_15 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
    %v15 = onnx.Equal(%v3, %e1_15)
        : (tensor<?x2xi64>, tensor<i64>) -> tensor<?x2xi1>
    %v16 = onnx.Cast(%v15) {to = 1 : i64}
        : (tensor<?x2xi1>) -> tensor<?x2xf32>
    %v17 = onnx.Mul(%v16, %v5)
        : (tensor<?x2xf32>, tensor<?x2xf32>) -> tensor<?x2xf32>
    %v18 = onnx.ReduceSum(%v17, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v19 = onnx.Mul(%v14, %v18)
        : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
    %v20 = onnx.Add(%v13, %v19)
        : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
    return %v20 : tensor<?x8xf32>
  }
}

// -----

// Expert 0 is given the parameters of expert 1.
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
    // expected-remark @below {{refused because expert 0 is given the parameters of expert 1}}
    %v2, %v3 = onnx.TopK(%v1, %k) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> (tensor<?x1xf32>, tensor<?x1xi64>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v4 = onnx.ReduceSum(%v2, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x1xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v5 = onnx.Div(%v2, %v4)
        : (tensor<?x1xf32>, tensor<?x1xf32>) -> tensor<?x1xf32>
    %up = moe.weight.use @up : tensor<2x8x16xf32>
    %down = moe.weight.use @down : tensor<2x16x8xf32>
    %s0 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
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
    %s1 = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
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

// Something else reads an expert's result.
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x2xf32>
    moe.weight.bind @router %w0 : tensor<8x2xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<8x16xf32>
    moe.weight.bind @up0 %w1 : tensor<8x16xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<16x8xf32>
    moe.weight.bind @down0 %w2 : tensor<16x8xf32>
    %w3 = moe.weight.load "w.bin" at 12288 : tensor<8x16xf32>
    moe.weight.bind @up1 %w3 : tensor<8x16xf32>
    %w4 = moe.weight.load "w.bin" at 16384 : tensor<16x8xf32>
    moe.weight.bind @down1 %w4 : tensor<16x8xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
    %router = moe.weight.use @router : tensor<8x2xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x2xf32>) -> tensor<?x2xf32>
    %v1 = onnx.Softmax(%v0) {axis = -1 : i64}
        : (tensor<?x2xf32>) -> tensor<?x2xf32>
    %k = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    // expected-remark @below {{also uses an intermediate result of an expert at func.return}}
    %v2, %v3 = onnx.TopK(%v1, %k) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> (tensor<?x2xf32>, tensor<?x2xi64>)
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
    return %v22, %v16 : tensor<?x8xf32>, tensor<?x8xf32>
  }
}

// -----

// The bank has fewer experts than the router columns.
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x4xf32>
    moe.weight.bind @router %w0 : tensor<8x4xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<3x32x8xf32>
    moe.weight.bind @gate_up %w1 : tensor<3x32x8xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<3x8x16xf32>
    moe.weight.bind @down %w2 : tensor<3x8x16xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x4xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x4xf32>) -> tensor<?x4xf32>
    %v1 = onnx.Softmax(%v0) {axis = -1 : i64}
        : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %k = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    // expected-remark @below {{the number of experts in the bank (3) is not the number of columns of the router (4) at GatherND}}
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
    %gate_up = moe.weight.use @gate_up : tensor<3x32x8xf32>
    %v11 = onnx.GatherND(%gate_up, %v10)
        : (tensor<3x32x8xf32>, tensor<?x1xi64>) -> tensor<?x32x8xf32>
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
    %down = moe.weight.use @down : tensor<3x8x16xf32>
    %v20 = onnx.GatherND(%down, %v10)
        : (tensor<3x8x16xf32>, tensor<?x1xi64>) -> tensor<?x8x16xf32>
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

// k is an input.
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x2xf32>
    moe.weight.bind @router %w0 : tensor<8x2xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<8x16xf32>
    moe.weight.bind @up0 %w1 : tensor<8x16xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<16x8xf32>
    moe.weight.bind @down0 %w2 : tensor<16x8xf32>
    %w3 = moe.weight.load "w.bin" at 12288 : tensor<8x16xf32>
    moe.weight.bind @up1 %w3 : tensor<8x16xf32>
    %w4 = moe.weight.load "w.bin" at 16384 : tensor<16x8xf32>
    moe.weight.bind @down1 %w4 : tensor<16x8xf32>
  }
  func.func @main(%x: tensor<?x8xf32>, %k: tensor<1xi64>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x2xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x2xf32>) -> tensor<?x2xf32>
    %v1 = onnx.Softmax(%v0) {axis = -1 : i64}
        : (tensor<?x2xf32>) -> tensor<?x2xf32>
    // expected-remark @below {{the top-k count is not a constant at TopK}}
    %v2, %v3 = onnx.TopK(%v1, %k) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> (tensor<?x?xf32>, tensor<?x?xi64>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %up0 = moe.weight.use @up0 : tensor<8x16xf32>
    %down0 = moe.weight.use @down0 : tensor<16x8xf32>
    %v4 = onnx.MatMul(%x, %up0)
        : (tensor<?x8xf32>, tensor<8x16xf32>) -> tensor<?x16xf32>
    %v5 = onnx.Relu(%v4)
        : (tensor<?x16xf32>) -> tensor<?x16xf32>
    %v6 = onnx.MatMul(%v5, %down0)
        : (tensor<?x16xf32>, tensor<16x8xf32>) -> tensor<?x8xf32>
    %e0_7 = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
    %v7 = onnx.Equal(%v3, %e0_7)
        : (tensor<?x?xi64>, tensor<i64>) -> tensor<?x?xi1>
    %v8 = onnx.Cast(%v7) {to = 1 : i64}
        : (tensor<?x?xi1>) -> tensor<?x?xf32>
    %v9 = onnx.Mul(%v8, %v2)
        : (tensor<?x?xf32>, tensor<?x?xf32>) -> tensor<?x?xf32>
    %v10 = onnx.ReduceSum(%v9, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x?xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v11 = onnx.Mul(%v6, %v10)
        : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
    %up1 = moe.weight.use @up1 : tensor<8x16xf32>
    %down1 = moe.weight.use @down1 : tensor<16x8xf32>
    %v12 = onnx.MatMul(%x, %up1)
        : (tensor<?x8xf32>, tensor<8x16xf32>) -> tensor<?x16xf32>
    %v13 = onnx.Relu(%v12)
        : (tensor<?x16xf32>) -> tensor<?x16xf32>
    %v14 = onnx.MatMul(%v13, %down1)
        : (tensor<?x16xf32>, tensor<16x8xf32>) -> tensor<?x8xf32>
    %e1_15 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
    %v15 = onnx.Equal(%v3, %e1_15)
        : (tensor<?x?xi64>, tensor<i64>) -> tensor<?x?xi1>
    %v16 = onnx.Cast(%v15) {to = 1 : i64}
        : (tensor<?x?xi1>) -> tensor<?x?xf32>
    %v17 = onnx.Mul(%v16, %v2)
        : (tensor<?x?xf32>, tensor<?x?xf32>) -> tensor<?x?xf32>
    %v18 = onnx.ReduceSum(%v17, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x?xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v19 = onnx.Mul(%v14, %v18)
        : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
    %v20 = onnx.Add(%v11, %v19)
        : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
    return %v20 : tensor<?x8xf32>
  }
}

// -----

// k is larger than the number of experts.
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x2xf32>
    moe.weight.bind @router %w0 : tensor<8x2xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<8x16xf32>
    moe.weight.bind @up0 %w1 : tensor<8x16xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<16x8xf32>
    moe.weight.bind @down0 %w2 : tensor<16x8xf32>
    %w3 = moe.weight.load "w.bin" at 12288 : tensor<8x16xf32>
    moe.weight.bind @up1 %w3 : tensor<8x16xf32>
    %w4 = moe.weight.load "w.bin" at 16384 : tensor<16x8xf32>
    moe.weight.bind @down1 %w4 : tensor<16x8xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x2xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x2xf32>) -> tensor<?x2xf32>
    %v1 = onnx.Softmax(%v0) {axis = -1 : i64}
        : (tensor<?x2xf32>) -> tensor<?x2xf32>
    %k = onnx.Constant {value = dense<3> : tensor<1xi64>} : () -> tensor<1xi64>
    // expected-remark @below {{the top-k count is out of range at TopK}}
    %v2, %v3 = onnx.TopK(%v1, %k) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> (tensor<?x3xf32>, tensor<?x3xi64>)
    %last = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
    %v4 = onnx.ReduceSum(%v2, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x3xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v5 = onnx.Div(%v2, %v4)
        : (tensor<?x3xf32>, tensor<?x1xf32>) -> tensor<?x3xf32>
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
        : (tensor<?x3xi64>, tensor<i64>) -> tensor<?x3xi1>
    %v10 = onnx.Cast(%v9) {to = 1 : i64}
        : (tensor<?x3xi1>) -> tensor<?x3xf32>
    %v11 = onnx.Mul(%v10, %v5)
        : (tensor<?x3xf32>, tensor<?x3xf32>) -> tensor<?x3xf32>
    %v12 = onnx.ReduceSum(%v11, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x3xf32>, tensor<1xi64>) -> tensor<?x1xf32>
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
        : (tensor<?x3xi64>, tensor<i64>) -> tensor<?x3xi1>
    %v18 = onnx.Cast(%v17) {to = 1 : i64}
        : (tensor<?x3xi1>) -> tensor<?x3xf32>
    %v19 = onnx.Mul(%v18, %v5)
        : (tensor<?x3xf32>, tensor<?x3xf32>) -> tensor<?x3xf32>
    %v20 = onnx.ReduceSum(%v19, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x3xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v21 = onnx.Mul(%v16, %v20)
        : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
    %v22 = onnx.Add(%v13, %v21)
        : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
    return %v22 : tensor<?x8xf32>
  }
}

// -----

// The experts read two tensors.
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x2xf32>
    moe.weight.bind @router %w0 : tensor<8x2xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<8x16xf32>
    moe.weight.bind @up0 %w1 : tensor<8x16xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<16x8xf32>
    moe.weight.bind @down0 %w2 : tensor<16x8xf32>
    %w3 = moe.weight.load "w.bin" at 12288 : tensor<8x16xf32>
    moe.weight.bind @up1 %w3 : tensor<8x16xf32>
    %w4 = moe.weight.load "w.bin" at 16384 : tensor<16x8xf32>
    moe.weight.bind @down1 %w4 : tensor<16x8xf32>
  }
  func.func @main(%x: tensor<?x8xf32>, %x2: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x2xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x2xf32>) -> tensor<?x2xf32>
    %v1 = onnx.Softmax(%v0) {axis = -1 : i64}
        : (tensor<?x2xf32>) -> tensor<?x2xf32>
    %k = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    // expected-remark @below {{the experts read more than one source of tokens}}
    %v2, %v3 = onnx.TopK(%v1, %k) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> (tensor<?x2xf32>, tensor<?x2xi64>)
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
    %v14 = onnx.MatMul(%x2, %up1)
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
    return %v22 : tensor<?x8xf32>
  }
}

// -----

// Experts of different functions are kinds of their own.
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x2xf32>
    moe.weight.bind @router %w0 : tensor<8x2xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<8x16xf32>
    moe.weight.bind @up0 %w1 : tensor<8x16xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<16x8xf32>
    moe.weight.bind @down0 %w2 : tensor<16x8xf32>
    %w3 = moe.weight.load "w.bin" at 12288 : tensor<8x16xf32>
    moe.weight.bind @up1 %w3 : tensor<8x16xf32>
    %w4 = moe.weight.load "w.bin" at 16384 : tensor<16x8xf32>
    moe.weight.bind @down1 %w4 : tensor<16x8xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x2xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x2xf32>) -> tensor<?x2xf32>
    %v1 = onnx.Softmax(%v0) {axis = -1 : i64}
        : (tensor<?x2xf32>) -> tensor<?x2xf32>
    %k = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    // expected-remark @below {{raised 2 experts, top 2, as @layer0}}
    %v2, %v3 = onnx.TopK(%v1, %k) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> (tensor<?x2xf32>, tensor<?x2xi64>)
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
    %v15 = onnx.Tanh(%v14)
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
    return %v22 : tensor<?x8xf32>
  }
}

// -----

// The weights of one expert come from elsewhere.
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x2xf32>
    moe.weight.bind @router %w0 : tensor<8x2xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<8x16xf32>
    moe.weight.bind @up0 %w1 : tensor<8x16xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<16x8xf32>
    moe.weight.bind @down0 %w2 : tensor<16x8xf32>
    %w3 = moe.weight.load "w.bin" at 12288 : tensor<8x16xf32>
    moe.weight.bind @up1 %w3 : tensor<8x16xf32>
    %w4 = moe.weight.load "w.bin" at 16384 : tensor<16x8xf32>
    moe.weight.bind @down1 %w4 : tensor<16x8xf32>
  }
  func.func @main(%x: tensor<?x8xf32>, %w2: tensor<?x2xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x2xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x2xf32>) -> tensor<?x2xf32>
    %v1 = onnx.Softmax(%v0) {axis = -1 : i64}
        : (tensor<?x2xf32>) -> tensor<?x2xf32>
    %k = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
    // expected-remark @below {{have different routing weights}}
    %v2, %v3 = onnx.TopK(%v1, %k) {axis = -1 : i64, largest = 1 : i64, sorted = 1 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> (tensor<?x2xf32>, tensor<?x2xi64>)
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
    %v19 = onnx.Mul(%v18, %w2)
        : (tensor<?x2xf32>, tensor<?x2xf32>) -> tensor<?x2xf32>
    %v20 = onnx.ReduceSum(%v19, %last) {keepdims = 1 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2xf32>, tensor<1xi64>) -> tensor<?x1xf32>
    %v21 = onnx.Mul(%v16, %v20)
        : (tensor<?x8xf32>, tensor<?x1xf32>) -> tensor<?x8xf32>
    %v22 = onnx.Add(%v13, %v21)
        : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
    return %v22 : tensor<?x8xf32>
  }
}

// -----

// The results are not summed.
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
    // expected-remark @below {{an expert's result enters an operation that is no part of an expert or a combine at ReduceMax}}
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
    %v28 = onnx.ReduceMax(%v27, %one) {keepdims = 0 : i64, noop_with_empty_axes = 0 : i64}
        : (tensor<?x2x8xf32>, tensor<1xi64>) -> tensor<?x8xf32>
    return %v28 : tensor<?x8xf32>
  }
}

// -----

// Nodes of ONNX Runtime that are wrong.
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x2xf32>
    moe.weight.bind @router %w0 : tensor<8x2xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<2x16x8xf32>
    moe.weight.bind @fc1 %w1 : tensor<2x16x8xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<2x8x16xf32>
    moe.weight.bind @fc2 %w2 : tensor<2x8x16xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x2xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x2xf32>) -> tensor<?x2xf32>
    %none = onnx.none : () -> none
    %fc1 = moe.weight.use @fc1 : tensor<2x16x8xf32>
    %fc2 = moe.weight.use @fc2 : tensor<2x8x16xf32>
    // expected-remark @below {{k = 3 is out of range for 2 experts}}
    %v1 = onnx.custom(%x, %v0, %fc1, %none, %fc2, %none) {attributes = {k = 3 : i64}, domain = "com.microsoft", op_type = "MoE"}
        : (tensor<?x8xf32>, tensor<?x2xf32>, tensor<2x16x8xf32>, none, tensor<2x8x16xf32>, none) -> tensor<?x8xf32>
    return %v1 : tensor<?x8xf32>
  }
}

// -----

// 
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x2xf32>
    moe.weight.bind @router %w0 : tensor<8x2xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<2x16x8xf32>
    moe.weight.bind @fc1 %w1 : tensor<2x16x8xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<3x8x16xf32>
    moe.weight.bind @fc2 %w2 : tensor<3x8x16xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x2xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x2xf32>) -> tensor<?x2xf32>
    %none = onnx.none : () -> none
    %fc1 = moe.weight.use @fc1 : tensor<2x16x8xf32>
    %fc2 = moe.weight.use @fc2 : tensor<3x8x16xf32>
    // expected-remark @below {{the shapes of experts and router do not fit together}}
    %v1 = onnx.custom(%x, %v0, %fc1, %none, %fc2, %none) {attributes = {k = 1 : i64}, domain = "com.microsoft", op_type = "MoE"}
        : (tensor<?x8xf32>, tensor<?x2xf32>, tensor<2x16x8xf32>, none, tensor<3x8x16xf32>, none) -> tensor<?x8xf32>
    return %v1 : tensor<?x8xf32>
  }
}

// -----

// 
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x2xf32>
    moe.weight.bind @router %w0 : tensor<8x2xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<2x16x8xf32>
    moe.weight.bind @fc1 %w1 : tensor<2x16x8xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<2x8x16xf32>
    moe.weight.bind @fc2 %w2 : tensor<2x8x16xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x2xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x2xf32>) -> tensor<?x2xf32>
    %none = onnx.none : () -> none
    %fc1 = moe.weight.use @fc1 : tensor<2x16x8xf32>
    %fc2 = moe.weight.use @fc2 : tensor<2x8x16xf32>
    // expected-remark @below {{the activation_type "sine" is unknown}}
    %v1 = onnx.custom(%x, %v0, %fc1, %none, %fc2, %none) {attributes = {activation_type = "sine"}, domain = "com.microsoft", op_type = "MoE"}
        : (tensor<?x8xf32>, tensor<?x2xf32>, tensor<2x16x8xf32>, none, tensor<2x8x16xf32>, none) -> tensor<?x8xf32>
    return %v1 : tensor<?x8xf32>
  }
}

// -----

// 
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x2xf32>
    moe.weight.bind @router %w0 : tensor<8x2xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<2x16x8xf32>
    moe.weight.bind @fc1 %w1 : tensor<2x16x8xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<2x8x16xf32>
    moe.weight.bind @fc2 %w2 : tensor<2x8x16xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x2xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x2xf32>) -> tensor<?x2xf32>
    %none = onnx.none : () -> none
    %fc1 = moe.weight.use @fc1 : tensor<2x16x8xf32>
    %fc2 = moe.weight.use @fc2 : tensor<2x8x16xf32>
    // expected-remark @below {{the sparse mixer chooses two experts, not k = 1}}
    %v1 = onnx.custom(%x, %v0, %fc1, %none, %fc2, %none) {attributes = {use_sparse_mixer = 1 : i64}, domain = "com.microsoft", op_type = "MoE"}
        : (tensor<?x8xf32>, tensor<?x2xf32>, tensor<2x16x8xf32>, none, tensor<2x8x16xf32>, none) -> tensor<?x8xf32>
    return %v1 : tensor<?x8xf32>
  }
}

// -----

// 
module {
  moe.weights @weights {
    %w0 = moe.weight.load "w.bin" at 0 : tensor<8x2xf32>
    moe.weight.bind @router %w0 : tensor<8x2xf32>
    %w1 = moe.weight.load "w.bin" at 4096 : tensor<2x16x8xf32>
    moe.weight.bind @fc1 %w1 : tensor<2x16x8xf32>
    %w2 = moe.weight.load "w.bin" at 8192 : tensor<2x8x8xf32>
    moe.weight.bind @fc2 %w2 : tensor<2x8x8xf32>
  }
  func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
    %router = moe.weight.use @router : tensor<8x2xf32>
    %v0 = onnx.MatMul(%x, %router)
        : (tensor<?x8xf32>, tensor<8x2xf32>) -> tensor<?x2xf32>
    %none = onnx.none : () -> none
    %fc1 = moe.weight.use @fc1 : tensor<2x16x8xf32>
    %fc2 = moe.weight.use @fc2 : tensor<2x8x8xf32>
    // expected-remark @below {{swiglu has neither fc3 nor a fused layout (swiglu_fusion 1 or 2)}}
    %v1 = onnx.custom(%x, %v0, %fc1, %none, %fc2, %none) {attributes = {activation_type = "swiglu"}, domain = "com.microsoft", op_type = "MoE"}
        : (tensor<?x8xf32>, tensor<?x2xf32>, tensor<2x16x8xf32>, none, tensor<2x8x8xf32>, none) -> tensor<?x8xf32>
    return %v1 : tensor<?x8xf32>
  }
}
