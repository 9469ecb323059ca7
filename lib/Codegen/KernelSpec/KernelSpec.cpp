#include "moec/Codegen/KernelSpec/KernelSpec.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/xxhash.h"
#include <charconv>
#include <cmath>

using llvm::StringRef;

namespace moec {
namespace {

/// Names of an enumeration in the order of its values.
template <typename Enum> struct Names;
template <> struct Names<KernelOp> {
  static constexpr const char *list[] = {"gemm", "bgemm", "experts_up", "route", "attention"};
};
template <> struct Names<WeightType> {
  static constexpr const char *list[] = {"f32", "f16", "bf16"};
};
template <> struct Names<Quantisation> {
  static constexpr const char *list[] = {"none", "int8", "int4"};
};
template <> struct Names<Activation> {
  static constexpr const char *list[] = {"identity", "relu",      "relu2", "silu",   "swish",
                                         "gelu",     "gelu_tanh", "tanh",  "sigmoid"};
};
template <> struct Names<RouterScore> {
  static constexpr const char *list[] = {"softmax", "sigmoid", "identity"};
};
template <> struct Names<RouterRenorm> {
  static constexpr const char *list[] = {"none", "sum", "softmax", "sigmoid"};
};

template <typename Enum> std::optional<Enum> parseName(StringRef name) {
  unsigned index = 0;
  for (const char *candidate : Names<Enum>::list) {
    if (name == candidate)
      return static_cast<Enum>(index);
    ++index;
  }
  return std::nullopt;
}

// One value as text and back.
std::string valueText(bool value) { return value ? "1" : "0"; }
std::string valueText(float value) {
  char buffer[32];
  auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr; // shortest that reads back
  return std::string(buffer, end);
}
std::string valueText(const std::optional<float> &value) {
  return value ? valueText(*value) : "none";
}
template <typename Enum> std::string valueText(Enum value) {
  return Names<Enum>::list[static_cast<unsigned>(value)];
}

bool readValue(StringRef text, bool &value) {
  value = text == "1";
  return text == "0" || text == "1";
}
bool readValue(StringRef text, float &value) {
  auto [end, error] = std::from_chars(text.begin(), text.end(), value);
  return error == std::errc() && end == text.end();
}
bool readValue(StringRef text, std::optional<float> &value) {
  if (text == "none") {
    value.reset();
    return true;
  }
  return readValue(text, value.emplace());
}
template <typename Enum> bool readValue(StringRef text, Enum &value) {
  auto parsed = parseName<Enum>(text);
  if (parsed)
    value = *parsed;
  return parsed.has_value();
}

/// Calls visit(key, field) for each field that the operation of `spec` has, in canonical order.
template <typename Spec, typename Visitor> void visitFields(Spec &spec, Visitor visit) {
  switch (spec.op) {
  case KernelOp::Gemm:
    visit("weight", spec.weight);
    visit("quant", spec.quant);
    break;
  case KernelOp::ExpertsUp:
    visit("weight", spec.weight);
    visit("quant", spec.quant);
    visit("gated", spec.gated);
    visit("activation", spec.activation);
    visit("alpha", spec.alpha);
    visit("limit", spec.limit);
    visit("up_offset", spec.upOffset);
    break;
  case KernelOp::Route:
    visit("score", spec.score);
    visit("renorm", spec.renorm);
    visit("epsilon", spec.epsilon);
    visit("minimum", spec.minimum);
    visit("scale", spec.scale);
    break;
  case KernelOp::Bgemm:
  case KernelOp::Attention:
    break;
  }
}

llvm::Error invalid(StringRef text, const llvm::Twine &why) {
  return llvm::createStringError("kernel spec '" + text + "': " + why);
}

} // namespace

std::string KernelSpec::text() const {
  std::string out = valueText(op);
  visitFields(*this, [&](StringRef key, const auto &value) {
    out += (" " + key + "=" + valueText(value)).str();
  });
  return out;
}

std::string KernelSpec::hash() const {
  return llvm::utohexstr(llvm::xxh3_64bits(text()), /*LowerCase=*/true, /*Width=*/16);
}

StringRef KernelSpec::layout() const {
  switch (op) {
  case KernelOp::Gemm:
    return "panel16";
  case KernelOp::ExpertsUp:
    return gated ? "experts_gate_up16" : "experts_panel16_nk";
  case KernelOp::Bgemm:
  case KernelOp::Route:
  case KernelOp::Attention:
    return "";
  }
  return "";
}

std::string KernelSpec::check() const {
  auto finite = [](float value) { return std::isfinite(value); };
  if (!finite(alpha) || !finite(upOffset) || (limit && !finite(*limit)))
    return "alpha, limit and up_offset must be finite";
  if (!finite(epsilon) || !finite(minimum) || !finite(scale))
    return "epsilon, minimum and scale must be finite";
  if (limit && *limit < 0)
    return "limit must not be negative";
  if (alpha != 1.0f && activation != Activation::Swish)
    return "alpha belongs to the activation swish";
  if (upOffset != 0.0f && !gated)
    return "up_offset belongs to gated experts";
  if (renorm != RouterRenorm::Sum && (epsilon != 0.0f || minimum != 0.0f))
    return "epsilon and minimum belong to renorm=sum";
  return "";
}

llvm::Expected<KernelSpec> parseKernelSpec(StringRef text) {
  llvm::SmallVector<StringRef> words;
  text.split(words, ' ', -1, /*KeepEmpty=*/false);
  if (words.empty())
    return invalid(text, "empty");
  KernelSpec spec;
  if (!readValue(words[0], spec.op))
    return invalid(text, "unsupported operation '" + words[0] + "'");

  llvm::StringMap<StringRef> values;
  for (StringRef word : llvm::ArrayRef(words).drop_front()) {
    auto [key, value] = word.split('=');
    if (!values.try_emplace(key, value).second)
      return invalid(text, "'" + key + "' is given twice");
  }
  std::string why;
  visitFields(spec, [&](StringRef key, auto &field) {
    auto it = values.find(key);
    if (it == values.end())
      return;
    if (!readValue(it->second, field) && why.empty())
      why = ("unsupported value '" + it->second + "' of '" + key + "'").str();
    values.erase(it);
  });
  if (why.empty() && !values.empty())
    why = ("operation " + words[0] + " has no field '" + values.begin()->getKey() + "'").str();
  if (why.empty())
    why = spec.check();
  if (!why.empty())
    return invalid(text, why);
  return spec;
}

std::optional<WeightType> parseWeightType(StringRef name) { return parseName<WeightType>(name); }
std::optional<Activation> parseActivation(StringRef name) { return parseName<Activation>(name); }
std::optional<RouterScore> parseRouterScore(StringRef name) {
  return parseName<RouterScore>(name);
}
std::optional<RouterRenorm> parseRouterRenorm(StringRef name) {
  return parseName<RouterRenorm>(name);
}

KernelSpec gemmSpec(WeightType weight) {
  KernelSpec spec;
  spec.op = KernelOp::Gemm;
  spec.weight = weight;
  return spec;
}

KernelSpec bgemmSpec() {
  KernelSpec spec;
  spec.op = KernelOp::Bgemm;
  return spec;
}

KernelSpec expertsUpSpec(WeightType weight, bool gated, Activation activation, float alpha,
                         std::optional<float> limit, float upOffset) {
  KernelSpec spec;
  spec.op = KernelOp::ExpertsUp;
  spec.weight = weight;
  spec.gated = gated;
  spec.activation = activation;
  // Other activations do not read alpha, non-gated experts no offset: equal kernels, equal texts.
  spec.alpha = activation == Activation::Swish ? alpha : 1.0f;
  spec.limit = limit;
  spec.upOffset = gated ? upOffset : 0.0f;
  return spec;
}

KernelSpec expertsDownSpec(WeightType weight) { return gemmSpec(weight); }

KernelSpec routeSpec(RouterScore score, RouterRenorm renorm, float epsilon, float minimum,
                     float scale) {
  KernelSpec spec;
  spec.op = KernelOp::Route;
  spec.score = score;
  spec.renorm = renorm;
  spec.epsilon = renorm == RouterRenorm::Sum ? epsilon : 0.0f;
  spec.minimum = renorm == RouterRenorm::Sum ? minimum : 0.0f;
  spec.scale = scale;
  return spec;
}

KernelSpec attentionSpec() {
  KernelSpec spec;
  spec.op = KernelOp::Attention;
  return spec;
}

} // namespace moec
