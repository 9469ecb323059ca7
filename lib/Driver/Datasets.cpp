#include "Datasets.h"

#include "moec/Driver/Error.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SHA256.h"

#include <algorithm>
#include <map>
#include <set>

using namespace moec;
using llvm::StringRef;

namespace {

// The .npy files of a folder, by name.
std::vector<std::string> textsIn(StringRef folder) {
  std::vector<std::string> files;
  std::error_code error;
  for (llvm::sys::fs::directory_iterator it(folder, error), end; it != end && !error;
       it.increment(error))
    if (StringRef(it->path()).ends_with(".npy"))
      files.push_back(it->path());
  llvm::sort(files);
  return files;
}

llvm::Error addText(DataFiles &data, StringRef file, StringRef label) {
  auto ids = readTokens(file);
  if (!ids)
    return ids.takeError();
  StringRef name = label.empty() ? llvm::sys::path::stem(file) : label;
  data.texts.push_back({name.str(), file.str(), std::move(*ids)});
  return llvm::Error::success();
}

llvm::Error addFolder(DataFiles &data, StringRef path, StringRef label) {
  auto folders = findTestSets(path);
  for (const std::string &folder : folders) {
    auto set = readTestSet(folder);
    if (!set)
      return set.takeError();
    set->outputs.clear(); // not needed
    data.sets.push_back(std::move(*set));
  }
  auto files = folders.empty() ? textsIn(path) : std::vector<std::string>();
  if (files.empty() && folders.empty())
    return fail(Exit::input, path + ": holds neither <label>.npy files of token ids nor "
                                    "test_data_set_* folders");
  for (const std::string &file : files)
    if (llvm::Error error = addText(data, file, label))
      return error;
  return llvm::Error::success();
}

// Runs of `rows` rows of arrays, all of which have as many.
llvm::Expected<std::vector<TestSet>> cut(const TestSet &set, int64_t rows) {
  std::vector<TestSet> parts;
  const Tensor &first = set.inputs.front();
  for (const Tensor &input : set.inputs)
    if (input.shape.empty() || first.shape.empty() || input.shape[0] != first.shape[0])
      return fail(Exit::input, (set.folder.empty() ? "" : set.folder + ": ") + "--rows: inputs of " +
                                   describe(first) + " and " + describe(input) +
                                   " do not have the same number of rows");
  int64_t all = first.shape[0];
  for (int64_t at = 0; at < all; at += rows) {
    TestSet &part = parts.emplace_back();
    part.folder = llvm::formatv("{0}, rows from {1}", set.folder.empty() ? "the arrays" : set.folder,
                                at);
    int64_t n = std::min(rows, all - at);
    for (const Tensor &input : set.inputs) {
      size_t bytes = input.data.size() / size_t(all);
      Tensor &to = part.inputs.emplace_back();
      to.type = input.type, to.name = input.name, to.shape = input.shape;
      to.shape[0] = n;
      auto begin = input.data.begin() + at * int64_t(bytes);
      to.data.assign(begin, begin + n * int64_t(bytes));
    }
  }
  return parts;
}

std::string keyOf(const DataFiles &data) {
  llvm::SHA256 hash;
  auto add = [&](const auto &numbers) {
    hash.update(StringRef(reinterpret_cast<const char *>(numbers.data()),
                          numbers.size() * sizeof(numbers[0])));
  };
  for (const DataFiles::Text &text : data.texts) {
    hash.update(text.label);
    add(text.ids);
  }
  for (const TestSet &set : data.sets)
    for (const Tensor &input : set.inputs) {
      hash.update(input.name + describe(input));
      add(input.data);
    }
  return llvm::toHex(hash.final(), /*LowerCase=*/true).substr(0, 16);
}

// A model that is known by its inputs and outputs only.
struct Shape : Executor {
  Signature values;
  explicit Shape(const Signature &values) : values(values) {}
  const Signature &signature() const override { return values; }
  llvm::Expected<std::vector<Tensor>> run(llvm::ArrayRef<Tensor>) override {
    return fail(Exit::internal, "a signature does not run");
  }
};

} // namespace

llvm::Expected<std::vector<int64_t>> moec::readTokens(llvm::StringRef path) {
  auto tensor = readNpy(path);
  if (!tensor)
    return tensor.takeError();
  if (isFloat(tensor->type) || tensor->shape.size() != 1)
    return fail(Exit::input, path + ": wants a list of token ids, got " + describe(*tensor));
  std::vector<int64_t> ids(tensor->count());
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = int64_t(tensor->at(int64_t(i)));
  return ids;
}

