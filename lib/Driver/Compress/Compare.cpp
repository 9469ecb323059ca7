#include "Compare.h"

#include "Elimination.h"

#include "moec/Driver/Error.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

using namespace moec;
using nlohmann::json;

namespace {

struct Comparer {
  const CompressFlags &flags;
  Compressor &compressor;
  Progress &progress;
  Comparison out;

  llvm::Error add(const CompressMethod &method, Repair repair);
  llvm::Expected<bool> run(Recipe recipe, ComparedMethod &to);
};

} // namespace

// False when the method is not for this model.
llvm::Expected<bool> Comparer::run(Recipe recipe, ComparedMethod &to) {
  auto leave = [&](llvm::StringRef why) {
    std::string line = (recipe.method + ": " + why).str();
    if (!llvm::is_contained(out.skipped, line)) // plain and repaired
      out.skipped.push_back(std::move(line));
    return false;
  };
  std::string why;
  auto possible = completeRecipe(compressor, recipe, /*uniform=*/true, progress, why);
  if (!possible)
    return possible.takeError();
  if (!*possible)
    return leave(why);
  auto result = compressor.measureSupported(recipe, Compressor::Data::evaluation, why);
  if (!result)
    return result.takeError();
  if (!*result)
    return leave(why);
  if (std::string idle = compressor.leftWhole(recipe, **result); !idle.empty())
    return leave(idle);
  to.runs.push_back(std::move(**result));
  return true;
}

llvm::Error Comparer::add(const CompressMethod &method, Repair repair) {
  ComparedMethod compared{{method.name.str(), {}}, repair};
  const bool chance = method.name == "random" && repair == Repair::none;
  for (int seed = 0; seed < (chance ? std::max(flags.randomSeeds, 1) : 1); ++seed) {
    Recipe recipe;
    recipe.method = compared.name, recipe.keep = out.keep, recipe.repair = repair;
    recipe.seed = chance ? uint64_t(seed) : flags.seed, recipe.labels = flags.labels;
    auto done = run(recipe, compared);
    if (!done)
      return done.takeError();
    if (!*done)
      return llvm::Error::success();
  }
  out.methods.push_back(std::move(compared));
  return llvm::Error::success();
}

llvm::Expected<Comparison> moec::compareMethods(const CompressFlags &flags, Compressor &compressor,
                                                llvm::ArrayRef<int64_t> keep, Progress &progress) {
  Comparer comparer{flags, compressor, progress, {keep.vec(), {}, {}, {}}};
  progress.begin("compare methods");
  auto before = compressor.measure(Recipe(), Compressor::Data::evaluation);
  if (!before)
    return before.takeError();
  comparer.out.before = std::move(*before);
  std::vector<Repair> repairs{Repair::none};
  if (flags.repair != "none" && compressor.keepsTokens())
    repairs.push_back(Repair::down);
  std::vector<const CompressMethod *> methods;
  for (const CompressMethod &method : compressMethods()) {
    if (flags.compare != "all" && !llvm::is_contained(llvm::split(flags.compare, ','), method.name))
      continue;
    if (compressor.serves(method))
      methods.push_back(&method);
    else
      comparer.out.skipped.push_back(method.name.str() + ": the profile has not what it reads");
  }
  int64_t done = 0, all = int64_t(methods.size() * repairs.size());
  for (Repair repair : repairs)
    for (const CompressMethod *method : methods) {
      progress.step(++done, all, method->name);
      if (llvm::Error error = comparer.add(*method, repair))
        return std::move(error);
    }
  progress.end();
  return std::move(comparer.out);
}

json moec::comparisonToJson(const Comparison &comparison) {
  const Measure &measure = *comparison.before.quality.measure;
  const std::string name = measure.name().str();
  json methods = json::array();
  for (const ComparedMethod &each : comparison.methods) {
    json labels = json::object();
    for (const auto &[label, loss] : comparison.before.quality.labels)
      labels[label] = each.value(label);
    methods.push_back({{"method", each.name},
                       {"repair", nameOf(each.repair).str()},
                       {"runs", each.runs.size()},
                       {name, each.value()},
                       {"labels", labels},
                       {"weight_bytes", each.runs.front().sizes.weights}});
  }
  json out{{"keep", comparison.keep},
           {"measure", name},
           {"weight_bytes_before", comparison.before.sizes.weights},
           {"methods", methods},
           {"skipped", comparison.skipped}};
  if (!measure.needsOriginal())
    out[name + "_before"] = comparison.before.quality.value();
  return out;
}

std::string moec::comparisonText(const Comparison &comparison) {
  const Measure &measure = *comparison.before.quality.measure;
  auto find = [&](llvm::StringRef method, Repair repair) -> const ComparedMethod * {
    for (const ComparedMethod &each : comparison.methods)
      if (each.name == method && each.repair == repair)
        return &each;
    return nullptr;
  };
  std::string text;
  llvm::raw_string_ostream os(text);
  if (!measure.needsOriginal())
    os << "nothing removed: " << measure.title() << " "
       << measure.text(comparison.before.quality.value()) << "\n";
  os << llvm::formatv("{0,-18}{1,12}{2,12}{3,14}\n", measure.title(), "plain", "repaired", "bytes");
  for (const ComparedMethod &each : comparison.methods) {
    if (each.repair != Repair::none)
      continue;
    const ComparedMethod *repaired = find(each.name, Repair::down);
    os << llvm::formatv("{0,-18}{1,12}{2,12}{3,14}\n", each.name, measure.text(each.value()),
                        repaired ? measure.text(repaired->value()) : "-",
                        each.runs.front().sizes.weights);
  }
  for (const std::string &skipped : comparison.skipped)
    os << "left out: " << skipped << "\n";
  return text;
}
