// RUN: moe-opt %s --split-input-file --verify-diagnostics

func.func @kind(%p: tensor<?x8xf32>) {
  // expected-error @+1 {{has kind = "best"; it is top_k, grouped_top_k, top_p, threshold, all or external}}
  %0, %1 = moe.select %p {k = 2 : i64, kind = "best"} : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  return
}

// -----

func.func @foreign(%p: tensor<?x8xf32>) {
  // expected-error @+1 {{has 'groups', which belongs to kind = "grouped_top_k"}}
  %0, %1 = moe.select %p {k = 2 : i64, groups = 2 : i64} : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  return
}

// -----

func.func @missing(%p: tensor<?x8xf32>) {
  // expected-error @+1 {{needs 'p' for kind = "top_p"}}
  %0, %1 = moe.select %p {k = 2 : i64, kind = "top_p"} : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  return
}

// -----

func.func @needs_k(%p: tensor<?x8xf32>) {
  // expected-error @+1 {{needs 'k' for kind = "top_k"}}
  %0, %1 = moe.select %p : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  return
}

// -----

func.func @takes_no_k(%p: tensor<?x8xf32>) {
  // expected-error @+1 {{takes no 'k' for kind = "all"}}
  %0, %1 = moe.select %p {k = 8 : i64, kind = "all"} : (tensor<?x8xf32>) -> (tensor<?x8xi32>, tensor<?x8xf32>)
  return
}

// -----

