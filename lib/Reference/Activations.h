// Activation functions, in double.
#pragma once
#include <string>

namespace moec::reference::activations {

double sigmoid(double x);
double softplus(double x);
double gelu(double x);
double geluTanh(double x);
/// x * sigmoid(alpha x)
double swish(double x, double alpha);

/// An activation of #moe.ffn and of the MoE operators by name: identity, relu, relu2, silu, swish
/// (with alpha), gelu, gelu_tanh, tanh, sigmoid, softplus, quick_gelu. Null when unknown.
using Activation = double (*)(double x, double alpha);
Activation byName(const std::string &name);

} // namespace moec::reference::activations
