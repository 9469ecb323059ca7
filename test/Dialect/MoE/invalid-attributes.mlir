// RUN: moe-opt %s --split-input-file --verify-diagnostics

// expected-error @+2 {{unknown activation "mish"; it must be one of identity, relu, relu2, silu, swish, gelu, gelu_tanh, tanh, sigmoid}}
module attributes {
  a = #moe.ffn<gated = true, activation = "mish">} {}

// -----

// expected-error @+2 {{alpha belongs to the activation "swish", not to "silu"}}
module attributes {
  a = #moe.ffn<gated = true, activation = "silu", alpha = 2.0>} {}

// -----

// expected-error @+2 {{alpha and up_offset must be finite}}
module attributes {
  a = #moe.ffn<gated = true, activation = "silu", up_offset = 1.0e999>} {}

// -----

// expected-error @+2 {{limit must be positive and finite}}
module attributes {
  a = #moe.ffn<gated = true, activation = "silu", limit = -7.0>} {}

// -----

// expected-error @+2 {{limit and up_offset need a gated expert}}
module attributes {
  a = #moe.ffn<gated = false, activation = "silu", limit = 7.0>} {}

// -----

// expected-error @+3 {{expected 'true' or 'false'}}
// expected-error @+2 {{failed to parse MoE_FfnAttr parameter 'gated'}}
module attributes {
  a = #moe.ffn<gated = yes, activation = "silu">} {}

// -----

// expected-error @+2 {{struct is missing required parameter: activation}}
module attributes {
  a = #moe.ffn<gated = true>} {}

// -----

// expected-error @+2 {{k must be at least 1, not 0}}
module attributes {
  a = #moe.router<score = softmax, k = 0>} {}

// -----

// expected-error @+2 {{group_k = 5 must lie between 1 and groups = 4}}
module attributes {
  a = #moe.router<score = softmax, k = 2, groups = 4, group_k = 5>} {}

// -----

// expected-error @+2 {{epsilon and minimum must be finite and not negative}}
module attributes {
  a = #moe.router<score = softmax, k = 2, renorm = sum, epsilon = -1.0>} {}

// -----

// expected-error @+2 {{only one of epsilon and minimum may be given}}
module attributes {
  a = #moe.router<score = softmax, k = 2, renorm = sum, epsilon = 0.1, minimum = 0.1>} {}

// -----

// expected-error @+2 {{epsilon and minimum need renorm = sum}}
module attributes {
  a = #moe.router<score = softmax, k = 2, epsilon = 0.1>} {}

// -----

// expected-error @+2 {{scale must be finite}}
module attributes {
  a = #moe.router<score = softmax, k = 2, scale = 1.0e999>} {}

// -----

// expected-error @+3 {{failed to parse MoE_RouterAttr parameter 'score'}}
// expected-error @+2 {{expected ::moec::moe::RouterScore to be one of: softmax, sigmoid, identity}}
module attributes {
  a = #moe.router<score = softplus, k = 2>} {}
