#include "Compile.h"
#include "Files.h"

#include "moec/Codegen/CPU/CPU.h"
#include "moec/Codegen/Link/Link.h"
#include "moec/Driver/Session.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/TargetParser/Host.h"

using namespace moec;

llvm::Error moec::refuse(const Model &model,
                         llvm::ArrayRef<std::pair<mlir::Operation *, std::string>> ops) {
  std::string text;
  for (const auto &[op, why] : ops) {
    auto [type, node] = nodeOf(op);
    bool said = llvm::StringRef(why).contains_insensitive("unsupported");
    Message message{node, type, said ? why : "unsupported: " + why};
    text += (text.empty() ? "" : "\n") + message.line(model.path());
  }
  return text.empty() ? llvm::Error::success() : fail(Exit::unsupported, text);
}

llvm::Error moec::withReproducer(llvm::Error error, const Model &model) {
  return llvm::handleErrors(std::move(error), [&](std::unique_ptr<CommandError> e) -> llvm::Error {
    if (e->code != Exit::internal || !model.module())
      return llvm::Error(std::move(e));
    std::string content = "// moec " MOEC_VERSION ", " + model.path() + ": " + e->text + "\n";
    std::replace(content.begin(), content.end() - 1, '\n', ' ');
    llvm::raw_string_ostream os(content);
    mlir::OpPrintingFlags flags;
    flags.enableDebugInfo().printGenericOpForm().assumeVerified();
    model.module()->print(os, flags);
    if (std::string path = writeReproducer("mlir", content); !path.empty())
      e->text += " (reproducer: " + path + ")";
    return llvm::Error(std::move(e));
  });
}

static size_t countOps(mlir::ModuleOp module, llvm::StringRef name) {
  size_t n = 0;
  module.walk([&](mlir::Operation *op) { n += op->getName().getStringRef() == name; });
  return n;
}

llvm::Expected<std::unique_ptr<Model>> moec::loadModel(llvm::StringRef path, llvm::StringRef folder,
                                                       Progress &progress) {
  progress.begin("import");
  auto model = Model::load(path, folder);
  if (!model)
    return model;
  size_t nodes = 0;
  if (auto main = (*model)->module().lookupSymbol<mlir::func::FuncOp>("main"))
    main.walk([&](mlir::Operation *) { ++nodes; });
  progress.end(llvm::formatv("{0} operators, {1} weights", nodes,
                             countOps((*model)->module(), "moe.weight.bind")));
  return model;
}

llvm::Error moec::optimiseModel(Model &model, int level, Progress &progress,
                                llvm::StringRef semantics) {
  progress.begin("optimise");
  if (llvm::Error error = model.optimise(level, semantics))
    return withReproducer(std::move(error), model);
  progress.end(llvm::formatv("{0} MoE layers, {1} routers fused",
                             countOps(model.module(), "moe.experts") +
                                 countOps(model.module(), "moe.merge_weights"),
                             countOps(model.module(), "moe.route")));
  return llvm::Error::success();
}

llvm::Error moec::addRoutingHooks(Model &model) {
  if (llvm::Error error = model.runPipeline("insert-logit-hooks"))
    return withReproducer(std::move(error), model);
  return llvm::Error::success();
}

// The names that LLVM takes for --cpu; "native" is this machine with exactly its features.
static void chooseCpu(const std::string &cpu, host::HostOptions &options) {
  if (cpu.empty())
    return;
  options.features.clear();
  options.cpu = cpu;
  if (cpu != "native")
    return;
  options.cpu = llvm::sys::getHostCPUName().str();
  for (const auto &feature : llvm::sys::getHostCPUFeatures())
    options.features += (options.features.empty() ? "" : ",") +
                        std::string(feature.second ? "+" : "-") + feature.first().str();
}

llvm::Expected<host::HostResult> moec::lowerModel(Model &model, const CompileOptions &options,
                                                  bool emitObject, Progress &progress) {
  progress.begin("lower");
  if (auto signature = model.signature(); !signature)
    return signature.takeError();
  if (llvm::Error error = refuse(model, host::collectUnsupported(model.module())))
    return error;
  host::HostOptions hostOptions;
  hostOptions.optLevel = options.optimisation == 0 ? 1 : 2;
  hostOptions.emitObject = emitObject;
  chooseCpu(options.cpu, hostOptions);
  auto host = host::lowerToHost(model.module(), hostOptions);
  if (mlir::failed(host))
    return withReproducer(model.takeErrors("lowering failed without saying why"), model);
  progress.end(llvm::formatv("{0} kernels, {1} KiB of code", host->program.kernels.size(),
                             (host->object.size() + 1023) >> 10));
  return std::move(*host);
}

static llvm::Expected<std::vector<cpu::KernelObject>>
makeKernels(const Program &program, const CompileOptions &options, Progress &progress) {
  progress.begin("compile kernels");
  cpu::CpuOptions cpuOptions;
  if (!options.isas.empty())
    cpuOptions.isas = options.isas;
  auto kernels = cpu::compileKernels(program.kernels, cpuOptions);
  if (!kernels)
    return kernels.takeError();
  progress.end(llvm::formatv("{0} objects", kernels->size()));
  return kernels;
}

llvm::Expected<CompileReport> moec::buildLibrary(Model &model, llvm::StringRef output,
                                                 const CompileOptions &options,
                                                 Progress &progress) {
  auto host = lowerModel(model, options, /*emitObject=*/true, progress);
  if (!host)
    return host.takeError();
  host->module.reset(); // only its object is needed from here on
  auto kernels = makeKernels(host->program, options, progress);
  if (!kernels)
    return kernels.takeError();

  progress.begin("pack and link");
  link::LinkInput input;
  input.module = model.module();
  input.folder = model.folder();
  input.hostObject = host->object;
  input.program = host->program;
  input.compilerVersion = MOEC_VERSION;
  for (const cpu::KernelObject &k : *kernels)
    input.kernels.push_back({k.slot, k.isa, k.symbol, {k.object.data(), k.object.size()}});
  auto linked = link::linkLibrary(input, output);
  if (!linked)
    return linked.takeError();
  progress.end(llvm::formatv("{0:f1} MiB of weights packed", double(linked->weightBytes) / 1048576));
  CompileReport report;
  report.weightsPath = linked->weightsPath;
  report.libraryBytes = linked->libraryBytes;
  report.weightBytes = linked->weightBytes;
  report.program = std::move(host->program);
  return report;
}

void moec::exposeRouting(mlir::ModuleOp module) {
  auto main = module.lookupSymbol<mlir::func::FuncOp>("main");
  if (!main)
    return;
  llvm::SmallVector<mlir::Value> values;
  std::vector<std::string> names;
  llvm::StringMap<int> uses;
  for (mlir::Operation &op : main.front()) {
    auto bank = op.getAttrOfType<mlir::FlatSymbolRefAttr>("bank");
    if (op.getName().getStringRef() != "moe.experts" || !bank || op.getNumOperands() < 3)
      continue;
    std::string name = (routingOutputPrefix + bank.getValue()).str();
    if (int n = uses[bank.getValue()]++)
      name += "." + std::to_string(n);
    values.push_back(op.getOperand(1));
    names.push_back(name);
  }
  addOutputs(module, values, names);
}
