// RUN: moe-opt %s | FileCheck %s
// RUN: moe-opt %s | moe-opt | FileCheck %s
// RUN: moe-opt %s --mlir-print-op-generic | moe-opt | FileCheck %s

// CHECK-LABEL: moe.weights @weights {
moe.weights @weights {
  // CHECK: %[[LOAD:.*]] = moe.weight.load "model.onnx.data" at 4096 : tensor<8x32x96xf16>
  %load = moe.weight.load "model.onnx.data" at 4096 : tensor<8x32x96xf16>
  // CHECK: %[[T:.*]] = moe.weight.transpose %[[LOAD]] [0, 2, 1] : tensor<8x32x96xf16> -> tensor<8x96x32xf16>
  %transpose = moe.weight.transpose %load [0, 2, 1] : tensor<8x32x96xf16> -> tensor<8x96x32xf16>
  // CHECK: %[[C:.*]] = moe.weight.cast %[[T]] : tensor<8x96x32xf16> -> tensor<8x96x32xf32>
  %cast = moe.weight.cast %transpose : tensor<8x96x32xf16> -> tensor<8x96x32xf32>
  // CHECK: %[[S:.*]] = moe.weight.slice %[[C]] [0, 1, 0] [8, 48, 32] [1, 2, 1] : tensor<8x96x32xf32> -> tensor<8x48x32xf32>
  %slice = moe.weight.slice %cast [0, 1, 0] [8, 48, 32] [1, 2, 1]
      : tensor<8x96x32xf32> -> tensor<8x48x32xf32>
  // CHECK: %[[G:.*]] = moe.weight.gather %[[S]] axis 0 [3, 0, 3] : tensor<8x48x32xf32> -> tensor<3x48x32xf32>
  %gather = moe.weight.gather %slice axis 0 [3, 0, 3] : tensor<8x48x32xf32> -> tensor<3x48x32xf32>
  // CHECK: %[[R:.*]] = moe.weight.reshape %[[G]] : tensor<3x48x32xf32> -> tensor<3x1536xf32>
  %reshape = moe.weight.reshape %gather : tensor<3x48x32xf32> -> tensor<3x1536xf32>
  // CHECK: %[[CC:.*]] = moe.weight.concat %[[R]], %[[R]] axis 1 : (tensor<3x1536xf32>, tensor<3x1536xf32>) -> tensor<3x3072xf32>
  %concat = moe.weight.concat %reshape, %reshape axis 1
      : (tensor<3x1536xf32>, tensor<3x1536xf32>) -> tensor<3x3072xf32>
  // CHECK: moe.weight.combine %[[CC]], %[[CC]] [2.500000e-01, 7.500000e-01] : (tensor<3x3072xf32>, tensor<3x3072xf32>) -> tensor<3x3072xf32>
  %combine = moe.weight.combine %concat, %concat [0.25, 0.75]
      : (tensor<3x3072xf32>, tensor<3x3072xf32>) -> tensor<3x3072xf32>
  // CHECK: %[[A:.*]] = moe.weight.literal dense<1.000000e+00> : tensor<96x4xf32>
  %a = moe.weight.literal dense<1.0> : tensor<96x4xf32>
  // CHECK: %[[B:.*]] = moe.weight.literal dense<2.000000e+00> : tensor<4x32xf32>
  %b = moe.weight.literal dense<2.0> : tensor<4x32xf32>
  // CHECK: %[[P:.*]] = moe.weight.low_rank %[[A]], %[[B]] : (tensor<96x4xf32>, tensor<4x32xf32>) -> tensor<96x32xf32>
  %product = moe.weight.low_rank %a, %b : (tensor<96x4xf32>, tensor<4x32xf32>) -> tensor<96x32xf32>
  // CHECK: %[[BYTES:.*]] = moe.weight.load
  %bytes = moe.weight.load "w.bin" at 0 : tensor<96x16xui8>
  // CHECK: %[[Q:.*]] = moe.weight.unpack %[[BYTES]] : tensor<96x16xui8> -> tensor<96x32xui4>
  %q = moe.weight.unpack %bytes : tensor<96x16xui8> -> tensor<96x32xui4>
  %scales = moe.weight.literal dense<1.0> : tensor<96x2xf16>
  %zero = moe.weight.literal dense<8> : tensor<1x1xui8>
  // CHECK: moe.weight.dequantize %[[Q]], %[[SCALES:.*]] zero_point %{{.*}} blocks [1, 16] : (tensor<96x32xui4>, tensor<96x2xf16>, tensor<1x1xui8>) -> tensor<96x32xf32>
  %dequantized = moe.weight.dequantize %q, %scales zero_point %zero blocks [1, 16]
      : (tensor<96x32xui4>, tensor<96x2xf16>, tensor<1x1xui8>) -> tensor<96x32xf32>
  // CHECK: moe.weight.dequantize %[[Q]], %[[SCALES]] blocks [1, 16] : (tensor<96x32xui4>, tensor<96x2xf16>) -> tensor<96x32xf32>
  %symmetric = moe.weight.dequantize %q, %scales blocks [1, 16]
      : (tensor<96x32xui4>, tensor<96x2xf16>) -> tensor<96x32xf32>
  // CHECK: moe.weight.bind @product %[[P]] : tensor<96x32xf32>
  moe.weight.bind @product %product : tensor<96x32xf32>
  // CHECK: moe.weight.bind @"a name/with marks" %[[A]]
  moe.weight.bind @"a name/with marks" %a : tensor<96x4xf32>
  moe.weight.bind @gate %cast : tensor<8x96x32xf32>
  %up = moe.weight.load "w.bin" at 0 : tensor<8x96x32xf32>
  moe.weight.bind @up %up : tensor<8x96x32xf32>
  %down = moe.weight.load "w.bin" at 98304 : tensor<8x32x96xf32>
  moe.weight.bind @down %down : tensor<8x32x96xf32>
  %bias = moe.weight.literal dense<0.5> : tensor<8x96xf32>
  moe.weight.bind @bias %bias : tensor<8x96xf32>
  %down_bias = moe.weight.literal dense<0.5> : tensor<8x32xf32>
  moe.weight.bind @down_bias %down_bias : tensor<8x32xf32>
  %constants = moe.weight.literal dense<0.5> : tensor<2x32xf16>
  moe.weight.bind @constants %constants : tensor<2x32xf16>
}

