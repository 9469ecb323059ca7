// Whose meaning com.microsoft.MoE and QMoE nodes have where the kernels of ONNX Runtime differ from
// the operators' schema, and from each other.
#pragma once

#include "llvm/ADT/StringSwitch.h"
#include <optional>

namespace moec {

enum class MoESemantics {
  schema,
  ortCpu, // higher expert first among equals; no sparse mixer; QMoE always normalises; small
          // weights are dropped; weights_prepacked is not read
  ortCuda // QMoE: router_weights are not read; swiglu without a layout is interleaved
};

/// By the names of the option: schema, ort-cpu, ort-cuda.
inline std::optional<MoESemantics> parseMoESemantics(llvm::StringRef name) {
  return llvm::StringSwitch<std::optional<MoESemantics>>(name)
      .Case("schema", MoESemantics::schema)
      .Case("ort-cpu", MoESemantics::ortCpu)
      .Case("ort-cuda", MoESemantics::ortCuda)
      .Default(std::nullopt);
}

} // namespace moec
