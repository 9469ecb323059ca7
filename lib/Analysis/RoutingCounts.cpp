#include "moec/Analysis/RoutingCounts.h"
#include "Text.h"

#include "moec/Analysis/Statistics.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <set>

using namespace moec;
using llvm::StringRef;
using llvm::Twine;
using nlohmann::json;
using Values = std::vector<double>;
namespace fs = llvm::sys::fs;
namespace path = llvm::sys::path;

namespace {

// Parsed text needs many times its bytes.
constexpr uint64_t kFileLimit = 64 << 20;
constexpr int64_t kExpertsLimit = 1 << 14;

struct Reader {
  StringRef file;
  const json &root;
  Profile profile;

  llvm::Error bad(const Twine &what) const { return refuse(file, what); }
  const json *member(const json &object, const char *key) const {
    auto found = object.is_object() ? object.find(key) : object.end();
    return object.is_object() && found != object.end() ? &*found : nullptr;
  }
  /// A whole number from `low` to `high`; `otherwise` when there is none of that name.
  llvm::Expected<int64_t> whole(const json &object, const char *key, int64_t low, int64_t high,
                                std::optional<int64_t> otherwise = std::nullopt) const;
  llvm::Expected<Values> numbers(const json *list, const Twine &name, int64_t size) const;
  llvm::Expected<std::vector<std::string>> layerNames(size_t count) const;

  LayerProfile &addLayer(std::string name, int64_t experts, int64_t k);
  void set(LayerProfile &layer, StringRef name, Values values) const;

