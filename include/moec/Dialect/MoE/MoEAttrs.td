// Attributes of the `moe` dialect: the formula of an expert and the formula of a router.
#ifndef MOEC_DIALECT_MOE_MOEATTRS_TD
#define MOEC_DIALECT_MOE_MOEATTRS_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "moec/Dialect/MoE/MoEDialect.td"

//===--- parameters ------------------------------------------------------------------------===//

// A number that is printed in the fewest digits that give it back.
class MoE_Real<string value, string desc>
    : AttrOrTypeParameter<"::moec::moe::Real", desc, "double"> {
  let defaultValue = value;
  let parser = "::moec::moe::detail::parseReal($_parser)";
  let printer = "::moec::moe::detail::printReal($_printer, $_self)";
}

class MoE_OptionalReal<string desc>
    : AttrOrTypeParameter<"::std::optional<::moec::moe::Real>", desc, "::std::optional<double>"> {
  let defaultValue = "::std::nullopt";
  let parser = "::moec::moe::detail::parseOptionalReal($_parser)";
  let printer = "::moec::moe::detail::printReal($_printer, *$_self)";
}

class MoE_Bool<string desc> : AttrOrTypeParameter<"bool", desc> {
  let parser = "::moec::moe::detail::parseBool($_parser)";
  let printer = [{$_printer << ($_self ? "true" : "false")}];
}

class MoE_Enum<EnumInfo info, string value> : EnumParameter<info> {
  let defaultValue = info.cppNamespace # "::" # info.className # "::" # value;
}

//===--- enumerations ----------------------------------------------------------------------===//

def MoE_RouterScore : I32EnumAttr<"RouterScore", "how a router scores experts", [
    I32EnumAttrCase<"Softmax", 0, "softmax">,
    I32EnumAttrCase<"Sigmoid", 1, "sigmoid">,
    I32EnumAttrCase<"Identity", 2, "identity">]> {
  let cppNamespace = "::moec::moe";
}

def MoE_RouterRenorm : I32EnumAttr<"RouterRenorm", "how a router normalises the chosen weights", [
    I32EnumAttrCase<"None", 0, "none">,
    I32EnumAttrCase<"Sum", 1, "sum">,
    I32EnumAttrCase<"Softmax", 2, "softmax">,
    I32EnumAttrCase<"Sigmoid", 3, "sigmoid">]> {
  let cppNamespace = "::moec::moe";
}

def MoE_GroupScore : I32EnumAttr<"GroupScore", "how a group of experts is scored", [
    I32EnumAttrCase<"Max", 0, "max">,
    I32EnumAttrCase<"Top2", 1, "top2">]> {
  let cppNamespace = "::moec::moe";
}

//===--- attributes ------------------------------------------------------------------------===//

class MoE_Attr<string name, string attrMnemonic> : AttrDef<MoEDialect, name> {
  let mnemonic = attrMnemonic;
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def MoE_FfnAttr : MoE_Attr<"Ffn", "ffn"> {
  let summary = "the formula of a feed-forward expert";
  let description = [{
    With `gated`, an expert is `y = down(act(gate x) * (up x + up_offset))`, without it
    `y = down(act(up x))`. Each of gate, up and down is a matrix and an optional bias.

    - `activation` names `act`: `identity`, `relu`, `relu2` (the square of relu), `silu`, `swish`
      (`z * sigmoid(alpha * z)`), `gelu` (by erf), `gelu_tanh`, `tanh` or `sigmoid`;
    - `alpha` is swish's factor and 1 for all others;
    - `limit`, when present, clamps before the activation: `gate x <= limit` and
      `-limit <= up x <= limit`;
    - `up_offset` is added to `up x` after the clamp.

    Example: `#moe.ffn<gated = true, activation = "swish", alpha = 1.702, limit = 7.0, up_offset = 1.0>`
  }];
  let parameters = (ins
    MoE_Bool<"whether a gate multiplies the up projection">:$gated,
    StringRefParameter<"the activation's name">:$activation,
    MoE_Real<"1.0", "factor of swish">:$alpha,
    MoE_OptionalReal<"bound of gate and up">:$limit,
    MoE_Real<"0.0", "added to the up projection">:$up_offset);
}

def MoE_RouterAttr : MoE_Attr<"Router", "router"> {
  let summary = "the formula of a router";
  let description = [{
    From logits to chosen experts and their weights, for each token, in f32:

    1. the scores are `score` of the logits: `softmax` over all experts, `sigmoid`, or `identity`;
    2. selection scores are the scores, plus the bias when there is one; with `groups` above 1 the
       experts form that many equal groups of neighbours, a group's score is the `max` of its
       selection scores or the sum of its `top2`, as `group_score` says, and only experts of the
       `group_k` best groups take part;
    3. the `k` experts with the largest selection scores are chosen, in falling order, ties to the
       lower id (groups alike); the raw weights are their scores, without the bias;
    4. `renorm` makes weights of them: `none` leaves them, `sum` divides by their sum plus
       `epsilon`, or by the larger of their sum and `minimum`, `softmax` takes the softmax over the
       chosen ones, `sigmoid` the sigmoid of each;
    5. all are multiplied by `scale`.

    Example: `#moe.router<score = sigmoid, k = 8, groups = 8, group_k = 4, group_score = top2, renorm = sum, epsilon = 1.0e-20, scale = 2.5>`
  }];
  let parameters = (ins
    EnumParameter<MoE_RouterScore>:$score,
    AttrParameter<"int64_t", "experts for each token">:$k,
    DefaultValuedParameter<"int64_t", "1", "groups of experts">:$groups,
    DefaultValuedParameter<"int64_t", "1", "groups that take part">:$group_k,
    MoE_Enum<MoE_GroupScore, "Max">:$group_score,
    MoE_Enum<MoE_RouterRenorm, "None">:$renorm,
    MoE_Real<"0.0", "added to the sum">:$epsilon,
    MoE_Real<"0.0", "lower bound of the sum">:$minimum,
    MoE_Real<"1.0", "factor of the weights">:$scale);
  let builders = [
    AttrBuilder<(ins "RouterScore":$score, "int64_t":$k,
                     CArg<"RouterRenorm", "RouterRenorm::None">:$renorm,
                     CArg<"double", "0.0">:$epsilon, CArg<"double", "0.0">:$minimum,
                     CArg<"double", "1.0">:$scale), [{
      return $_get($_ctxt, score, k, 1, 1, GroupScore::Max, renorm, Real(epsilon), Real(minimum),
                   Real(scale));
    }]>
  ];
}

#endif
