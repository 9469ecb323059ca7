#include "Activations.h"
#include <cmath>
#include <numbers>
#include <utility>

namespace moec::reference::activations {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double softplus(double x) { return std::fmax(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }
double gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2)); }

double geluTanh(double x) {
  double inner = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1 + std::tanh(inner));
}

double swish(double x, double alpha) { return x * sigmoid(alpha * x); }

Activation byName(const std::string &name) {
  static constexpr std::pair<const char *, Activation> table[] = {
      {"identity", [](double x, double) { return x; }},
      {"relu", [](double x, double) { return x < 0 ? 0 : x; }},
      {"relu2", [](double x, double) { return x < 0 ? 0 : x * x; }},
      {"silu", [](double x, double) { return swish(x, 1); }},
      {"swish", swish},
      {"quick_gelu", [](double x, double) { return swish(x, 1.702); }},
      {"gelu", [](double x, double) { return gelu(x); }},
      {"gelu_tanh", [](double x, double) { return geluTanh(x); }},
      {"tanh", [](double x, double) { return std::tanh(x); }},
      {"sigmoid", [](double x, double) { return sigmoid(x); }},
      {"softplus", [](double x, double) { return softplus(x); }},
  };
  for (const auto &[known, function] : table)
    if (name == known)
      return function;
  return nullptr;
}

} // namespace moec::reference::activations
