// Random MoE layers in the forms that exporters write.
#pragma once

#include "GraphText.h"

namespace moec::test {

enum class Form { gathered, grouped, masked, dense, scattered };

struct LayerOptions {
  Form form = Form::gathered;
  int64_t experts = 4, k = 2, hidden = 4, inter = 3;
  int activation = 0;   // silu, gelu, tanh gelu, relu, squared relu, swish
  bool gated = true, interleaved = false, bias = false;
  bool transposed = false; // matrices stored [K, N]
  int router = 0;          // softmax and sum, softmax, top-k first, biased sigmoid
  double scale = 1.0;
};

LayerOptions randomOptions(GraphText &g, Form form);
/// The layer over tokens x [?, hidden].
Typed layer(GraphText &g, const LayerOptions &options, const Typed &x);
std::string describe(const LayerOptions &options);

} // namespace moec::test
