// Profiles as files.
#include "SafeTensors.h"
#include "Text.h"

#include "moec/Analysis/Profile.h"

#include "llvm/Support/JSON.h"

#include <nlohmann/json.hpp>

#include <bit>
#include <cstring>
#include <set>

using namespace moec;
using llvm::StringRef;
using llvm::Twine;
using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "files are little-endian");

namespace {

constexpr StringRef kFormat = "moec-profile";
constexpr int kVersion = 1;
constexpr size_t kLabelsLimit = 1 << 16, kLayersLimit = 1 << 16;

template <typename T>
constexpr StringRef typeName() {
  if constexpr (std::is_same_v<T, double>)
    return "F64";
  else if constexpr (std::is_same_v<T, float>)
    return "F32";
  else if constexpr (std::is_same_v<T, int32_t>)
    return "I32";
  else
    return "U64";
}

template <typename T>
SafeTensor toTensor(const std::string &name, std::vector<int64_t> shape,
                    const std::vector<T> &values) {
  llvm::ArrayRef<char> bytes(reinterpret_cast<const char *>(values.data()),
                             values.size() * sizeof(T));
  return {name, typeName<T>().str(), std::move(shape), bytes};
}

/// Calls `visit(name, width, values)` for each tensor of a reservoir; width 0: one number a token.
template <typename Layer, typename Visit>
void eachOfReservoir(Layer &layer, Visit visit) {
  auto &kept = layer.reservoir;
  visit("key", int64_t(0), kept.key);
  visit("label", int64_t(0), kept.label);
  visit("x", layer.hidden, kept.x);
  visit("logits", layer.experts, kept.logits);
  visit("ids", layer.k, kept.ids);
  visit("weights", layer.k, kept.weights);
  visit("y", layer.hidden, kept.y);
}

struct Reader {
  StringRef path;
  const SafeTensors &file;
  std::optional<StringRef> reservoirOf; ///< only this layer's; without it all
  Profile profile;
  std::set<const SafeTensor *> used;

  llvm::Error head();
  llvm::Error layer(const json &entry);
  llvm::Error statistic(LayerProfile &layer, const std::string &name, const json &rule);
  llvm::Error reservoir(LayerProfile &layer, const json &entry);

  /// Fetches an int64 that is not negative, or a text.
  template <typename T>
  bool get(const json &entry, const char *key, T &value) {
    auto found = entry.find(key);
    if (found == entry.end())
      return false;
    if constexpr (std::is_same_v<T, std::string>) {
      if (!found->is_string())
        return false;
    } else if (!found->is_number_unsigned() || found->get<uint64_t>() > uint64_t(INT64_MAX)) {
      return false;
    }
    value = found->get<T>();
    return true;
  }

