// The file of --expert-mask: {"layers": {NAME: {"keep": [ids]} or any of "mask", "scale", "bias"}}.
#include "Executors.h"
#include "Files.h"

#include "moert/moert.h"

#include "llvm/Support/MemoryBuffer.h"

#include <nlohmann/json.hpp>

using namespace moec;
using nlohmann::json;

namespace {

struct Settings {
  std::vector<float> scale, bias;
  std::vector<uint8_t> keep;
};

llvm::Error idsOf(const json &list, std::vector<uint8_t> &keep, uint8_t value) {
  if (!list.is_array())
    return fail(Exit::input, "keep and mask are lists of expert ids");
  for (const json &id : list) {
    if (!id.is_number_integer() || id < 0 || id >= keep.size())
      return fail(Exit::input, id.dump() + " is not one of its " + llvm::Twine(keep.size()) +
                                   " experts");
    keep[id.get<size_t>()] = value;
  }
  return llvm::Error::success();
}

llvm::Error numbersOf(const json &list, llvm::StringRef key, size_t experts,
                      std::vector<float> &numbers) {
  bool good = list.is_array() && list.size() == experts &&
              llvm::all_of(list, [](const json &n) { return n.is_number(); });
  if (!good)
    return fail(Exit::input, key + " is a list of a number for each of its " +
                                 llvm::Twine(experts) + " experts");
  numbers = list.get<std::vector<float>>();
  return llvm::Error::success();
}

llvm::Error settingsOf(const json &entry, size_t experts, Settings &out) {
  if (!entry.is_object() || entry.empty())
    return fail(Exit::input, "its settings are keep, mask, scale or bias");
  if (entry.contains("keep") || entry.contains("mask"))
    out.keep.assign(experts, entry.contains("keep") ? 0 : 1);
  for (const auto &[key, value] : entry.items()) {
    if (key == "keep" || key == "mask") {
      if (key == "mask" && entry.contains("keep"))
        return fail(Exit::input, "keep and mask exclude each other");
      if (llvm::Error error = idsOf(value, out.keep, key == "keep"))
        return error;
    } else if (key == "scale" || key == "bias") {
      if (llvm::Error error = numbersOf(value, key, experts, key == "scale" ? out.scale : out.bias))
        return error;
    } else {
      return fail(Exit::input, "there is no setting \"" + key + "\": keep, mask, scale or bias");
    }
  }
  return llvm::Error::success();
}

llvm::Error apply(CompiledModel &model, const std::string &layer, const json &entry) {
  size_t experts = 0; // of a layer that does not exist: the runtime refuses it
  for (size_t i = 0; const moert_hook_info *hook = model.hook(i); ++i)
    if (layer == hook->layer)
      experts = hook->experts;
  Settings s;
  if (experts)
    if (llvm::Error error = settingsOf(entry, experts, s))
      return fail(Exit::input, "layer \"" + layer + "\": " + llvm::toString(std::move(error)));
  auto list = [](auto &values) { return values.empty() ? nullptr : values.data(); };
  moert_routing routing = {list(s.scale), list(s.bias), list(s.keep)};
  moert_error error;
  if (moert_session_set_routing(model.handle(), layer.c_str(), &routing, experts, &error))
    return fail(Exit::input, error.message);
  return llvm::Error::success();
}

} // namespace

llvm::Error moec::applyExpertMask(CompiledModel &model, llvm::StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return fail(Exit::input, path + ": " + buffer.getError().message());
  llvm::StringRef text = (*buffer)->getBuffer();
  json file = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!file.is_object() || file.size() != 1 || !file.contains("layers") ||
      !file["layers"].is_object())
    return fail(Exit::input, path + ": not an object {\"layers\": {NAME: SETTINGS}} in JSON");
  for (const auto &[layer, entry] : file["layers"].items())
    if (llvm::Error error = apply(model, layer, entry))
      return fail(Exit::input, path + ": " + llvm::toString(std::move(error)));
  return llvm::Error::success();
}
