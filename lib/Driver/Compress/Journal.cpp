#include "Journal.h"

#include "Compressor.h"

#include "moec/Driver/Error.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>

using namespace moec;
using llvm::StringRef;
using nlohmann::json;

void Journal::load(std::string file) {
  path = std::move(file);
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return; // the first run
  llvm::SmallVector<StringRef> lines;
  (*buffer)->getBuffer().split(lines, '\n', -1, false);
  for (StringRef line : lines) {
    json entry = json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
    if (entry.is_object() && entry.contains("key") && entry.contains("value"))
      values[entry["key"]] = entry["value"];
  }
}

const json *Journal::find(const std::string &key) const {
  auto it = values.find(key);
  return it == values.end() ? nullptr : &it->second;
}

llvm::Error Journal::add(const std::string &key, const json &value) {
  values[key] = value;
  std::error_code code;
  llvm::raw_fd_ostream os(path, code, llvm::sys::fs::OF_Append);
  if (code)
    return fail(Exit::resource, path + ": cannot write: " + code.message());
  os << json{{"key", key}, {"value", value}}.dump() << "\n";
  return llvm::Error::success();
}

namespace {

// The sums of a Loss by their names in the journal.
constexpr std::pair<const char *, double Loss::*> kSums[] = {
    {"nll", &Loss::nll},           {"kl", &Loss::kl},           {"seconds", &Loss::seconds},
    {"difference", &Loss::difference}, {"original", &Loss::original},
    {"squares", &Loss::squares},   {"product", &Loss::product},   {"overlap", &Loss::overlap}};
constexpr std::pair<const char *, int64_t Loss::*> kCounts[] = {
    {"windows", &Loss::windows}, {"tokens", &Loss::tokens}, {"kl_tokens", &Loss::klTokens},
    {"agreed", &Loss::agreed}};

} // namespace

json moec::toJson(const Compressor::Result &result) {
  json labels = json::object(), layers = json::array();
  for (const auto &[label, loss] : result.quality.labels) {
    for (auto [name, sum] : kSums)
      labels[label][name] = loss.*sum; // null when it is infinite
    for (auto [name, count] : kCounts)
      labels[label][name] = loss.*count;
  }
  for (const LayerShape &layer : result.layers)
    layers.push_back({layer.experts, layer.neurons, layer.origin});
  return {{"labels", labels},
          {"weight_bytes", result.sizes.weights},
          {"expert_bytes", result.sizes.experts},
          {"layers", layers},
          {"cosines", result.cosines}, // null where it is not known
          {"pre_logit_rank", result.preLogitRank},
          {"remarks", result.remarks}};
}

Compressor::Result moec::resultOf(const json &value) {
  Compressor::Result result;
  for (const auto &[label, entry] : value.at("labels").items()) {
    Loss &loss = result.quality.labels[label];
    for (auto [name, sum] : kSums)
      loss.*sum = entry.at(name).is_number() ? entry.at(name).get<double>() : INFINITY;
    for (auto [name, count] : kCounts)
      loss.*count = entry.at(name);
  }
  result.sizes = {value.at("weight_bytes"), value.at("expert_bytes")};
  for (const json &layer : value.at("layers"))
    result.layers.push_back({layer.at(0), layer.at(1), layer.at(2)});
  for (const json &cosine : value.at("cosines"))
    result.cosines.push_back(cosine.is_number() ? cosine.get<double>() : NAN);
  if (const json &rank = value.at("pre_logit_rank"); rank.is_number())
    result.preLogitRank = rank;
  result.remarks = value.at("remarks");
  return result;
}