  template <typename T>
  llvm::Error copy(const std::string &name, const SafeTensor *&tensor, std::vector<T> &values) {
    tensor = file.find(name);
    if (!tensor)
      return refuse(path, "has no tensor " + shown(name));
    if (!used.insert(tensor).second)
      return refuse(path, "tensor " + shown(name) + " belongs to two layers");
    if (tensor->type != typeName<T>())
      return refuse(path, "tensor " + shown(name) + " is of type " + shown(tensor->type) +
                              ", not " + typeName<T>());
    values.resize(tensor->bytes.size() / sizeof(T));
    if (!values.empty())
      std::memcpy(values.data(), tensor->bytes.data(), tensor->bytes.size());
    return llvm::Error::success();
  }
};

llvm::Error Reader::head() {
  auto &texts = file.metadata();
  auto format = texts.find("format"), version = texts.find("version"),
       found = texts.find("profile");
  if (format == texts.end() || format->second != kFormat)
    return refuse(path, "is no profile: its metadata has no \"format\" " + shown(kFormat));
  int number = 0;
  if (version == texts.end() || StringRef(version->second).getAsInteger(10, number) || number < 1)
    return refuse(path, "its metadata has no \"version\"");
  if (number > kVersion)
    return refuse(path, "unsupported version " + Twine(number) +
                            " of the profile format (this moec "
                            "reads " +
                            Twine(kVersion) + "): use a newer moec, or profile again");
  json head = found == texts.end()
                  ? json()
                  : json::parse(found->second, nullptr, /*allow_exceptions=*/false);
  if (!head.is_object() || !get(head, "model", profile.model) || !head.contains("labels") ||
      !head["labels"].is_array() || !head.contains("layers") || !head["layers"].is_array())
    return refuse(path, "its metadata \"profile\" needs \"model\", \"labels\" and \"layers\"");
  if (head["labels"].size() > kLabelsLimit || head["layers"].size() > kLayersLimit)
    return refuse(path, "has more labels or layers than a profile can have");
  for (const json &label : head["labels"]) {
    if (!label.is_string())
      return refuse(path, "a label is no text");
    profile.labels.push_back(label.get<std::string>());
  }
  for (const json &entry : head["layers"])
    if (llvm::Error error = layer(entry))
      return error;
  used.erase(nullptr); // tensors of a reservoir that is not wanted, and not there
  if (used.size() != file.tensors().size())
    return refuse(path, "has tensors that belong to none of its layers");
  return llvm::Error::success();
}

llvm::Error Reader::layer(const json &entry) {
  LayerProfile layer;
  if (!entry.is_object() || !get(entry, "name", layer.name) ||
      !get(entry, "experts", layer.experts) || !get(entry, "k", layer.k) ||
      !get(entry, "hidden", layer.hidden) || !get(entry, "router", layer.router) ||
      !get(entry, "weight_hash", layer.weightHash) || !entry.contains("statistics") ||
      !entry["statistics"].is_object())
    return refuse(path, "layer " + Twine(profile.layers.size()) +
                            " needs \"name\", \"experts\", \"k\", \"hidden\", \"router\", "
                            "\"weight_hash\" and \"statistics\"");
  for (auto &[name, rule] : entry["statistics"].items())
    if (llvm::Error error = statistic(layer, name, rule))
      return error;
  if (auto kept = entry.find("reservoir"); kept != entry.end())
    if (llvm::Error error = reservoir(layer, *kept))
      return error;
  profile.layers.push_back(std::move(layer));
  return llvm::Error::success();
}

llvm::Error Reader::statistic(LayerProfile &layer, const std::string &name, const json &rule) {
  Statistic statistic;
  if (rule != "sum" && rule != "max")
    return refuse(path, "layer " + shown(layer.name) + ": statistic " + shown(name) +
                            " has an unknown merging rule");
  statistic.rule = rule == "max" ? MergeRule::max : MergeRule::sum;
  const SafeTensor *tensor = nullptr;
  if (llvm::Error error = copy(layer.name + "/" + name, tensor, statistic.values))
    return error;
  if (tensor->shape.empty() || size_t(tensor->shape[0]) != profile.labels.size())
    return refuse(path, "layer " + shown(layer.name) + ": statistic " + shown(name) +
                            " does not have one value for each of the " +
                            Twine(profile.labels.size()) + " labels");
  statistic.shape.assign(tensor->shape.begin() + 1, tensor->shape.end());
  layer.statistics[name] = std::move(statistic);
  return llvm::Error::success();
}

llvm::Error Reader::reservoir(LayerProfile &layer, const json &entry) {
  if (!entry.is_number_unsigned() || entry.get<uint64_t>() > uint64_t(INT64_MAX))
    return refuse(path, "layer " + shown(layer.name) + ": its reservoir's capacity is no number");
  const bool wanted = !reservoirOf || *reservoirOf == layer.name;
  if (wanted)
    layer.reservoir.capacity = entry.get<int64_t>();
  llvm::Error error = llvm::Error::success();
  eachOfReservoir(layer, [&](const char *name, int64_t, auto &values) {
    const SafeTensor *tensor = nullptr;
    const std::string full = layer.name + "/reservoir." + name;
    if (!wanted)
      used.insert(file.find(full)); // counted as read
    else if (!error)
      error = copy(full, tensor, values);
  });
  return error;
}

} // namespace

llvm::Error moec::writeProfile(const Profile &profile, StringRef path) {
  if (llvm::Error error = checkProfile(profile))
    return refuse(path, "cannot write: " + llvm::toString(std::move(error)));
  int64_t labels = int64_t(profile.labels.size());
  std::vector<SafeTensor> tensors;
  json layers = json::array();
  for (const LayerProfile &layer : profile.layers) {
    json rules = json::object();
    for (auto &[name, statistic] : layer.statistics) {
      rules[name] = statistic.rule == MergeRule::max ? "max" : "sum";
      std::vector<int64_t> shape{labels};
      shape.insert(shape.end(), statistic.shape.begin(), statistic.shape.end());
      tensors.push_back(toTensor(layer.name + "/" + name, std::move(shape), statistic.values));
    }
    layers.push_back({{"name", layer.name},
                      {"experts", layer.experts},
                      {"k", layer.k},
                      {"hidden", layer.hidden},
                      {"router", llvm::json::fixUTF8(layer.router)},
                      {"weight_hash", llvm::json::fixUTF8(layer.weightHash)},
                      {"statistics", rules}});
    if (!layer.reservoir.capacity)
      continue;
    layers.back()["reservoir"] = layer.reservoir.capacity;
    eachOfReservoir(layer, [&](const char *name, int64_t width, auto &values) {
      std::vector<int64_t> shape{layer.reservoir.tokens()};
      if (width)
        shape.push_back(width);
      tensors.push_back(toTensor(layer.name + "/reservoir." + name, std::move(shape), values));
    });
  }
  json head = {{"model", llvm::json::fixUTF8(profile.model)},
               {"labels", profile.labels},
               {"layers", layers}};
  return writeSafeTensors(
      path,
      {{"format", kFormat.str()}, {"version", std::to_string(kVersion)}, {"profile", head.dump()}},
      tensors);
}

llvm::Expected<Profile> moec::readProfile(StringRef path, std::optional<StringRef> reservoirOf) {
  auto file = SafeTensors::open(path);
  if (!file)
    return file.takeError();
  Reader reader{path, *file, reservoirOf, {}, {}};
  if (llvm::Error error = reader.head())
    return error;
  if (llvm::Error error = checkProfile(reader.profile))
    return refuse(path, llvm::toString(std::move(error)));
  return std::move(reader.profile);
}
