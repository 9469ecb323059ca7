// RUN: moe-opt %s --split-input-file --verify-diagnostics

// expected-error @+1 {{needs at least one expert and a hidden size of at least 1}}
moe.bank @b experts(0) hidden(8) inter(16) body(#moe.ffn<gated = false, activation = "relu">)

// -----

// expected-error @+1 {{needs either a body or a region}}
moe.bank @b experts(4) hidden(8) inter(16)

// -----

// expected-error @+1 {{has inter = 0; it is at least 1 with a body and 0 with a region}}
moe.bank @b experts(4) hidden(8) inter(0) body(#moe.ffn<gated = false, activation = "relu">)

// -----

// expected-error @+1 {{needs the parameter 'gate'}}
moe.bank @b experts(4) hidden(8) inter(16) body(#moe.ffn<gated = true, activation = "silu">)
    up(@up) down(@down)

// -----

// expected-error @+1 {{has the parameter 'gate_bias', which its formula does not use}}
moe.bank @b experts(4) hidden(8) inter(16) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@down) gate_bias(@bias)

// -----

// expected-error @+1 {{has 'parameters' or 'coupled', which stand with a region only}}
moe.bank @b experts(4) hidden(8) inter(16) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@down) parameters([@bias])

// -----

// expected-error @+1 {{has storage for 2 of 4 experts}}
moe.bank @b experts(4) hidden(8) inter(16) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@down) storage(["dense", "dense"])

// -----

// expected-error @+1 {{has unsupported storage "low_rank"; it is dense, zero, identity or constant}}
moe.bank @b experts(1) hidden(8) inter(16) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@down) storage(["low_rank"])

// -----

// expected-error @+1 {{has slabs for 3 of 4 experts}}
moe.bank @b experts(4) hidden(8) inter(16) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@down) slabs([0, 1, 2])

// -----

// expected-error @+1 {{gives expert 1 slab -1; a dense expert needs a row of the parameters, any other -1}}
moe.bank @b experts(2) hidden(8) inter(16) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@down) slabs([0, -1])

// -----

// expected-error @+1 {{needs slabs, as expert 1 has no parameters}}
moe.bank @b experts(2) hidden(8) inter(16) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@down) storage(["dense", "zero"])

// -----

// expected-error @+1 {{has widths for 1 of 2 experts}}
moe.bank @b experts(2) hidden(8) inter(16) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@down) widths([16])

// -----

// expected-error @+1 {{gives expert 0 width 17, which is not in 1..16}}
moe.bank @b experts(2) hidden(8) inter(16) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@down) widths([17, 16])

// -----

// expected-error @+1 {{reads the weight @up, which nothing binds}}
moe.bank @b experts(2) hidden(8) inter(16) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@down)

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<3x16x8xf32>
  moe.weight.bind @up %0 : tensor<3x16x8xf32>
}
// expected-error @+1 {{needs parameters for 2 experts, but @up holds 3}}
moe.bank @b experts(2) hidden(8) inter(16) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@up)

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<3x16x8xf32>
  moe.weight.bind @up %0 : tensor<3x16x8xf32>
}
// The largest slab is row 3.
// expected-error @+1 {{needs parameters for 4 experts, but @up holds 3}}
moe.bank @b experts(2) hidden(8) inter(16) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@up) slabs([0, 3])

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<2x16x8xf32>
  moe.weight.bind @up %0 : tensor<2x16x8xf32>
}
// expected-error @+1 {{needs floats of shape [8, 16] in 'down' for each expert, but @up is 'tensor<2x16x8xf32>'}}
moe.bank @b experts(2) hidden(8) inter(16) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@up)

// -----

// expected-error @+1 {{needs a region over tokens [N, 8] and one slab for each of its parameters}}
moe.bank @b experts(2) hidden(8) inter(0) {
^bb0(%x: tensor<?x4xf32>):
  moe.yield %x : tensor<?x4xf32>
}

// -----

// expected-error @+1 {{needs a region that yields its tokens' type, 'tensor<?x8xf32>', as expert 1 is zero}}
moe.bank @b experts(2) hidden(8) inter(0) slabs([0, -1]) storage(["dense", "zero"]) {
^bb0(%x: tensor<?x8xf32>):
  %y = onnx.Cast(%x) {to = 10 : i64} : (tensor<?x8xf32>) -> tensor<?x8xf16>
  moe.yield %y : tensor<?x8xf16>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<2x16xf32>
  moe.weight.bind @w %0 : tensor<2x16xf32>
}
// expected-error @+1 {{passes a slab of @w of type 'tensor<16xf32>' to an argument of type 'tensor<8xf32>'}}
moe.bank @b experts(2) hidden(8) inter(0) parameters([@w]) {
^bb0(%x: tensor<?x8xf32>, %w: tensor<8xf32>):
  %y = onnx.Add(%x, %w) : (tensor<?x8xf32>, tensor<8xf32>) -> tensor<?x8xf32>
  moe.yield %y : tensor<?x8xf32>
}

// -----

func.func @no_bank(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{names the bank @b, which does not exist}}
  %0 = moe.experts @b(%x) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  return
}

// -----

moe.bank @b experts(2) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}
func.func @hidden(%x: tensor<?x4xf32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{has tokens of size 4, but the experts of @b take 8}}
  %0 = moe.experts @b(%x, %w) : (tensor<?x4xf32>, tensor<?x2xf32>) -> tensor<?x4xf32>
  return
}