func.func @operand_order(%p: tensor<?x8xf32>, %k: tensor<i64>) {
  // expected-error @+1 {{takes weight scores, ids and a count after its scores, in this order; operand 2 is 'tensor<?x8xf32>'}}
  %0, %1 = moe.select %p, %k, %p {k = 2 : i64}
      : (tensor<?x8xf32>, tensor<i64>, tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  return
}

// -----

func.func @ids(%p: tensor<?x8xf32>, %i: tensor<?x2xi32>) {
  // expected-error @+1 {{takes ids for kind = "external", and only there}}
  %0, %1 = moe.select %p, %i {k = 2 : i64} : (tensor<?x8xf32>, tensor<?x2xi32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  return
}

// -----

func.func @count(%p: tensor<?x8xf32>, %k: tensor<1xi64>) {
  // expected-error @+1 {{takes a count only for kinds with 'k'}}
  %0, %1 = moe.select %p, %k {kind = "all"} : (tensor<?x8xf32>, tensor<1xi64>) -> (tensor<?x8xi32>, tensor<?x8xf32>)
  return
}

// -----

func.func @weight_scores(%p: tensor<?x8xf32>, %q: tensor<?x4xf32>) {
  // expected-error @+1 {{has scores 'tensor<?x8xf32>' but weight scores 'tensor<?x4xf32>'}}
  %0, %1 = moe.select %p, %q {k = 2 : i64} : (tensor<?x8xf32>, tensor<?x4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  return
}

// -----

func.func @id_rows(%p: tensor<3x8xf32>, %i: tensor<4x2xi32>) {
  // expected-error @+1 {{has 3 rows of scores but 4 rows of ids}}
  %0, %1 = moe.select %p, %i {kind = "external"} : (tensor<3x8xf32>, tensor<4x2xi32>) -> (tensor<4x2xi32>, tensor<4x2xf32>)
  return
}

// -----

func.func @group_k(%p: tensor<?x8xf32>) {
  // expected-error @+1 {{has group_k = 3, which is not in 1..2}}
  %0, %1 = moe.select %p {k = 2 : i64, kind = "grouped_top_k", groups = 2 : i64, group_k = 3 : i64}
      : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  return
}

// -----

func.func @group_score(%p: tensor<?x8xf32>) {
  // expected-error @+1 {{has group_score = "mean"; it is max or top2}}
  %0, %1 = moe.select %p
      {k = 2 : i64, kind = "grouped_top_k", groups = 2 : i64, group_k = 1 : i64, group_score = "mean"}
      : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  return
}

// -----

func.func @p(%p: tensor<?x8xf32>) {
  // expected-error @+1 {{needs p above 0 and at most 1}}
  %0, %1 = moe.select %p {k = 2 : i64, kind = "top_p", p = 0.0 : f64} : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  return
}

// -----

func.func @threshold(%p: tensor<?x8xf32>) {
  // expected-error @+1 {{needs a threshold that is a number}}
  %0, %1 = moe.select %p {k = 2 : i64, kind = "threshold", threshold = 0x7FF8000000000000 : f64}
      : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  return
}

// -----

func.func @at_least(%p: tensor<?x8xf32>) {
  // expected-error @+1 {{has at_least = 3, which is not in 0..2}}
  %0, %1 = moe.select %p {k = 2 : i64, kind = "threshold", threshold = 0.5 : f64, at_least = 3 : i64}
      : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  return
}

// -----

func.func @no_slots(%p: tensor<?x8xf32>) {
  // expected-error @+1 {{needs k of at least 1, not 0}}
  %0, %1 = moe.select %p {k = 0 : i64} : (tensor<?x8xf32>) -> (tensor<?x0xi32>, tensor<?x0xf32>)
  return
}

// -----

func.func @too_many(%p: tensor<?x8xf32>) {
  // expected-error @+1 {{k = 9 exceeds 8 experts}}
  %0, %1 = moe.select %p {k = 9 : i64} : (tensor<?x8xf32>) -> (tensor<?x9xi32>, tensor<?x9xf32>)
  return
}

// -----

func.func @select_result(%p: tensor<?x8xf32>) {
  // expected-error @+1 {{makes ids and weights of shape [?, 2] and weights of 'f32', not 'tensor<?x2xi32>' and 'tensor<?x2xf16>'}}
  %0, %1 = moe.select %p {k = 2 : i64} : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf16>)
  return
}

// -----

func.func @ids_type(%p: tensor<?x8xf32>) {
  // expected-error @+1 {{result #0 must be 2D tensor of 32-bit signless integer values, but got 'tensor<?x2xi64>'}}
  %0, %1 = moe.select %p {k = 2 : i64} : (tensor<?x8xf32>) -> (tensor<?x2xi64>, tensor<?x2xf32>)
  return
}

// -----

func.func @route_k(%z: tensor<?x8xf32>) {
  // expected-error @+1 {{k = 9 exceeds 8 experts}}
  %0, %1 = moe.route(%z) router<score = softmax, k = 9> : (tensor<?x8xf32>) -> (tensor<?x9xi32>, tensor<?x9xf32>)
  return
}

// -----

func.func @route_groups(%z: tensor<?x8xf32>) {
  // expected-error @+1 {{cannot divide 8 experts into 3 equal groups}}
  %0, %1 = moe.route(%z) router<score = softmax, k = 2, groups = 3, group_k = 2>
      : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  return
}

// -----

func.func @route_group_size(%z: tensor<?x8xf32>) {
  // expected-error @+1 {{k = 5 exceeds the 4 experts of 2 groups}}
  %0, %1 = moe.route(%z) router<score = softmax, k = 5, groups = 4, group_k = 2>
      : (tensor<?x8xf32>) -> (tensor<?x5xi32>, tensor<?x5xf32>)
  return
}

// -----

func.func @route_bias(%z: tensor<?x8xf32>, %b: tensor<4xf32>) {
  // expected-error @+1 {{has a bias for 4 experts, but logits for 8}}
  %0, %1 = moe.route(%z, %b) router<score = softmax, k = 2>
      : (tensor<?x8xf32>, tensor<4xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  return
}

// -----

func.func @route_attribute(%z: tensor<?x8xf32>) {
  // expected-error @+1 {{attribute 'router' failed to satisfy constraint: the formula of a router}}
  %0, %1 = "moe.route"(%z) {router = 1 : i64} : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
  return
}

// -----

func.func @capacity(%p: tensor<?x8xf32>) {
  // expected-error @+1 {{needs a capacity of at least 1, not 0}}
  %0, %1 = moe.choose %p {capacity = 0 : i64} : (tensor<?x8xf32>) -> (tensor<8x0xi32>, tensor<8x0xf32>)
  return
}

// -----

func.func @choose_result(%p: tensor<?x8xf32>) {
  // expected-error @+1 {{makes ids and weights of shape [8, 4] and weights of 'f32'}}
  %0, %1 = moe.choose %p {capacity = 4 : i64} : (tensor<?x8xf32>) -> (tensor<4x8xi32>, tensor<4x8xf32>)
  return
}

// -----

func.func @soft_dispatch(%x: tensor<3x4xf32>, %z: tensor<2x16xf32>) {
  // expected-error @+1 {{has 3 tokens but logits for 2}}
  %0 = moe.soft_dispatch %x, %z : (tensor<3x4xf32>, tensor<2x16xf32>) -> tensor<16x4xf32>
  return
}

// -----

func.func @soft_dispatch_result(%x: tensor<3x4xf32>, %z: tensor<3x16xf32>) {
  // expected-error @+1 {{makes [16, 4] of 'f32', not 'tensor<4x16xf32>'}}
  %0 = moe.soft_dispatch %x, %z : (tensor<3x4xf32>, tensor<3x16xf32>) -> tensor<4x16xf32>
  return
}

// -----

func.func @soft_combine(%s: tensor<8x4xf32>, %z: tensor<3x16xf32>) {
  // expected-error @+1 {{has 8 slots but logits for 16}}
  %0 = moe.soft_combine %s, %z : (tensor<8x4xf32>, tensor<3x16xf32>) -> tensor<3x4xf32>
  return
}

// -----

func.func @devices(%x: tensor<?x4xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{needs at least one device, not 0}}
  %r, %ri, %rw, %o = moe.dispatch %x, %i, %w {devices = 0 : i64, placement = array<i64: 0>}
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>)
      -> (tensor<?x4xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<?x2xi32>)
  return
}

// -----

func.func @no_placement(%x: tensor<?x4xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{needs a device for each expert}}
  %r, %ri, %rw, %o = moe.dispatch %x, %i, %w {devices = 2 : i64, placement = array<i64>}
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>)
      -> (tensor<?x4xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<?x2xi32>)
  return
}