  llvm::Error counts(const json &rows);
  llvm::Error choices(const json &ids);
  llvm::Error choice(const json &row, size_t token, int64_t experts, int64_t k,
                     std::vector<int64_t> &ids) const;
  llvm::Error sequences(LayerProfile &layer, const json &names,
                        const std::vector<std::vector<int64_t>> &rows) const;
  llvm::Error pairs(const json &layers);
  llvm::Error listed(LayerProfile &layer, const json *list, Values counts) const;
  llvm::Error read();
};

llvm::Expected<int64_t> Reader::whole(const json &object, const char *key, int64_t low,
                                      int64_t high, std::optional<int64_t> otherwise) const {
  const json *value = member(object, key);
  if (!value && otherwise)
    return *otherwise;
  if (!value || !value->is_number_integer() || *value < low || *value > high)
    return bad("\"" + Twine(key) + "\" is no whole number from " + Twine(low) + " to " +
               Twine(high));
  return value->get<int64_t>();
}

llvm::Expected<Values> Reader::numbers(const json *list, const Twine &name, int64_t size) const {
  if (!list || !list->is_array() || int64_t(list->size()) != size)
    return bad(name + " is no list of " + Twine(size) + " numbers");
  Values values;
  for (const json &value : *list) {
    if (!value.is_number())
      return bad(name + " is no list of " + Twine(size) + " numbers");
    values.push_back(value.get<double>());
  }
  return values;
}

/// "layers" is a list of numbers or texts, one text of comma-separated names, or absent.
llvm::Expected<std::vector<std::string>> Reader::layerNames(size_t count) const {
  std::vector<std::string> names;
  const json *given = member(root, "layers");
  if (given && given->is_string()) {
    llvm::SmallVector<StringRef> parts;
    StringRef(given->get_ref<const std::string &>()).split(parts, ',');
    for (StringRef part : parts)
      names.push_back(part.trim().str());
  } else if (given && given->is_array()) {
    for (const json &value : *given)
      names.push_back(value.is_number_unsigned() ? "layer" + std::to_string(value.get<uint64_t>())
                      : value.is_string()        ? value.get<std::string>()
                                                 : "");
  } else {
    for (size_t i = 0; i < count; ++i)
      names.push_back("layer" + std::to_string(i));
  }
  if (names.size() != count)
    return bad("\"layers\" names " + Twine(names.size()) + " layers, \"logical_count\" has " +
               Twine(count));
  return names;
}

LayerProfile &Reader::addLayer(std::string name, int64_t experts, int64_t k) {
  LayerProfile &layer = profile.layers.emplace_back();
  layer.name = std::move(name);
  layer.experts = experts;
  layer.k = k;
  return layer;
}

void Reader::set(LayerProfile &layer, StringRef name, Values values) const {
  const StatisticInfo *info = statisticInfo(name);
  layer.statistics[name.str()] = {info->rule, *shapeOf(*info, layer), std::move(values)};
}

llvm::Error Reader::counts(const json &rows) {
  if (!rows.is_array() || rows.empty() || !rows[0].is_array() || rows[0].empty() ||
      int64_t(rows[0].size()) > kExpertsLimit)
    return bad("\"logical_count\" is no table of layers and experts");
  int64_t experts = int64_t(rows[0].size());
  auto names = layerNames(rows.size());
  if (!names)
    return names.takeError();
  auto said = whole(root, "experts", experts, experts, experts);
  if (!said)
    return said.takeError();
  auto k = whole(root, "top_k", 1, experts, 0);
  if (!k)
    return k.takeError();
  for (size_t i = 0; i < rows.size(); ++i) {
    auto counts = numbers(&rows[i], "\"logical_count\" of layer " + Twine(i), experts);
    if (!counts)
      return counts.takeError();
    double sum = 0;
    for (double count : *counts)
      sum += count;
    if (sum == 0)
      continue;
    LayerProfile &layer = addLayer((*names)[i], experts, *k);
    set(layer, moec::stat::count, std::move(*counts));
    if (*k && std::fmod(sum, double(*k)) == 0) // else some slots were empty: tokens are not known
      set(layer, moec::stat::tokens, {sum / double(*k)});
  }
  return llvm::Error::success();
}

llvm::Error Reader::choice(const json &row, size_t token, int64_t experts, int64_t k,
                           std::vector<int64_t> &ids) const {
  if (!row.is_array() || int64_t(row.size()) != k)
    return bad("\"topk_ids\" of token " + Twine(token) + " is no list of " + Twine(k) + " ids");
  for (const json &value : row) {
    int64_t id =
        value.is_number_integer() && value >= -1 && value < experts ? value.get<int64_t>() : -2;
    if (id < -1 || (id >= 0 && llvm::is_contained(ids, id)))
      return bad("\"topk_ids\" of token " + Twine(token) + " has an id twice, or one that is not " +
                 "from 0 to " + Twine(experts - 1));
    ids.push_back(id); // -1: an empty slot
  }
  return llvm::Error::success();
}

llvm::Error Reader::choices(const json &ids) {
  if (!ids.is_array() || ids.empty() || !ids[0].is_array() || ids[0].empty())
    return bad("\"topk_ids\" is no table of tokens and slots");
  auto experts = whole(root, "experts", 1, kExpertsLimit);
  if (!experts)
    return experts.takeError();
  auto k = whole(root, "top_k", 1, *experts, int64_t(ids[0].size()));
  if (!k)
    return k.takeError();
  auto number = whole(root, "layer", 0, INT32_MAX, 0);
  if (!number)
    return number.takeError();
  const json *gates = member(root, "topk_weights");
  if (gates && (!gates->is_array() || gates->size() != ids.size()))
    return bad("\"topk_weights\" does not have a row for each row of \"topk_ids\"");

  size_t n = size_t(*experts);
  Values counts(n), ranks(n * size_t(*k)), both(n * n), sums(n), squares(n);
  std::vector<std::vector<int64_t>> rows(ids.size());
  for (size_t t = 0; t < ids.size(); ++t) {
    if (llvm::Error error = choice(ids[t], t, *experts, *k, rows[t]))
      return error;
    Values weights(size_t(*k), 0);
    if (gates) {
      auto given = numbers(&(*gates)[t], "\"topk_weights\" of token " + Twine(t), *k);
      if (!given)
        return given.takeError();
      weights = std::move(*given);
    }
    for (size_t slot = 0; slot < rows[t].size(); ++slot) {
      if (rows[t][slot] < 0)
        continue;
      size_t e = size_t(rows[t][slot]);
      ++counts[e];
      ++ranks[e * size_t(*k) + slot];
      sums[e] += weights[slot];
      squares[e] += weights[slot] * weights[slot];
      for (int64_t other : rows[t])
        if (other >= 0)
          ++both[e * n + size_t(other)];
    }
  }
  LayerProfile &layer = addLayer("layer" + std::to_string(*number), *experts, *k);
  set(layer, moec::stat::tokens, {double(ids.size())});
  set(layer, moec::stat::count, std::move(counts));
  set(layer, moec::stat::rankCount, std::move(ranks));
  set(layer, moec::stat::coactivation, std::move(both));
  if (gates) {
    set(layer, moec::stat::gateSum, std::move(sums));
    set(layer, moec::stat::gateSquares, std::move(squares));
  }
  const json *names = member(root, "req_id");
  return names ? sequences(layer, *names, rows) : llvm::Error::success();
}

llvm::Error Reader::sequences(LayerProfile &layer, const json &names,
                              const std::vector<std::vector<int64_t>> &rows) const {
  if (!names.is_array() || names.size() != rows.size())
    return bad("\"req_id\" does not have one entry for each token");
  std::map<std::string, std::vector<size_t>> tokens;
  for (size_t t = 0; t < rows.size(); ++t) {
    if (!names[t].is_string() && !names[t].is_number_integer())
      return bad("\"req_id\" of token " + Twine(t) + " is no text and no whole number");
    tokens[names[t].dump()].push_back(t);
  }
  size_t n = size_t(layer.experts);
  Values share(n), squares(n);
  for (auto &[name, members] : tokens) {
    Values counts(n);
    for (size_t t : members)
      for (int64_t id : rows[t])
        if (id >= 0)
          ++counts[size_t(id)];
    for (size_t e = 0; e < n; ++e) {
      double part = counts[e] / double(members.size() * size_t(layer.k));
      share[e] += part;
      squares[e] += part * part;
    }
  }
  set(layer, moec::stat::sequences, {double(tokens.size())});
  set(layer, moec::stat::sequenceShare, std::move(share));
  set(layer, moec::stat::sequenceShareSquares, std::move(squares));
  return llvm::Error::success();
}

llvm::Error Reader::pairs(const json &layers) {
  auto experts = whole(root, "n_expert_per_layer", 1, kExpertsLimit);
  if (!experts)
    return experts.takeError();
  auto k = whole(root, "k", 1, *experts, 0);
  if (!k)
    return k.takeError();
  auto tokens = whole(root, "n_decode_tokens", 0, int64_t(1) << 53, -1);
  if (!tokens)
    return tokens.takeError();
  if (!layers.is_array())
    return bad("\"layers\" is no list");
  for (const json &entry : layers) {
    auto number = whole(entry, "layer", 0, INT32_MAX);
    if (!number)
      return number.takeError();
    std::string name = "layer" + std::to_string(*number);
    auto counts = numbers(member(entry, "heat"), "\"heat\" of " + name, *experts);
    if (!counts)
      return counts.takeError();
    LayerProfile &layer = addLayer(name, *experts, *k);
    if (*tokens >= 0)
      set(layer, moec::stat::tokens, {double(*tokens)});
    set(layer, moec::stat::count, *counts);
    if (llvm::Error error = listed(layer, member(entry, "pairs"), std::move(*counts)))
      return error;
  }
  return llvm::Error::success();
}

llvm::Error Reader::listed(LayerProfile &layer, const json *list, Values counts) const {
  if (!list)
    return llvm::Error::success();
  size_t n = counts.size();
  Values both(n * n);
  for (size_t e = 0; e < n; ++e)
    both[e * n + e] = counts[e];
  for (const json &pair : list->is_array() ? *list : json::array({nullptr})) {
    auto id = [&](size_t at) {
      return pair[at].is_number_unsigned() && pair[at] < n ? pair[at].get<size_t>() : n;
    };
    if (!pair.is_array() || pair.size() < 3 || id(0) == n || id(1) == n || id(0) == id(1) ||
        !pair[2].is_number())
      return bad("\"pairs\" of " + layer.name + " is no list of two experts and a count");
    both[id(0) * n + id(1)] = both[id(1) * n + id(0)] = pair[2].get<double>();
  }
  set(layer, moec::stat::coactivationListed, std::move(both));
  return llvm::Error::success();
}

llvm::Error Reader::read() {
  if (const json *rows = member(root, "logical_count"))
    return counts(*rows);
  if (const json *ids = member(root, "topk_ids"))
    return choices(*ids);
  const json *layers = member(root, "layers");
  if (layers && layers->is_array() && !layers->empty() && member((*layers)[0], "heat"))
    return pairs(*layers);
  return bad("holds no routing counts: it has no \"logical_count\", no \"topk_ids\", and no "
             "\"layers\" with \"heat\"");
}

std::string labelOf(StringRef file, bool single) {
  StringRef name = path::stem(file), rest = name;
  int number = 0;
  bool isLayer = rest.consume_front("layer") && !rest.getAsInteger(10, number);
  StringRef folder = path::filename(path::parent_path(file));
  return (isLayer && !single && !folder.empty() ? folder : name).str();
}

llvm::Expected<Profile> readFile(StringRef file, bool single) {
  fs::file_status status;
  if (std::error_code error = fs::status(file, status))
    return refuse(file, "cannot be read: " + error.message());
  if (status.type() != fs::file_type::regular_file || status.getSize() > kFileLimit)
    return refuse(file, "cannot be read: it is no regular file of at most 64 MiB");
  auto buffer = llvm::MemoryBuffer::getFile(file);
  if (!buffer)
    return refuse(file, "cannot be read: " + buffer.getError().message());
  StringRef text = (*buffer)->getBuffer();
  json root = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!root.is_object())
    return refuse(file, "is no JSON object");
  Reader reader{file, root, {}};
  auto model = root.find("model");
  reader.profile.model = model != root.end() && model->is_string()
                             ? model->get<std::string>()
                             : path::filename(path::parent_path(file)).str();
  reader.profile.labels = {labelOf(file, single)};
  if (llvm::Error error = reader.read())
    return error;
  if (llvm::Error error = checkProfile(reader.profile))
    return refuse(file, llvm::toString(std::move(error)));
  return std::move(reader.profile);
}