llvm::Expected<std::shared_ptr<const DataFiles>>
DataFiles::read(llvm::ArrayRef<std::string> paths, StringRef label, int64_t rows) {
  auto data = std::make_shared<DataFiles>();
  data->setLabel = label.empty() ? "data" : label.str();
  TestSet arrays;
  for (StringRef path : paths) {
    if (auto [name, file] = path.split('='); !file.empty()) {
      auto tensor = file.ends_with(".pb") ? readTensorProto(file) : readNpy(file);
      if (!tensor)
        return tensor.takeError();
      tensor->name = name.str();
      arrays.inputs.push_back(std::move(*tensor));
      continue;
    }
    if (!llvm::sys::fs::exists(path))
      return fail(Exit::input, path + ": no such file or folder");
    if (llvm::Error error = llvm::sys::fs::is_directory(path) ? addFolder(*data, path, label)
                                                              : addText(*data, path, label))
      return error;
  }
  if (!arrays.inputs.empty())
    data->sets.push_back(std::move(arrays));
  if (data->texts.empty() && data->sets.empty())
    return fail(Exit::usage, "no data is given");
  for (TestSet &set : std::exchange(data->sets, {})) {
    if (rows <= 0 || set.inputs.empty() || set.inputs.front().count() == 0) {
      data->sets.push_back(std::move(set));
      continue;
    }
    auto parts = cut(set, rows);
    if (!parts)
      return parts.takeError();
    std::move(parts->begin(), parts->end(), std::back_inserter(data->sets));
  }
  data->key = keyOf(*data);
  return data;
}

int64_t Dataset::windowsOf(const DataFiles::Text &text) const {
  int64_t all = (int64_t(text.ids.size()) - options.targets) / options.window - options.first;
  return options.windows ? std::min(all, options.windows) : all;
}

llvm::Expected<Dataset> Dataset::over(std::shared_ptr<const DataFiles> files, DataOptions options) {
  Dataset data;
  data.files = std::move(files);
  data.options = std::move(options);
  for (const DataFiles::Text &text : data.files->texts)
    if (data.windowsOf(text) < 1)
      return fail(Exit::input,
                  text.file + ": " + llvm::Twine(text.ids.size()) +
                      " tokens are too few for a window of " + llvm::Twine(data.options.window) +
                      (data.options.first ? " behind the ones left out" : ""));
  return data;
}

llvm::Expected<Dataset> Dataset::open(llvm::ArrayRef<std::string> paths, const DataOptions &options,
                                      StringRef label, int64_t rows) {
  auto files = DataFiles::read(paths, label, rows);
  if (!files)
    return files.takeError();
  return over(std::move(*files), options);
}

llvm::Error Dataset::planTexts() {
  auto created = TextModel::create(*shape, options.sizes);
  if (!created)
    return created.takeError();
  text.emplace(std::move(*created));
  auto fixed = text->fixedBatch();
  int64_t batch = fixed ? *fixed : std::max<int64_t>(1, options.tokens / options.window);
  if (text->limit() && *text->limit() != options.window)
    return fail(Exit::usage, "the model takes " + llvm::Twine(*text->limit()) +
                                 " tokens at once: use that as --window");
  std::map<std::string, int64_t> next; // texts of one label follow each other
  for (auto [i, t] : llvm::enumerate(files->texts)) {
    int64_t windows = windowsOf(t);
    if (fixed)
      windows = windows / batch * batch;
    if (windows < 1)
      return fail(Exit::input,
                  t.file + ": too few windows for the model's batch of " + llvm::Twine(batch));
    for (int64_t first = 0; first < windows; first += batch)
      plan.push_back(
          {int64_t(i), first, std::min(batch, windows - first), next[t.label] + first});
    next[t.label] += windows;
  }
  return llvm::Error::success();
}