// -----

func.func @placement(%x: tensor<?x4xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{places expert 1 on device 2 of 2}}
  %r, %ri, %rw, %o = moe.dispatch %x, %i, %w {devices = 2 : i64, placement = array<i64: 0, 2>}
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>)
      -> (tensor<?x4xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<?x2xi32>)
  return
}

// -----

func.func @slots(%x: tensor<?x4xf32>, %i: tensor<?x2xi32>, %w: tensor<?x3xf32>) {
  // expected-error @+1 {{needs ids and weights for the slots of its tokens, not 'tensor<?x2xi32>' and 'tensor<?x3xf32>' for 'tensor<?x4xf32>'}}
  %r, %ri, %rw, %o = moe.dispatch %x, %i, %w {devices = 2 : i64, placement = array<i64: 0, 1>}
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x3xf32>)
      -> (tensor<?x4xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<?x2xi32>)
  return
}

// -----

func.func @dispatch_results(%x: tensor<?x4xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{makes rows [R, 4], ids [R, 1], weights [R, 1] and origins [R, 2]}}
  %r, %ri, %rw, %o = moe.dispatch %x, %i, %w {devices = 2 : i64, placement = array<i64: 0, 1>}
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x2xf32>)
      -> (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x1xf32>, tensor<?x2xi32>)
  return
}

// -----

