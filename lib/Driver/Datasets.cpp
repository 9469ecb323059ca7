#include "Datasets.h"

#include "Evaluation.h"

#include "moec/Driver/Error.h"
#include "moec/Driver/TextGenerator.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

#include <algorithm>
#include <map>
#include <set>

using namespace moec;
using llvm::StringRef;

// The .npy files of a folder, by name.
static std::vector<std::string> textsIn(StringRef folder) {
  std::vector<std::string> files;
  std::error_code error;
  for (llvm::sys::fs::directory_iterator it(folder, error), end; it != end && !error;
       it.increment(error))
    if (StringRef(it->path()).ends_with(".npy"))
      files.push_back(it->path());
  llvm::sort(files);
  return files;
}

llvm::Error Dataset::addText(StringRef file, const DataOptions &options) {
  auto ids = readTokens(file);
  if (!ids)
    return ids.takeError();
  Text text{options.label, file.str(), std::move(*ids)};
  if (text.label.empty())
    text.label = llvm::sys::path::stem(file).str();
  text.windows = int64_t(text.ids.size()) / options.window;
  if (text.windows < 1)
    return fail(Exit::input, file + ": " + llvm::Twine(text.ids.size()) +
                                 " tokens are too few for a window of " +
                                 llvm::Twine(options.window));
  if (options.windows)
    text.windows = std::min(text.windows, options.windows);
  texts.push_back(std::move(text));
  return llvm::Error::success();
}

llvm::Expected<Dataset> Dataset::open(llvm::ArrayRef<std::string> paths,
                                      const DataOptions &options) {
  Dataset data;
  data.options = options;
  data.setLabel = options.label.empty() ? "data" : options.label;
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
    if (!llvm::sys::fs::is_directory(path)) {
      if (llvm::Error error = data.addText(path, options))
        return error;
      continue;
    }
    auto folders = findTestSets(path);
    for (const std::string &folder : folders) {
      auto set = readTestSet(folder);
      if (!set)
        return set.takeError();
      data.sets.push_back(std::move(*set));
    }
    auto files = folders.empty() ? textsIn(path) : std::vector<std::string>();
    if (files.empty() && folders.empty())
      return fail(Exit::input, path + ": holds neither <label>.npy files of token ids nor "
                                      "test_data_set_* folders");
    for (const std::string &file : files)
      if (llvm::Error error = data.addText(file, options))
        return error;
  }
  if (!arrays.inputs.empty())
    data.sets.push_back(std::move(arrays));
  if (data.texts.empty() && data.sets.empty())
    return fail(Exit::usage, "no data is given");
  return data;
}

llvm::Error Dataset::bind(Executor &model) {
  executor = &model;
  plan.clear();
  if (!texts.empty()) {
    auto text = TextModel::create(model);
    if (!text)
      return text.takeError();
    auto fixed = text->fixedBatch();
    int64_t batch = fixed ? *fixed : std::max<int64_t>(1, options.tokens / options.window);
    if (text->limit() && *text->limit() != options.window)
      return fail(Exit::usage, "the model takes " + llvm::Twine(*text->limit()) +
                                   " tokens at once: use that as --window");
    std::map<std::string, int64_t> next; // texts of one label follow each other
    for (Text &t : texts) {
      if (fixed)
        t.windows = t.windows / batch * batch;
      if (t.windows < 1)
        return fail(Exit::input,
                    t.file + ": too few windows for the model's batch of " + llvm::Twine(batch));
      for (int64_t first = 0; first < t.windows; first += batch)
        plan.push_back({&t, first, std::min(batch, t.windows - first), next[t.label] + first});
      next[t.label] += t.windows;
    }
  }
  for (auto [i, set] : llvm::enumerate(sets)) {
    auto ordered = orderInputs(model.signature(), std::move(set.inputs));
    if (!ordered)
      return ordered.takeError();
    set.inputs = std::move(*ordered);
    plan.push_back({nullptr, int64_t(i), 1, 0});
  }
  int64_t sequences = 0;
  for (Part &part : plan)
    if (!part.text) {
      const std::vector<int64_t> &shape = sets[part.first].inputs.front().shape;
      part.count = shape.size() > 1 ? std::max<int64_t>(shape[0], 1) : 1;
      part.sequence = sequences;
      sequences += part.count;
    }
  return llvm::Error::success();
}

std::vector<std::string> Dataset::labels() const {
  std::set<std::string> names;
  for (const Text &text : texts)
    names.insert(text.label);
  if (!sets.empty())
    names.insert(setLabel);
  return {names.begin(), names.end()};
}

llvm::Expected<DataRun> Dataset::run(int64_t index) const {
  const Part &part = plan[index];
  if (!part.text) {
    const TestSet &set = sets[part.first];
    return DataRun{setLabel, set.folder.empty() ? "the arrays" : set.folder, part.count,
                   part.sequence, set.inputs};
  }
  const Text &text = *part.text;
  auto model = TextModel::create(*executor);
  if (!model)
    return model.takeError();
  llvm::ArrayRef<int64_t> ids = text.ids;
  auto inputs =
      model->batch(ids.slice(part.first * options.window, part.count * options.window), part.count);
  return DataRun{text.label,
                 (text.file + ", windows " + llvm::Twine(part.first) + " to " +
                  llvm::Twine(part.first + part.count - 1))
                     .str(),
                 part.count, part.sequence, std::move(inputs)};
}