/// Layers of the same label from several files, or labels of the same layers.
llvm::Error add(Profile &to, Profile part, StringRef file) {
  if (to.model != part.model)
    return refuse(file, "is of the model " + shown(part.model) +
                            ", other files of its folder are " + "of " + shown(to.model));
  bool disjoint = llvm::none_of(part.layers, [&](auto &layer) { return to.layer(layer.name); });
  if (disjoint && to.labels == part.labels) {
    std::move(part.layers.begin(), part.layers.end(), std::back_inserter(to.layers));
    return llvm::Error::success();
  }
  auto merged = mergeProfiles(to, part);
  if (!merged)
    return refuse(file, llvm::toString(merged.takeError()));
  to = std::move(*merged);
  return llvm::Error::success();
}

} // namespace

llvm::Expected<Profile> moec::readRoutingCounts(StringRef source) {
  if (!fs::is_directory(source))
    return readFile(source, /*single=*/true);
  // In the order of the numbers in their names: layer8 before layer12.
  auto before = [](const std::string &a, const std::string &b) {
    return StringRef(a).compare_numeric(b) < 0;
  };
  std::set<std::string, decltype(before)> files(before);
  std::error_code error;
  for (fs::directory_iterator it(source, error), end; it != end && !error; it.increment(error))
    if (path::extension(it->path()) == ".json")
      files.insert(it->path());
  if (error)
    return refuse(source, "cannot be read: " + error.message());
  if (files.empty())
    return refuse(source, "has no .json files");
  std::optional<Profile> all;
  for (const std::string &file : files) {
    auto part = readFile(file, /*single=*/false);
    if (!part)
      return part.takeError();
    if (!all)
      all = std::move(*part);
    else if (llvm::Error failed = add(*all, std::move(*part), file))
      return failed;
  }
  return std::move(*all);
}
