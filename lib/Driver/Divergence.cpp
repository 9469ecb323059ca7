#include "Divergence.h"

#include "Compile.h"
#include "Executors.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace moec;

namespace {

// Intermediate results that are exposed by one compile. More would keep too much of the model alive
// at once, fewer would compile it too often.
constexpr size_t chunkSize = 256;

// The values of @main worth looking at, in program order, and the lines that name them.
struct Probes {
  std::vector<mlir::Value> values;
  std::vector<std::string> lines;
};

Probes findProbes(mlir::ModuleOp module) {
  Probes probes;
  auto main = module.lookupSymbol<mlir::func::FuncOp>("main");
  for (mlir::Operation &op : main.front().without_terminator()) {
    llvm::StringRef name = op.getName().getStringRef();
    if (name == "onnx.Constant" || name == "onnx.none" || name == "moe.weight.use")
      continue;
    auto [type, node] = nodeOf(&op);
    for (mlir::Value result : op.getResults()) {
      auto tensor = llvm::dyn_cast<mlir::RankedTensorType>(result.getType());
      if (!tensor || !tensor.getElementType().isIntOrFloat() || result.use_empty())
        continue;
      probes.values.push_back(result);
      probes.lines.push_back(Message{node, type, ""}.line(""));
    }
  }
  return probes;
}

// A fresh model whose only outputs are the probes from `first` on: its own outputs stay, in front.
llvm::Expected<std::unique_ptr<Model>> expose(llvm::StringRef path, const OpenOptions &options,
                                              size_t first, std::vector<std::string> &lines) {
  Progress quiet(ProgressMode::none, 0);
  auto model = loadModel(path, "", quiet);
  if (!model)
    return model;
  if (llvm::Error error = optimiseModel(**model, options.optimisation, quiet,
                                        options.moeSemantics))
    return error;
  Probes probes = findProbes((*model)->module());
  first = std::min(first, probes.values.size());
  size_t count = std::min(chunkSize, probes.values.size() - first);
  lines.assign(probes.lines.begin() + first, probes.lines.begin() + first + count);
  std::vector<std::string> names;
  for (size_t i = 0; i < count; ++i)
    names.push_back("moec.probe." + std::to_string(first + i));
  addOutputs((*model)->module(), llvm::ArrayRef(probes.values).slice(first, count), names);
  return model;
}

} // namespace

llvm::Expected<std::string> moec::findDivergence(llvm::StringRef path, const OpenOptions &options,
                                                 llvm::ArrayRef<Tensor> inputs,
                                                 Tolerance tolerance) {
  for (size_t first = 0;; first += chunkSize) {
    std::vector<std::string> lines;
    auto model = expose(path, options, first, lines);
    if (!model)
      return model.takeError();
    if (lines.empty())
      break;
    Progress quiet(ProgressMode::none, 0);
    auto compiled = compileAndOpen(**model, options, quiet);
    if (!compiled)
      return compiled.takeError();
    auto reference = interpret(std::move(*model));
    if (!reference)
      return reference.takeError();
    auto got = (*compiled)->run(inputs);
    if (!got)
      return got.takeError();
    auto want = (*reference)->run(inputs);
    if (!want)
      return want.takeError();
    size_t own = got->size() - lines.size();
    for (size_t i = 0; i < lines.size(); ++i) {
      Difference d = compare((*got)[own + i], (*want)[own + i], tolerance);
      if (!d.equal)
        return lines[i] + describe(d);
    }
  }
  return std::string("none with all layers exposed: the difference comes from passes before code "
                     "generation, or from fusing layers (compare with -O 0)");
}