// -----

moe.bank @b experts(2) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}
func.func @plain(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{needs weights, as @b has 2 experts}}
  %0 = moe.experts @b(%x) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  return
}

// -----

moe.bank @b experts(2) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}
func.func @dense(%x: tensor<?x8xf32>, %w: tensor<?x3xf32>) {
  // expected-error @+1 {{has dense weights for 3 experts, but @b has 2}}
  %0 = moe.experts @b(%x, %w) : (tensor<?x8xf32>, tensor<?x3xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @ids_only(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>) {
  // expected-error @+1 {{takes tokens, then ids and weights, dense weights, or nothing, then contexts}}
  %0 = moe.experts @b(%x, %i) : (tensor<?x8xf32>, tensor<?x2xi32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @rows(%x: tensor<3x8xf32>, %i: tensor<4x2xi32>, %w: tensor<3x2xf32>) {
  // expected-error @+1 {{has 3 tokens but 4 rows of ids or weights}}
  %0 = moe.experts @b(%x, %i, %w) : (tensor<3x8xf32>, tensor<4x2xi32>, tensor<3x2xf32>) -> tensor<3x8xf32>
  return
}

// -----

func.func @slots(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>, %w: tensor<?x3xf32>) {
  // expected-error @+1 {{has 2 ids but 3 weights for each token}}
  %0 = moe.experts @b(%x, %i, %w) : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x3xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @combine(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{has combine = "mean"; it is sum or none}}
  %0 = moe.experts @b(%x, %i, %w) {combine = "mean"}
      : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x8xf32>
  return
}

// -----

moe.bank @b experts(2) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}
func.func @result(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{makes [?, 2, 8] of 'f32', not 'tensor<?x8xf32>'}}
  %0 = moe.experts @b(%x, %i, %w) {combine = "none"}
      : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x8xf32>
  return
}

// -----

func.func @groups(%x: tensor<6x8xf32>, %w: tensor<4x2xf32>) {
  // expected-error @+1 {{cannot divide 6 tokens into 4 equal groups}}
  %0 = moe.merge_weights @b(%x, %w) : (tensor<6x8xf32>, tensor<4x2xf32>) -> tensor<6x8xf32>
  return
}

// -----

moe.bank @b experts(2) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}
func.func @merge_result(%x: tensor<6x8xf32>, %w: tensor<1x2xf32>) {
  // expected-error @+1 {{makes 'tensor<6x8xf32>' of its tokens, not 'tensor<6x8xf16>'}}
  %0 = moe.merge_weights @b(%x, %w) : (tensor<6x8xf32>, tensor<1x2xf32>) -> tensor<6x8xf16>
  return
}

// -----

moe.bank @b experts(2) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}
func.func @merge_columns(%x: tensor<6x8xf32>, %w: tensor<1x3xf32>) {
  // expected-error @+1 {{has weights for 3 experts, but @b has 2}}
  %0 = moe.merge_weights @b(%x, %w) : (tensor<6x8xf32>, tensor<1x3xf32>) -> tensor<6x8xf32>
  return
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<2x8x8xf32>
  moe.weight.bind @w %0 : tensor<2x8x8xf32>
}
moe.bank @b experts(2) hidden(8) inter(8) body(#moe.ffn<gated = false, activation = "relu">)
    up(@w) down(@w) slabs([0, -1]) storage(["dense", "zero"])
func.func @merge_none(%x: tensor<6x8xf32>, %w: tensor<1x2xf32>) {
  // expected-error @+1 {{merges parameters, and expert 1 of @b has none}}
  %0 = moe.merge_weights @b(%x, %w) : (tensor<6x8xf32>, tensor<1x2xf32>) -> tensor<6x8xf32>
  return
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<2x8x8xf32>
  moe.weight.bind @w %0 : tensor<2x8x8xf32>
}
moe.bank @b experts(2) hidden(8) inter(8) body(#moe.ffn<gated = false, activation = "relu">)
    up(@w) down(@w) widths([8, 4])
func.func @merge_widths(%x: tensor<6x8xf32>, %w: tensor<1x2xf32>) {
  // expected-error @+1 {{merges parameters, and the experts of @b differ in width}}
  %0 = moe.merge_weights @b(%x, %w) : (tensor<6x8xf32>, tensor<1x2xf32>) -> tensor<6x8xf32>
  return
}

// -----

// expected-error @+1 {{has 1 constant experts; 'constants' stands with these}}
moe.bank @b experts(2) hidden(8) inter(16) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@down) slabs([0, -1]) storage(["dense", "constant"])

// -----

// expected-error @+1 {{has 0 constant experts; 'constants' stands with these}}
moe.bank @b experts(2) hidden(8) inter(16) body(#moe.ffn<gated = false, activation = "relu">)
    up(@up) down(@down) constants(@c)

// -----

// expected-error @+1 {{reads the weight @c, which nothing binds}}
moe.bank @b experts(2) hidden(8) inter(0) slabs([0, -1]) storage(["dense", "constant"])
    constants(@c) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<2x8xf32>
  moe.weight.bind @c %0 : tensor<2x8xf32>
}
// expected-error @+1 {{needs floats of static shape [1, 8] in 'constants', but @c is 'tensor<2x8xf32>'}}
moe.bank @b experts(2) hidden(8) inter(0) slabs([0, -1]) storage(["dense", "constant"])
    constants(@c) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}
