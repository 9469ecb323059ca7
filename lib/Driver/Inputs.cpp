// Inputs of a model: seeded random ones, and the checks of given ones.
#include "moec/Driver/Error.h"
#include "moec/Driver/Executor.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"

#include <cmath>
#include <numbers>

using namespace moec;
using llvm::StringRef;

namespace {

// splitmix64: the standard library's distributions differ between implementations.
struct Random {
  uint64_t state;
  uint64_t next() {
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  double uniform() { return (double(next() >> 11) + 0.5) * 0x1p-53; }
  double normal() {
    double r = std::sqrt(-2 * std::log(uniform()));
    return r * std::cos(2 * std::numbers::pi * uniform());
  }
};

int64_t defaultSize(StringRef symbol) {
  std::string lower = symbol.lower();
  if (StringRef(lower).contains("batch"))
    return 2;
  if (StringRef(lower).contains("past"))
    return 4;
  return 3;
}

// The size of one dimension under the sizes of the symbols.
llvm::Expected<int64_t> sizeOfDim(StringRef text, const InputOptions &options) {
  llvm::SmallVector<StringRef> terms;
  text.split(terms, '+');
  int64_t size = 0;
  for (StringRef term : terms) {
    term = term.trim();
    int64_t value;
    if (!term.getAsInteger(10, value))
      size += value;
    else if (auto it = options.dims.find(term.str()); it != options.dims.end())
      size += it->second;
    else
      size += defaultSize(term);
  }
  if (size < 0)
    return fail(Exit::usage, "dimension '" + text + "' has a negative size");
  return size;
}

void fill(Tensor &t, StringRef name, Random &random, const InputOptions &options, int64_t past) {
  bool mask = name.contains("mask"), position = name.contains("position") || name.contains("pos_ids");
  int64_t row = t.shape.empty() ? 1 : std::max<int64_t>(t.shape.back(), 1);
  uint64_t most = uint64_t(options.integers);
  if (bitsOf(t.type) < 8) // what a signed type of so many bits holds, too
    most = std::min(most, uint64_t(1) << (bitsOf(t.type) - 1));
  for (int64_t i = 0; i < t.count(); ++i) {
    if (isFloat(t.type))
      t.set(i, random.normal());
    else if (mask)
      t.set(i, 1);
    else if (position)
      t.set(i, double(past + i % row));
    else if (t.type == DType::boolean)
      t.set(i, double(random.next() & 1));
    else
      t.set(i, t.shape.empty() ? 0 : double(random.next() % most));
  }
}

} // namespace

llvm::Expected<std::vector<Tensor>> moec::makeInputs(const Signature &signature,
                                                     const InputOptions &options) {
  std::vector<Tensor> inputs;
  int64_t past = 0;
  for (const ValueInfo &info : signature.inputs) {
    std::vector<int64_t> shape;
    for (const std::string &dim : info.dims) {
      auto size = sizeOfDim(dim, options);
      if (!size)
        return size.takeError();
      shape.push_back(*size);
    }
    // The length of a key/value cache is where positions go on.
    if (StringRef(info.name).contains("past") && shape.size() == 4)
      past = shape[2];
    int64_t bytes = int64_t(sizeOf(info.type));
    for (int64_t d : shape)
      if (llvm::MulOverflow(bytes, d, bytes))
        return fail(Exit::usage, "input '" + info.name + "' would be too large");
    inputs.emplace_back(info.type, std::move(shape));
    inputs.back().name = info.name;
  }
  Random random{options.seed};
  for (Tensor &t : inputs)
    fill(t, t.name, random, options, past);
  return inputs;
}

std::string moec::describe(const ValueInfo &value) {
  return llvm::formatv("{0}: {1}[{2}]", value.name, nameOf(value.type),
                       llvm::join(value.dims, ", "));
}

static llvm::Error check(const ValueInfo &want, const Tensor &got) {
  auto wrong = [&](const llvm::Twine &why) {
    return fail(Exit::input, "input \"" + want.name + "\": " + why + " (wants " + describe(want) +
                                 ", got " + describe(got) + ")");
  };
  if (want.type != got.type)
    return wrong("wrong element type");
  if (want.dims.size() != got.shape.size())
    return wrong("wrong rank");
  for (auto [dim, size] : llvm::zip(want.dims, got.shape)) {
    int64_t fixed;
    if (!StringRef(dim).getAsInteger(10, fixed) && fixed != size)
      return wrong("wrong size");
  }
  return llvm::Error::success();
}

llvm::Expected<std::vector<Tensor>> moec::orderInputs(const Signature &signature,
                                                      std::vector<Tensor> given) {
  size_t wanted = signature.inputs.size();
  if (given.size() != wanted)
    return fail(Exit::input, llvm::formatv("{0} inputs given, the model has {1}", given.size(), wanted));
  std::vector<Tensor> ordered(wanted);
  std::map<std::string, size_t> byName;
  for (size_t i = 0; i < wanted; ++i)
    byName[signature.inputs[i].name] = i;
  std::vector<bool> filled(wanted);
  bool named = true;
  for (const Tensor &t : given) {
    auto it = byName.find(t.name);
    named = named && it != byName.end() && !filled[it->second];
    if (named)
      filled[it->second] = true;
  }
  for (size_t i = 0; i < wanted; ++i)
    ordered[named ? byName[given[i].name] : i] = std::move(given[i]);
  for (size_t i = 0; i < wanted; ++i) {
    // Exporters store scalars as tensors of one element.
    if (signature.inputs[i].dims.empty() && ordered[i].count() == 1)
      ordered[i].shape.clear();
    if (llvm::Error error = check(signature.inputs[i], ordered[i]))
      return error;
    ordered[i].name = signature.inputs[i].name;
  }
  return ordered;
}