// CHECK: moe.bank @gated experts(8) hidden(32) inter(96)
// CHECK-SAME: body(#moe.ffn<gated = true, activation = "silu">) gate(@gate) up(@up) down(@down){{$}}
moe.bank @gated experts(8) hidden(32) inter(96)
    body(#moe.ffn<gated = true, activation = "silu">) gate(@gate) up(@up) down(@down)

// Numbers print in as few digits as they need; parameters at their default are left out.
// CHECK: moe.bank @full
// CHECK-SAME: body(#moe.ffn<gated = true, activation = "swish", alpha = 1.702, limit = 7.0, up_offset = 1.0>)
// CHECK-SAME: gate(@gate) up(@up) down(@down) gate_bias(@bias) up_bias(@bias) down_bias(@down_bias)
moe.bank @full experts(8) hidden(32) inter(96)
    body(#moe.ffn<up_offset = 1.0, gated = true, limit = 7.0, activation = "swish", alpha = 1.702>)
    gate(@gate) up(@up) down(@down) gate_bias(@bias) up_bias(@bias) down_bias(@down_bias)

// CHECK: moe.bank @mixed experts(4) hidden(32) inter(96)
// CHECK-SAME: slabs([7, -1, 0, -1]) storage(["dense", "zero", "dense", "identity"]) widths([96, 96, 48, 96])
moe.bank @mixed experts(4) hidden(32) inter(96)
    body(#moe.ffn<gated = false, activation = "relu2", alpha = 1.0>) up(@up) down(@down)
    slabs([7, -1, 0, -1]) storage(["dense", "zero", "dense", "identity"]) widths([96, 96, 48, 96])

// CHECK: moe.bank @constant experts(3)
// CHECK-SAME: slabs([-1, 4, -1]) storage(["constant", "dense", "constant"]) constants(@constants)
moe.bank @constant experts(3) hidden(32) inter(96)
    body(#moe.ffn<gated = false, activation = "relu">) up(@up) down(@down)
    slabs([-1, 4, -1]) storage(["constant", "dense", "constant"]) constants(@constants)

// CHECK: moe.bank @region experts(8) hidden(32) inter(0) parameters([@down_bias]) {
// CHECK-NEXT: ^bb0(%[[X:.*]]: tensor<?x32xf32>, %[[B:.*]]: tensor<32xf32>):
// CHECK-NEXT: %[[Y:.*]] = onnx.Add(%[[X]], %[[B]])
// CHECK-NEXT: moe.yield %[[Y]] : tensor<?x32xf32>
moe.bank @region experts(8) hidden(32) inter(0) parameters([@down_bias]) {
^bb0(%x: tensor<?x32xf32>, %b: tensor<32xf32>):
  %y = onnx.Add(%x, %b) : (tensor<?x32xf32>, tensor<32xf32>) -> tensor<?x32xf32>
  moe.yield %y : tensor<?x32xf32>
}

moe.bank @one experts(1) hidden(32) inter(0) {
^bb0(%x: tensor<?x32xf32>):
  moe.yield %x : tensor<?x32xf32>
}

// CHECK: moe.bank @kinds experts(3) hidden(0) inter(0) parameters({{\[}}[@bias], []]) kinds([1, 0, 1]) slabs([2, 0, -1])
// CHECK-SAME: storage(["dense", "dense", "zero"]) coupled {
moe.bank @kinds experts(3) hidden(0) inter(0) parameters([[@bias], []]) kinds([1, 0, 1]) slabs([2, 0, -1])
    storage(["dense", "dense", "zero"]) coupled {
^bb0(%x: tensor<?x4x96xf32>, %b: tensor<96xf32>, %c: tensor<?xf32>):
  %y = onnx.Add(%x, %b) : (tensor<?x4x96xf32>, tensor<96xf32>) -> tensor<?x4x96xf32>
  moe.yield %y : tensor<?x4x96xf32>
// CHECK: }, {
}, {
^bb0(%x: tensor<?x4x96xf32>, %c: tensor<?xf32>):
  moe.yield %x : tensor<?x4x96xf32>
}

// CHECK-LABEL: func.func @contexts
func.func @contexts(%x: tensor<?x4x96xf32>, %w: tensor<?x3xf32>, %c: tensor<5xf32>) {
  // CHECK: moe.experts @kinds(%{{.*}}, %{{.*}}, %{{.*}}) {contexts = ["whole"]}
  %0 = moe.experts @kinds(%x, %w, %c) {contexts = ["whole"]}
      : (tensor<?x4x96xf32>, tensor<?x3xf32>, tensor<5xf32>) -> tensor<?x4x96xf32>
  return
}

// CHECK-LABEL: func.func @use
func.func @use() -> tensor<96x32xf32> {
  // CHECK: moe.weight.use @product : tensor<96x32xf32>
  %0 = moe.weight.use @product : tensor<96x32xf32>
  // CHECK: moe.weight.use @"a name/with marks" : tensor<96x4xf32>
  %1 = moe.weight.use @"a name/with marks" : tensor<96x4xf32>
  return %0 : tensor<96x32xf32>
}

// CHECK-LABEL: func.func @select
func.func @select(%p: tensor<?x8xf32>, %q: tensor<?x8xf16>, %ids: tensor<?x3xi32>, %k: tensor<i64>) {
  // CHECK: %{{.*}}, %{{.*}} = moe.select %{{.*}} {k = 2 : i64} : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %0, %1 = moe.select %p {k = 2 : i64} : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  // CHECK: moe.select %{{.*}}, %{{.*}} {group_k = 2 : i64, group_score = "top2", groups = 4 : i64, k = 3 : i64, kind = "grouped_top_k"}
  %2, %3 = moe.select %p, %q
      {k = 3 : i64, kind = "grouped_top_k", groups = 4 : i64, group_k = 2 : i64, group_score = "top2"}
      : (tensor<?x8xf32>, tensor<?x8xf16>) -> (tensor<?x3xi32>, tensor<?x3xf16>)
  // CHECK: moe.select %{{.*}} {k = 4 : i64, kind = "top_p", p = 9.000000e-01 : f64}
  %4, %5 = moe.select %p {k = 4 : i64, kind = "top_p", p = 0.9 : f64}
      : (tensor<?x8xf32>) -> (tensor<?x4xi32>, tensor<?x4xf32>)
  // CHECK: moe.select %{{.*}} {at_least = 1 : i64, k = 4 : i64, kind = "threshold", threshold = 1.000000e-01 : f64}
  %6, %7 = moe.select %p {k = 4 : i64, kind = "threshold", threshold = 0.1 : f64, at_least = 1 : i64}
      : (tensor<?x8xf32>) -> (tensor<?x4xi32>, tensor<?x4xf32>)
  // CHECK: moe.select %{{.*}} {kind = "all"}
  %8, %9 = moe.select %p {kind = "all"} : (tensor<?x8xf32>) -> (tensor<?x8xi32>, tensor<?x8xf32>)
  // CHECK: moe.select %{{.*}}, %{{.*}} {kind = "external"}
  %10, %11 = moe.select %p, %ids {kind = "external"}
      : (tensor<?x8xf32>, tensor<?x3xi32>) -> (tensor<?x3xi32>, tensor<?x3xf32>)
  // CHECK: moe.select %{{.*}}, %{{.*}}, %{{.*}} {k = 8 : i64}
  %12, %13 = moe.select %p, %p, %k {k = 8 : i64}
      : (tensor<?x8xf32>, tensor<?x8xf32>, tensor<i64>) -> (tensor<?x8xi32>, tensor<?x8xf32>)
  return
}

// CHECK-LABEL: func.func @route
func.func @route(%z: tensor<?x8xf16>, %bias: tensor<8xf32>) {
  // CHECK: moe.route(%{{.*}}) router<score = softmax, k = 2, renorm = sum> : (tensor<?x8xf16>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  %0, %1 = moe.route(%z) router<score = softmax, k = 2, renorm = sum>
      : (tensor<?x8xf16>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  // CHECK: moe.route(%{{.*}}, %{{.*}}) router<score = sigmoid, k = 3, groups = 4, group_k = 2, group_score = top2, renorm = sum, epsilon = 1.0e-20, scale = 2.5>
  %2, %3 = moe.route(%z, %bias) router<score = sigmoid, k = 3, groups = 4, group_k = 2,
      group_score = top2, renorm = sum, epsilon = 1.0e-20, scale = 2.5>
      : (tensor<?x8xf16>, tensor<8xf32>) -> (tensor<?x3xi32>, tensor<?x3xf16>)
  // CHECK: moe.route(%{{.*}}) router<score = identity, k = 8, renorm = softmax>
  %4, %5 = moe.route(%z) router<score = identity, k = 8, renorm = softmax>
      : (tensor<?x8xf16>) -> (tensor<?x8xi32>, tensor<?x8xf16>)
  // CHECK: moe.route(%{{.*}}) router<score = identity, k = 1, renorm = sigmoid>
  %6, %7 = moe.route(%z) router<score = identity, k = 1, group_score = max, renorm = sigmoid, minimum = 0.0>
      : (tensor<?x8xf16>) -> (tensor<?x1xi32>, tensor<?x1xf16>)
  return
}

// CHECK-LABEL: func.func @experts
func.func @experts(%x: tensor<?x32xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>, %d: tensor<?x8xf32>) {
  // CHECK: moe.experts @gated(%{{.*}}, %{{.*}}, %{{.*}}) : (tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x32xf32>
  %0 = moe.experts @gated(%x, %i, %w)
      : (tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x32xf32>
  // CHECK: moe.experts @gated(%{{.*}}, %{{.*}}, %{{.*}}) {combine = "none"}
  %1 = moe.experts @gated(%x, %i, %w) {combine = "none"}
      : (tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x2x32xf32>
  // CHECK: moe.experts @gated(%{{.*}}, %{{.*}}) : (tensor<?x32xf32>, tensor<?x8xf32>)
  %2 = moe.experts @gated(%x, %d) : (tensor<?x32xf32>, tensor<?x8xf32>) -> tensor<?x32xf32>
  // CHECK: moe.experts @one(%{{.*}}) : (tensor<?x32xf32>) -> tensor<?x32xf32>
  %3 = moe.experts @one(%x) : (tensor<?x32xf32>) -> tensor<?x32xf32>
  // CHECK: moe.merge_weights @gated(%{{.*}}, %{{.*}}) : (tensor<?x32xf32>, tensor<?x8xf32>) -> tensor<?x32xf32>
  %4 = moe.merge_weights @gated(%x, %d) : (tensor<?x32xf32>, tensor<?x8xf32>) -> tensor<?x32xf32>
  return
}

// CHECK-LABEL: func.func @other_designs
func.func @other_designs(%x: tensor<?x32xf32>, %p: tensor<?x8xf32>, %z: tensor<?x16xf32>) -> tensor<?x32xf32> {
  // CHECK: moe.choose %{{.*}} {capacity = 4 : i64} : (tensor<?x8xf32>) -> (tensor<8x4xi32>, tensor<8x4xf32>)
  %0, %1 = moe.choose %p {capacity = 4 : i64} : (tensor<?x8xf32>) -> (tensor<8x4xi32>, tensor<8x4xf32>)
  // CHECK: moe.soft_dispatch %{{.*}}, %{{.*}} : (tensor<?x32xf32>, tensor<?x16xf32>) -> tensor<16x32xf32>
  %2 = moe.soft_dispatch %x, %z : (tensor<?x32xf32>, tensor<?x16xf32>) -> tensor<16x32xf32>
  // CHECK: moe.soft_combine %{{.*}}, %{{.*}} : (tensor<16x32xf32>, tensor<?x16xf32>) -> tensor<?x32xf32>
  %3 = moe.soft_combine %2, %z : (tensor<16x32xf32>, tensor<?x16xf32>) -> tensor<?x32xf32>
  return %3 : tensor<?x32xf32>
}

// CHECK-LABEL: func.func @exchange
func.func @exchange(%x: tensor<?x32xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>) -> tensor<?x32xf32> {
  // CHECK: moe.dispatch %{{.*}}, %{{.*}}, %{{.*}} {devices = 2 : i64, placement = array<i64: 0, 0, 0, 0, 1, 1, 1, 1>}
  %r, %ri, %rw, %from = moe.dispatch %x, %i, %w
      {devices = 2 : i64, placement = array<i64: 0, 0, 0, 0, 1, 1, 1, 1>}
      : (tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x2xf32>)
      -> (tensor<?x32xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<?x2xi32>)
  %y = moe.experts @gated(%r, %ri, %rw)
      : (tensor<?x32xf32>, tensor<?x1xi32>, tensor<?x1xf32>) -> tensor<?x32xf32>
  // CHECK: moe.combine %{{.*}}, %{{.*}}, %{{.*}} {devices = 2 : i64}
  %0 = moe.combine %y, %from, %x {devices = 2 : i64}
      : (tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x32xf32>) -> tensor<?x32xf32>
  // CHECK: moe.probe "routing"(%{{.*}}, %{{.*}}) {experts = 8 : i64, layer = "layer0"} : tensor<?x2xi32>, tensor<?x2xf32>
  moe.probe "routing"(%i, %w) {experts = 8 : i64, layer = "layer0"} : tensor<?x2xi32>, tensor<?x2xf32>
  return %0 : tensor<?x32xf32>
}

// CHECK-LABEL: func.func @hooks
func.func @hooks(%z: tensor<?x8xf16>, %b: tensor<8xf32>) -> (tensor<?x8xf16>, tensor<8xf32>) {
  // CHECK: moe.logit_hook %{{.*}} {k = 2 : i64, layer = "layer0"} : tensor<?x8xf16>
  %0 = moe.logit_hook %z {k = 2 : i64, layer = "layer0"} : tensor<?x8xf16>
  // CHECK: moe.logit_hook %{{.*}} {k = 2 : i64, layer = "layer0", mask_only} : tensor<8xf32>
  %1 = moe.logit_hook %b {k = 2 : i64, layer = "layer0", mask_only} : tensor<8xf32>
  return %0, %1 : tensor<?x8xf16>, tensor<8xf32>
}