func.func @combine_devices(%r: tensor<?x4xf32>, %o: tensor<?x2xi32>, %x: tensor<?x4xf32>) {
  // expected-error @+1 {{needs at least one device, not -1}}
  %0 = moe.combine %r, %o, %x {devices = -1 : i64}
      : (tensor<?x4xf32>, tensor<?x2xi32>, tensor<?x4xf32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @origin(%r: tensor<?x4xf32>, %o: tensor<?x1xi32>, %x: tensor<?x4xf32>) {
  // expected-error @+1 {{needs an origin [R, 2] for each of its rows, not 'tensor<?x1xi32>'}}
  %0 = moe.combine %r, %o, %x {devices = 2 : i64}
      : (tensor<?x4xf32>, tensor<?x1xi32>, tensor<?x4xf32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @row_size(%r: tensor<?x8xf32>, %o: tensor<?x2xi32>, %x: tensor<?x4xf32>) {
  // expected-error @+1 {{has rows of size 8 for tokens of size 4}}
  %0 = moe.combine %r, %o, %x {devices = 2 : i64}
      : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x4xf32>) -> tensor<?x4xf32>
  return
}

// -----

func.func @probe_experts(%i: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{needs at least one expert, not 0}}
  moe.probe "routing"(%i, %w) {experts = 0 : i64, layer = "layer0"} : tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @probe_layer(%i: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{needs the name of its layer}}
  moe.probe "routing"(%i, %w) {experts = 8 : i64, layer = ""} : tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @probe_kind(%i: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{has no kind "gates": routing, experts or all}}
  moe.probe "gates"(%i, %w) {experts = 8 : i64, layer = "layer0"} : tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @probe_operands(%i: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{of kind "experts" has 6 operands or one more, not 2}}
  moe.probe "experts"(%i, %w) {experts = 8 : i64, layer = "layer0"} : tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @probe_all_operands(%x: tensor<?x4xf32>) {
  // expected-error @+1 {{of kind "all" has 2 operands, not 1}}
  moe.probe "all"(%x) {experts = 8 : i64, layer = "layer0"} : tensor<?x4xf32>
  return
}

// -----

func.func @probe_ids(%i: tensor<?x2xi64>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{has operand 0 of type 'tensor<?x2xi64>', not i32 [?, 2]}}
  moe.probe "routing"(%i, %w) {experts = 8 : i64, layer = "layer0"} : tensor<?x2xi64>, tensor<?x2xf32>
  return
}

// -----

func.func @probe_logits(%i: tensor<?x2xi32>, %w: tensor<?x2xf32>, %z: tensor<?x4xf32>) {
  // expected-error @+1 {{has operand 2 of type 'tensor<?x4xf32>', not floats [?, 8]}}
  moe.probe "routing"(%i, %w, %z) {experts = 8 : i64, layer = "layer0"}
      : tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x4xf32>
  return
}

// -----

func.func @probe_all(%x: tensor<?x4xf32>, %y: tensor<?x7x4xf32>) {
  // expected-error @+1 {{has operand 1 of type 'tensor<?x7x4xf32>', not floats [?, 8, 4]}}
  moe.probe "all"(%x, %y) {experts = 8 : i64, layer = "layer0"}
      : tensor<?x4xf32>, tensor<?x7x4xf32>
  return
}

// -----

func.func @probe_score(%i: tensor<?x2xi32>, %w: tensor<?x2xf32>) {
  // expected-error @+1 {{knows no score "relu": softmax or sigmoid}}
  moe.probe "routing"(%i, %w) {experts = 8 : i64, layer = "layer0", score = "relu"} : tensor<?x2xi32>, tensor<?x2xf32>
  return
}

// -----

func.func @hook_type(%b: tensor<8xf32>) {
  // expected-error @+1 {{needs floats [T, E] of a known number of experts, not 'tensor<8xf32>'}}
  %0 = moe.logit_hook %b {k = 2 : i64, layer = "layer0"} : tensor<8xf32>
  return
}

// -----

func.func @hook_experts(%z: tensor<8x?xf32>) {
  // expected-error @+1 {{needs floats [T, E] or [E] of a known number of experts, not 'tensor<8x?xf32>'}}
  %0 = moe.logit_hook %z {k = 2 : i64, layer = "layer0", mask_only} : tensor<8x?xf32>
  return
}

// -----

func.func @hook_layer(%z: tensor<?x8xf32>) {
  // expected-error @+1 {{needs the name of its layer}}
  %0 = moe.logit_hook %z {k = 2 : i64, layer = ""} : tensor<?x8xf32>
  return
}

// -----

func.func @hook_slots(%z: tensor<?x8xf32>) {
  // expected-error @+1 {{has k = 9, which is not in 1..8}}
  %0 = moe.logit_hook %z {k = 9 : i64, layer = "layer0"} : tensor<?x8xf32>
  return
}
