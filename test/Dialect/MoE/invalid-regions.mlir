// RUN: moe-opt %s --split-input-file --verify-diagnostics

// Banks of several regions, and what their uses pass to them.

// expected-error @+1 {{has 2 regions; 'kinds' stands with several}}
moe.bank @b experts(2) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}, {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}

// -----

// expected-error @+1 {{has kinds for 1 of 2 experts}}
moe.bank @b experts(2) hidden(8) inter(0) kinds([0]) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}, {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}

// -----

// expected-error @+1 {{gives expert 1 region 2 of 2}}
moe.bank @b experts(2) hidden(8) inter(0) kinds([0, 2]) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}, {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}

// -----

// expected-error @+1 {{lists 'parameters' that are not the names of each region's binds, a list for each of 2}}
moe.bank @b experts(2) hidden(8) inter(0) parameters([@w]) kinds([0, 1]) {
^bb0(%x: tensor<?x8xf32>, %w: tensor<8xf32>):
  moe.yield %x : tensor<?x8xf32>
}, {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}

// -----

// expected-error @+1 {{lists 'parameters' that are not the names of binds}}
moe.bank @b experts(2) hidden(8) inter(0) parameters([[@w]]) {
^bb0(%x: tensor<?x8xf32>, %w: tensor<8xf32>):
  moe.yield %x : tensor<?x8xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<2x8xf32>
  moe.weight.bind @w %0 : tensor<2x8xf32>
}
// Only expert 1 is of the region that reads @w.
// expected-error @+1 {{needs parameters for 1 experts, but @w holds 2}}
moe.bank @b experts(2) hidden(8) inter(0) parameters([[], [@w]]) kinds([0, 1]) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}, {
^bb0(%x: tensor<?x8xf32>, %w: tensor<8xf32>):
  moe.yield %x : tensor<?x8xf32>
}

// -----

// expected-error @+1 {{needs a region over tokens [N, ...] and one slab for each of its parameters}}
moe.bank @b experts(2) hidden(0) inter(0) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}

// -----

// expected-error @+1 {{needs a region that yields results [N, ...]}}
moe.bank @b experts(2) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>, %c: tensor<f32>):
  moe.yield %c : tensor<f32>
}

// -----

// expected-error @+1 {{has regions that differ in the types of tokens, contexts or results}}
moe.bank @b experts(2) hidden(8) inter(0) kinds([0, 1]) {
^bb0(%x: tensor<?x8xf32>):
  moe.yield %x : tensor<?x8xf32>
}, {
^bb0(%x: tensor<?x8xf32>, %c: tensor<?x4xf32>):
  moe.yield %c : tensor<?x4xf32>
}

// -----

moe.bank @b experts(2) hidden(0) inter(0) {
^bb0(%x: tensor<?x3x?x?xf32>):
  moe.yield %x : tensor<?x3x?x?xf32>
}
func.func @tokens(%x: tensor<?x4x8x8xf32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{has tokens 'tensor<?x4x8x8xf32>', but the experts of @b take [?, 3, ?, ?] of another type}}
  %0 = moe.experts @b(%x, %w) : (tensor<?x4x8x8xf32>, tensor<?x2xf32>) -> tensor<?x4x8x8xf32>
  return
}

// -----

func.func @contexts(%x: tensor<?x8xf32>, %w: tensor<?x2xf32>, %c: tensor<?x4xf32>) {
  // expected-error @+1 {{has a context "each"; it is rows or whole}}
  %0 = moe.experts @b(%x, %w, %c) {contexts = ["each"]}
      : (tensor<?x8xf32>, tensor<?x2xf32>, tensor<?x4xf32>) -> tensor<?x8xf32>
  return
}

// -----

moe.bank @b experts(2) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>, %c: tensor<?x4xf32>):
  moe.yield %x : tensor<?x8xf32>
}
func.func @missing(%x: tensor<?x8xf32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{gives 0 contexts, but the experts of @b read 1}}
  %0 = moe.experts @b(%x, %w) : (tensor<?x8xf32>, tensor<?x2xf32>) -> tensor<?x8xf32>
  return
}

// -----

moe.bank @b experts(2) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>, %c: tensor<?x4xf32>):
  moe.yield %x : tensor<?x8xf32>
}
func.func @other(%x: tensor<?x8xf32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{gives context 0 of type 'tensor<?x8xf32>', but the experts of @b read 'tensor<?x4xf32>'}}
  %0 = moe.experts @b(%x, %w, %x) {contexts = ["whole"]}
      : (tensor<?x8xf32>, tensor<?x2xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  return
}

// -----

moe.bank @b experts(2) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>, %c: tensor<?x4xf32>):
  moe.yield %x : tensor<?x8xf32>
}
func.func @rows(%x: tensor<6x8xf32>, %w: tensor<6x2xf32>, %c: tensor<5x4xf32>) {
  // expected-error @+1 {{has 6 tokens, but context 0 is 'tensor<5x4xf32>'}}
  %0 = moe.experts @b(%x, %w, %c) {contexts = ["rows"]}
      : (tensor<6x8xf32>, tensor<6x2xf32>, tensor<5x4xf32>) -> tensor<6x8xf32>
  return
}

// -----

moe.bank @b experts(2) hidden(8) inter(0) {
^bb0(%x: tensor<?x8xf32>, %c: tensor<?x4xf32>):
  moe.yield %x : tensor<?x8xf32>
}
func.func @merge(%x: tensor<?x8xf32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{merges parameters, and the experts of @b have several regions or read contexts}}
  %0 = moe.merge_weights @b(%x, %w) : (tensor<?x8xf32>, tensor<?x2xf32>) -> tensor<?x8xf32>
  return
}
