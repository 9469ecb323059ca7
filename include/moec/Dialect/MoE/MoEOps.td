// The ops of the `moe` dialect. Each verifier checks the constraints that docs/moe-dialect.md
// numbers.
#ifndef MOEC_DIALECT_MOE_MOEOPS_TD
#define MOEC_DIALECT_MOE_MOEOPS_TD

include "moec/Dialect/MoE/MoEAttrs.td"
include "moec/Dialect/MoE/MoEWeightOps.td"

//===--- banks -----------------------------------------------------------------------------===//

def MoE_BankOp : MoE_Op<"bank", [IsolatedFromAbove, Symbol,
    DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "a bank of experts";
  let description = [{
    `experts` functions of tokens, ids 0, 1, ..., with parameters of their own. Several layers may
    use one bank.

    The formula is `body`, a `#moe.ffn`, whose parameters `gate`, `up`, `down` and `gate_bias`,
    `up_bias`, `down_bias` name binds of `moe.weights` with the expert as axis 0: gate and up are
    `[S, inter, hidden]`, down is `[S, hidden, inter]`, the biases `[S, inter]`, `[S, inter]` and
    `[S, hidden]`. A missing bias is zero.

    Or the formula is a region: a block over tokens `[N, hidden]`, an expert's slab of each of the
    binds that `parameters` lists, and the layer's contexts, which ends with `moe.yield` of a result
    `[N, ...]`. A token may be more than a vector, `[N, ...]`; `hidden` is 0 then. A region says what
    happens to each token by itself. With `coupled` it need not: then it has to be given all of an
    expert's tokens at once, in order (a quantisation range over all of them, for instance), and no
    pass splits them. Experts of different kinds have several regions. What all experts read, a
    region reads by `moe.weight.use`.

    - `implementations` are the regions; none with a body;
    - `kinds` gives for each expert the number of its region, 0 without it;
    - `parameters` lists binds, with several regions a list for each;
    - `inter` is the width between the projections (0 with a region);
    - `slabs` gives for each expert the row of axis 0 of its parameters; without it the experts of
      one region own rows 0, 1, ... of its parameters, in order of id. Experts may share a row; an
      expert without parameters has row -1;
    - `storage` says for each expert what it is: `dense` (the formula; the default), `zero` (its
      result is zero), `identity` (its result is the token itself) or `constant` (its result is the
      same row for every token);
    - `constants` names a bind with the rows of the constant experts, in order of id: `[C, hidden]`,
      or `[C, ...]` as a region's results;
    - `widths` gives for each expert how much of `inter` it uses, counted from the start; without it
      all of it;
    - `sym_name` is the bank's name.

    Example:
    ```mlir
    moe.weights @weights {
      %0 = moe.weight.load "w.bin" at 0 : tensor<8x96x32xf32>
      %1 = moe.weight.load "w.bin" at 98304 : tensor<8x32x96xf32>
      moe.weight.bind @layer0.gate %0 : tensor<8x96x32xf32>
      moe.weight.bind @layer0.up %0 : tensor<8x96x32xf32>
      moe.weight.bind @layer0.down %1 : tensor<8x32x96xf32>
    }
    moe.bank @layer0 experts(8) hidden(32) inter(96)
        body(#moe.ffn<gated = true, activation = "silu">)
        gate(@layer0.gate) up(@layer0.up) down(@layer0.down)
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, I64Attr:$experts, I64Attr:$hidden, I64Attr:$inter,
                       OptionalAttr<MoE_FfnAttr>:$body,
                       OptionalAttr<FlatSymbolRefAttr>:$gate, OptionalAttr<FlatSymbolRefAttr>:$up,
                       OptionalAttr<FlatSymbolRefAttr>:$down,
                       OptionalAttr<FlatSymbolRefAttr>:$gate_bias,
                       OptionalAttr<FlatSymbolRefAttr>:$up_bias,
                       OptionalAttr<FlatSymbolRefAttr>:$down_bias,
                       OptionalAttr<ArrayAttr>:$parameters,
                       OptionalAttr<DenseI64ArrayAttr>:$kinds,
                       OptionalAttr<DenseI64ArrayAttr>:$slabs,
                       OptionalAttr<StrArrayAttr>:$storage,
                       OptionalAttr<DenseI64ArrayAttr>:$widths,
                       OptionalAttr<FlatSymbolRefAttr>:$constants,
                       UnitAttr:$coupled);
  let regions = (region VariadicRegion<SizedRegion<1>>:$implementations);
  let assemblyFormat = [{
    $sym_name `experts` `(` $experts `)` `hidden` `(` $hidden `)` `inter` `(` $inter `)`
    (`body` `(` qualified($body)^ `)`)?
    (`gate` `(` $gate^ `)`)? (`up` `(` $up^ `)`)? (`down` `(` $down^ `)`)?
    (`gate_bias` `(` $gate_bias^ `)`)? (`up_bias` `(` $up_bias^ `)`)?
    (`down_bias` `(` $down_bias^ `)`)? (`parameters` `(` $parameters^ `)`)?
    (`kinds` `(` $kinds^ `)`)?
    (`slabs` `(` $slabs^ `)`)? (`storage` `(` $storage^ `)`)? (`widths` `(` $widths^ `)`)?
    (`constants` `(` $constants^ `)`)?
    (`coupled` $coupled^)? attr-dict-with-keyword ($implementations^)?
  }];
  let hasVerifier = 1;
  let hasRegionVerifier = 1;
  let extraClassDeclaration = [{
    /// The row of axis 0 of the parameters that holds an expert; -1 for none.
    int64_t getSlab(int64_t expert);
    /// How many rows axis 0 of the parameters has to have at least; of those of one region.
    int64_t getNumSlabs(int64_t kind = 0);
    /// The number of an expert's region, and the region. Only of a bank of regions.
    int64_t getKind(int64_t expert);
    ::mlir::Region &getRegionOf(int64_t expert);
    /// The binds whose slabs a region is given, in order.
    ::llvm::SmallVector<::llvm::StringRef> getParametersOf(int64_t kind);
    /// How many contexts the regions read; 0 with a body.
    int64_t getNumContexts();
    /// [N, ...] of the tokens and of the results: of the first region, or [?, hidden] of no
    /// element type (null) with a body.
    ::mlir::RankedTensorType getTokenType();
    ::mlir::RankedTensorType getResultType();
    /// "dense", "zero", "identity" or "constant".
    ::llvm::StringRef getExpertStorage(int64_t expert);
    /// The row of `constants` of a constant expert; of any other, how many come before it.
    int64_t getConstant(int64_t expert);
    /// For each expert the first one with the same region, slab and width, mostly itself; experts
    /// without a slab are their own.
    ::llvm::SmallVector<int64_t> getTwins();
    /// How much of `inter` an expert uses.
    int64_t getWidth(int64_t expert);
  }];
}

def MoE_YieldOp : MoE_Op<"yield", [Pure, Terminator, HasParent<"BankOp">]> {
  let summary = "ends the region of a bank";
  let description = [{
    Gives an expert's result for its tokens, `[N, ...]`.

    Example:
    ```mlir
    moe.bank @double experts(4) hidden(8) inter(0) {
    ^bb0(%x: tensor<?x8xf32>):
      %y = onnx.Add(%x, %x) : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
      moe.yield %y : tensor<?x8xf32>
    }
    ```
  }];
  let arguments = (ins AnyRankedTensor:$value);
  let assemblyFormat = "$value attr-dict `:` type($value)";
}

//===--- routing ---------------------------------------------------------------------------===//

def MoE_SelectOp : MoE_Op<"select", [Pure]> {
  let summary = "chooses experts for each token by their scores";
  let description = [{
    From scores `[T, E]` to the ids of the chosen experts `[T, K]` and their raw weights `[T, K]`.
    Chosen experts stand in falling order of score, ties to the lower id; empty slots follow, with
    id -1 and weight 0. A weight is the chosen expert's score, or its entry in the weight scores
    when these are given. Rows are independent of each other: they may be split or reordered.

    `kind` is the selection:
    - `top_k` (the default): the `k` experts with the largest scores;
    - `grouped_top_k`: the experts form `groups` equal groups of neighbours; the `group_k` groups
      with the largest score take part, where `group_score` says what a group's score is: `max`
      (the default) or `top2`, the sum of its two largest;
    - `top_p`: experts in falling order until their scores sum up to at least `p`, at most `k`;
    - `threshold`: the experts whose score is at least `threshold`, at most `k`, and when these are
      fewer than `at_least` (0 by default), the best `at_least`;
    - `all`: every expert, in order of id; `k` is the number of experts;
    - `external`: the given ids.

    Further operands are told apart by their types and come in this order: weight scores `[T, E]` of
    floats, ids `[T, K]` i32 for `external` (only there), and the number of used slots for all
    rows, an i64 tensor with one element, when k is known only at run time (`k` is its bound then).

    Example:
    ```mlir
    func.func @main(%p: tensor<?x8xf32>) -> tensor<?x2xf32> {
      %ids, %weights = moe.select %p {k = 2 : i64}
          : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
      return %weights : tensor<?x2xf32>
    }
    ```
  }];
  let arguments = (ins MoE_Matrix:$scores, Variadic<AnyRankedTensor>:$more,
                       OptionalAttr<I64Attr>:$k, DefaultValuedStrAttr<StrAttr, "top_k">:$kind,
                       OptionalAttr<I64Attr>:$groups, OptionalAttr<I64Attr>:$group_k,
                       OptionalAttr<StrAttr>:$group_score, OptionalAttr<F64Attr>:$p,
                       OptionalAttr<F64Attr>:$threshold, OptionalAttr<I64Attr>:$at_least);
  let results = (outs MoE_Ids:$ids, MoE_Matrix:$weights);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// Scores that the weights are taken from; null when they are the selection scores.
    ::mlir::Value getWeightScores();
    /// The ids of an external selection, or null.
    ::mlir::Value getExternalIds();
    /// The number of used slots at run time, or null.
    ::mlir::Value getCount();
  }];
}

def MoE_RouteOp : MoE_Op<"route", [Pure]> {
  let summary = "a whole router: from logits to experts and mixing weights";
  let description = [{
    Chooses experts and computes their weights by the formula `router`, a `#moe.router`. The logits are `[T, E]`; the
    optional bias `[E]` is added to the scores for the selection only. Results are the ids `[T, K]`
    in falling order of selection score and the final weights `[T, K]`. Made by `fuse-gating`.

    Example:
    ```mlir
    func.func @main(%logits: tensor<?x8xf32>, %bias: tensor<8xf32>) -> tensor<?x2xf32> {
      %ids, %weights = moe.route(%logits, %bias) router<score = sigmoid, k = 2, renorm = sum>
          : (tensor<?x8xf32>, tensor<8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
      return %weights : tensor<?x2xf32>
    }
    ```
  }];
  let arguments = (ins MoE_Matrix:$logits, Optional<MoE_Vector>:$bias, MoE_RouterAttr:$router);
  let results = (outs MoE_Ids:$ids, MoE_Matrix:$weights);
  let assemblyFormat = [{
    `(` operands `)` `router` `` custom<Router>($router) attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def MoE_ChooseOp : MoE_Op<"choose", [Pure]> {
  let summary = "experts choose tokens";
  let description = [{
    Expert choice: each expert takes the `capacity` tokens that score highest for it. From scores
    `[T, E]` to token indices `[E, C]` and weights `[E, C]` (the scores), in falling order, ties to
    the earlier token. With fewer tokens than `capacity` the last slots are empty: index -1, weight
    0. A token may be chosen by any number of experts. Rows depend on each other: a batch must not
    be split.

    Example:
    ```mlir
    func.func @main(%p: tensor<?x8xf32>) -> tensor<8x4xi32> {
      %tokens, %weights = moe.choose %p {capacity = 4 : i64}
          : (tensor<?x8xf32>) -> (tensor<8x4xi32>, tensor<8x4xf32>)
      return %tokens : tensor<8x4xi32>
    }
    ```
  }];
  let arguments = (ins MoE_Matrix:$scores, I64Attr:$capacity);
  let results = (outs MoE_Ids:$tokens, MoE_Matrix:$weights);
  let assemblyFormat = "$scores attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

//===--- experts ---------------------------------------------------------------------------===//

def MoE_ExpertsOp : MoE_Op<"experts", [Pure,
    DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "applies experts to tokens and combines their results";
  let description = [{
    For each token `x[t]` of `[T, H]` the sum, over its slots `j` in order, of
    `weights[t, j] * expert(ids[t, j])(x[t])`, computed in f32; `bank` names the experts. A slot
    whose id is -1 or whose weight is exactly 0 adds nothing and its expert does not run.

    Without ids the weights are dense, `[T, E]`: slot `j` is expert `j`. Without ids and weights the
    bank has one expert, which is applied to every token: a plain (shared) feed-forward layer.

    Of a bank of regions tokens are `[T, ...]` and results `[T, ...]`, as its regions say. The last
    operands are what the regions read besides, one for each entry of `contexts`: `rows` has a row
    for each token, of which an expert gets those of its tokens; `whole` is given as it is.

    `combine` is `sum` (the default) or `none`: then the weighted results of the slots stay apart,
    `[T, K, H]`, and empty slots are zero.

    Example:
    ```mlir
    moe.bank @double experts(4) hidden(8) inter(0) {
    ^bb0(%x: tensor<?x8xf32>):
      %y = onnx.Add(%x, %x) : (tensor<?x8xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
      moe.yield %y : tensor<?x8xf32>
    }
    func.func @main(%x: tensor<?x8xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>)
        -> tensor<?x8xf32> {
      %y = moe.experts @double(%x, %i, %w)
          : (tensor<?x8xf32>, tensor<?x2xi32>, tensor<?x2xf32>) -> tensor<?x8xf32>
      return %y : tensor<?x8xf32>
    }
    ```
  }];
  // Not two optional operands: their types tell ids and weights apart, and generic code needs no
  // segment sizes.
  let arguments = (ins FlatSymbolRefAttr:$bank, AnyRankedTensor:$x,
                       Variadic<AnyRankedTensor>:$more,
                       DefaultValuedStrAttr<StrAttr, "sum">:$combine,
                       OptionalAttr<StrArrayAttr>:$contexts);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = [{
    $bank `(` $x (`,` $more^)? `)` attr-dict `:` functional-type(operands, $result)
  }];
  let hasVerifier = 1;
  let builders = [
    OpBuilder<(ins "::mlir::Type":$result, "::mlir::FlatSymbolRefAttr":$bank, "::mlir::Value":$x,
                   "::mlir::Value":$ids, "::mlir::Value":$weights), [{
      $_state.addTypes(result);
      $_state.addAttribute("bank", bank);
      for (::mlir::Value operand : {x, ids, weights})
        if (operand)
          $_state.addOperands(operand);
    }]>
  ];
  let extraClassDeclaration = [{
    /// The ids [T, K], or null when the weights are dense or absent.
    ::mlir::Value getIds();
    /// The weights [T, K], or [T, E] without ids; null for a plain layer.
    ::mlir::Value getWeights();
    /// What lies between the tokens and the contexts: ids and weights, weights, or nothing.
    ::mlir::ValueRange getRouting();
    /// What the bank's regions read besides, one for each entry of `contexts`.
    ::mlir::ValueRange getContextValues();
    /// Whether a context has a row for each token.
    bool isContextOfRows(int64_t index);
  }];
}

def MoE_MergeWeightsOp : MoE_Op<"merge_weights", [Pure,
    DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "one expert whose parameters are a weighted mean of all";
  let description = [{
    Soft merging: for each row of weights `[S, E]` the parameters of the experts of `bank` are
    summed up under that row's weights, and the merged expert is applied to the row's tokens. The
    tokens `[T, H]` form S equal groups of neighbours, one for each row; S = T merges for each
    token, S = 1 once for all. A bank of one region merges its parameters alike.

    Example:
    ```mlir
    moe.weights @weights {
      %0 = moe.weight.load "w.bin" at 0 : tensor<4x8x8xf32>
      moe.weight.bind @w %0 : tensor<4x8x8xf32>
    }
    moe.bank @b experts(4) hidden(8) inter(8)
        body(#moe.ffn<gated = false, activation = "relu">) up(@w) down(@w)
    func.func @main(%x: tensor<?x8xf32>, %w: tensor<1x4xf32>) -> tensor<?x8xf32> {
      %y = moe.merge_weights @b(%x, %w)
          : (tensor<?x8xf32>, tensor<1x4xf32>) -> tensor<?x8xf32>
      return %y : tensor<?x8xf32>
    }
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$bank, MoE_Matrix:$x, MoE_Matrix:$weights);
  let results = (outs MoE_Matrix:$result);
  let assemblyFormat = [{
    $bank `(` $x `,` $weights `)` attr-dict `:` functional-type(operands, $result)
  }];
  let hasVerifier = 1;
}

//===--- Soft MoE --------------------------------------------------------------------------===//

def MoE_SoftDispatchOp : MoE_Op<"soft_dispatch", [Pure]> {
  let summary = "slots that are mixtures of tokens";
  let description = [{
    Soft MoE: slot `s` is the mean of the tokens under the softmax of column `s` of the logits
    `[T, S]`: `slots = softmax(logits, over tokens)^T * x`, `[S, H]`. Without tokens the slots are
    zero.

    Example:
    ```mlir
    func.func @main(%x: tensor<?x32xf32>, %logits: tensor<?x16xf32>) -> tensor<16x32xf32> {
      %slots = moe.soft_dispatch %x, %logits
          : (tensor<?x32xf32>, tensor<?x16xf32>) -> tensor<16x32xf32>
      return %slots : tensor<16x32xf32>
    }
    ```
  }];
  let arguments = (ins MoE_Matrix:$x, MoE_Matrix:$logits);
  let results = (outs MoE_Matrix:$slots);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def MoE_SoftCombineOp : MoE_Op<"soft_combine", [Pure]> {
  let summary = "tokens that are mixtures of slots";
  let description = [{
    Soft MoE: token `t` is the mean of the slots' results `[S, H]` under the softmax of row `t` of
    the logits `[T, S]`: `y = softmax(logits, over slots) * slots`, `[T, H]`.

    Example:
    ```mlir
    func.func @main(%slots: tensor<16x32xf32>, %logits: tensor<?x16xf32>) -> tensor<?x32xf32> {
      %y = moe.soft_combine %slots, %logits
          : (tensor<16x32xf32>, tensor<?x16xf32>) -> tensor<?x32xf32>
      return %y : tensor<?x32xf32>
    }
    ```
  }];
  let arguments = (ins MoE_Matrix:$slots, MoE_Matrix:$logits);
  let results = (outs MoE_Matrix:$result);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

//===--- exchange and measurement ----------------------------------------------------------===//

def MoE_DispatchOp : MoE_Op<"dispatch", [Pure]> {
  let summary = "sends tokens to the devices that hold their experts";
  let description = [{
    Every used slot of the tokens `[T, H]`, ids `[T, K]` and weights `[T, K]` becomes a row that is
    sent to device `placement[id]` of `devices`. Results are the rows that arrive here: tokens
    `[R, H]`, ids `[R, 1]`, weights `[R, 1]` and where they came from, `[R, 2]` i32: device and
    token. Rows stand in order of source device, then token, then slot. With one device all rows
    stay. Made by the placement pass.

    Example:
    ```mlir
    func.func @main(%x: tensor<?x32xf32>, %i: tensor<?x2xi32>, %w: tensor<?x2xf32>)
        -> tensor<?x32xf32> {
      %r, %ri, %rw, %from = moe.dispatch %x, %i, %w {devices = 2 : i64, placement = array<i64: 0, 0, 1, 1>}
          : (tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x2xf32>)
          -> (tensor<?x32xf32>, tensor<?x1xi32>, tensor<?x1xf32>, tensor<?x2xi32>)
      %y = moe.combine %r, %from, %x {devices = 2 : i64}
          : (tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x32xf32>) -> tensor<?x32xf32>
      return %y : tensor<?x32xf32>
    }
    ```
  }];
  let arguments = (ins MoE_Matrix:$x, MoE_Ids:$ids, MoE_Matrix:$weights, I64Attr:$devices,
                       DenseI64ArrayAttr:$placement);
  let results = (outs MoE_Matrix:$rows, MoE_Ids:$row_ids, MoE_Matrix:$row_weights,
                      MoE_Ids:$origin);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def MoE_CombineOp : MoE_Op<"combine", [Pure]> {
  let summary = "brings results back to the devices their tokens came from";
  let description = [{
    The way back of `moe.dispatch`: each row `[R, H]` returns to the device and token that `origin`
    names, and a token's rows are summed up in slot order in f32. The third operand, the tokens
    `[T, H]`, says how many there are. `devices` is the number of devices.

    Example:
    ```mlir
    func.func @main(%r: tensor<?x32xf32>, %from: tensor<?x2xi32>, %x: tensor<?x32xf32>)
        -> tensor<?x32xf32> {
      %y = moe.combine %r, %from, %x {devices = 2 : i64}
          : (tensor<?x32xf32>, tensor<?x2xi32>, tensor<?x32xf32>) -> tensor<?x32xf32>
      return %y : tensor<?x32xf32>
    }
    ```
  }];
  let arguments = (ins MoE_Matrix:$rows, MoE_Ids:$origin, MoE_Matrix:$x, I64Attr:$devices);
  let results = (outs MoE_Matrix:$result);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def MoE_ProbeOp : MoE_Op<"probe"> {
  let summary = "adds to the profile of a layer";
  let description = [{
    Tells the run's profile what a layer did: compiled code adds to the statistics of the layer named
    `layer`, which has `experts` experts, when the session collects a profile, and otherwise does
    nothing. Has no result, is never removed, and changes no value. Inserted by `insert-probes`. T
    are tokens, K slots, E experts, H the hidden size; an empty slot (id -1, or a weight of exactly
    0) does not count. `kind` says what the operands are:

    - `routing`: ids `[T, K]`, weights `[T, K]`, and logits `[T, E]` if the layer has them;
    - `experts`: ids, weights, the tokens `[T, H]`, the residual stream `[T, H]` that the layer's
      result is added to, the weighted results of the slots `[T, K, H]` (`moe.experts` with `combine
      = "none"`), their sum `[T, H]`, and logits if there are;
    - `all`: some of the tokens `[S, H]` and the results of all experts on them, `[S, E, H]`.

    `score` says how the router makes scores of the logits: `softmax` (the default) or `sigmoid`.

    Example:
    ```mlir
    func.func @main(%i: tensor<?x2xi32>, %w: tensor<?x2xf32>, %z: tensor<?x8xf32>) {
      moe.probe "routing"(%i, %w, %z) {experts = 8 : i64, layer = "layer0"}
          : tensor<?x2xi32>, tensor<?x2xf32>, tensor<?x8xf32>
      return
    }
    ```
  }];
  let arguments = (ins StrAttr:$kind, Variadic<AnyRankedTensor>:$values, StrAttr:$layer,
                       I64Attr:$experts, DefaultValuedStrAttr<StrAttr, "softmax">:$score);
  let assemblyFormat = "$kind `(` $values `)` attr-dict `:` type($values)";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// Operands that every probe of this one's kind has; -1 for a kind that does not exist.
    int64_t getRequired();
    /// The logits [T, E], or null.
    ::mlir::Value getLogits();
  }];
}

def MoE_LogitHookOp : MoE_Op<"logit_hook", [Pure, AllTypesMatch<["logits", "result"]>]> {
  let summary = "where a session may change a router's logits";
  let description = [{
    Gives its operand, unless the running session was told otherwise for the layer named `layer`: then
    column e of the logits `[T, E]` becomes `logits * scale[e] + bias[e]`, or -infinity where expert e
    is masked, in f32. Only a mask with at least `k` experts, the slots of a token, is taken.

    With `mask_only` the operand is what a router adds to its scores for the selection, `[E]` or
    `[T, E]`: masked entries become -infinity, others stay.

    Settings do not change while a session runs, so the op has no effect and equal ones are one.
    Inserted by `insert-logit-hooks`; without settings nothing is computed or copied.

    Example:
    ```mlir
    func.func @main(%z: tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>) {
      %hooked = moe.logit_hook %z {layer = "layer0", k = 2 : i64} : tensor<?x8xf32>
      %ids, %weights = moe.route(%hooked) router<score = softmax, k = 2>
          : (tensor<?x8xf32>) -> (tensor<?x2xi32>, tensor<?x2xf32>)
      return %ids, %weights : tensor<?x2xi32>, tensor<?x2xf32>
    }
    ```
  }];
  let arguments = (ins AnyRankedTensor:$logits, StrAttr:$layer, I64Attr:$k, UnitAttr:$mask_only);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$logits attr-dict `:` type($logits)";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    int64_t getExperts();
  }];
}

#endif