llvm::Expected<std::vector<Tensor>> Dataset::arrays(const TestSet &set) const {
  const Signature &signature = shape->signature();
  auto failed = [&](const llvm::Twine &why) {
    return fail(Exit::input, (set.folder.empty() ? "" : set.folder + ": ") + why);
  };
  std::set<StringRef> given;
  for (const Tensor &input : set.inputs)
    given.insert(input.name);
  if (!given.count("")) // named: say which one is wrong
    for (const ValueInfo &input : signature.inputs)
      if (set.inputs.size() < signature.inputs.size() && !given.count(input.name))
        return failed("no array for the input \"" + input.name + "\"");
  auto ordered = orderInputs(signature, set.inputs);
  if (!ordered)
    return failed(llvm::toString(ordered.takeError()));
  if (llvm::all_of(*ordered, [](const Tensor &input) { return input.count() == 0; }))
    return failed("empty data: the inputs have no elements");
  return ordered;
}

llvm::Error Dataset::planSets() {
  int64_t all = int64_t(files->sets.size()) - options.firstSet, sequences = 0;
  int64_t count = options.sets ? std::min(options.sets, all) : all;
  for (int64_t i = options.firstSet; i < options.firstSet + count; ++i) {
    auto ordered = arrays(files->sets[size_t(i)]);
    if (!ordered)
      return ordered.takeError();
    int64_t n = 1;
    if (!ordered->empty() && ordered->front().shape.size() > 1)
      n = std::max<int64_t>(ordered->front().shape[0], 1);
    plan.push_back({-1, i, n, sequences});
    sequences += n;
  }
  return llvm::Error::success();
}

llvm::Error Dataset::chooseOutputs() {
  const std::vector<ValueInfo> &outputs = shape->signature().outputs;
  setOutputs.clear();
  for (StringRef name : options.outputs) {
    auto found = llvm::find_if(outputs, [&](const ValueInfo &out) { return out.name == name; });
    if (found == outputs.end()) {
      auto names = llvm::map_range(outputs, [](const ValueInfo &out) { return out.name; });
      return fail(Exit::usage, "--outputs " + name + ": the model has " + llvm::join(names, ", "));
    }
    if (!isFloat(found->type))
      return fail(Exit::usage, "--outputs " + name + ": holds no floats (" + describe(*found) + ")");
    setOutputs.push_back(size_t(found - outputs.begin()));
  }
  if (options.outputs.empty())
    for (auto [i, out] : llvm::enumerate(outputs))
      if (isFloat(out.type))
        setOutputs.push_back(i);
  return llvm::Error::success();
}

llvm::Error Dataset::bind(const Signature &signature) {
  shape = std::make_unique<Shape>(signature);
  plan.clear();
  if (llvm::Error error = chooseOutputs())
    return error;
  if (!files->texts.empty())
    if (llvm::Error error = planTexts())
      return error;
  return planSets();
}

std::vector<std::string> Dataset::labels() const {
  std::set<std::string> names;
  for (const DataFiles::Text &text : files->texts)
    names.insert(text.label);
  if (!files->sets.empty())
    names.insert(files->setLabel);
  return {names.begin(), names.end()};
}

int64_t Dataset::longest() const {
  std::map<int64_t, int64_t> runs;
  int64_t most = 0;
  for (const Part &part : plan)
    most = std::max(most, ++runs[part.text]);
  return most;
}

std::string Dataset::key() const {
  std::string sizes;
  for (const auto &[name, size] : options.sizes)
    sizes += name + "=" + std::to_string(size) + " ";
  return llvm::formatv("{0} {1}x{2}+{3} {4}+{5} {6} {7}", files->key, options.window, options.windows,
                       options.first, options.sets, options.firstSet,
                       llvm::join(options.outputs, ","), sizes);
}

llvm::Expected<DataRun> Dataset::run(int64_t index) const {
  const Part &part = plan[size_t(index)];
  if (part.text < 0) {
    const TestSet &set = files->sets[size_t(part.first)];
    auto ordered = arrays(set);
    if (!ordered)
      return ordered.takeError();
    return DataRun{files->setLabel, set.folder.empty() ? "the arrays" : set.folder, part.count,
                   part.sequence, 0, std::move(*ordered), {}, setOutputs};
  }
  const DataFiles::Text &t = files->texts[size_t(part.text)];
  int64_t first = options.first + part.first, tokens = part.count * options.window;
  auto ids = llvm::ArrayRef(t.ids).slice(size_t(first * options.window));
  DataRun run{t.label,
              llvm::formatv("{0}, windows {1} to {2}", t.file, first, first + part.count - 1).str(),
              part.count, part.sequence, tokens,
              text->batch(ids.take_front(size_t(tokens)), part.count), {}, {text->logitsOutput()}};
  if (options.targets)
    run.targets = ids.slice(1, size_t(tokens)).vec();
  return run;
}
