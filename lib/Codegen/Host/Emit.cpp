// moe_main and the nests as one LLVM module: optimised, then an object.
#include "Emitter.h"
#include "llvm/Analysis/TargetLibraryInfo.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Verifier.h"
#include "llvm/Linker/Linker.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Target/TargetOptions.h"
#include <mutex>

using namespace moec::host;

static llvm::Error failure(const llvm::Twine &message) {
  return llvm::createStringError("internal error: " + message);
}

static llvm::Expected<std::unique_ptr<llvm::TargetMachine>>
makeMachine(const HostOptions &options) {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
  });
  llvm::Triple triple("x86_64-unknown-linux-gnu");
  std::string message;
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(triple, message);
  if (!target)
    return failure(message);
  llvm::TargetOptions targetOptions;
  auto level = options.optLevel >= 2   ? llvm::CodeGenOptLevel::Default
               : options.optLevel == 1 ? llvm::CodeGenOptLevel::Less
                                       : llvm::CodeGenOptLevel::None;
  std::unique_ptr<llvm::TargetMachine> machine(
      target->createTargetMachine(triple, options.cpu, options.features, targetOptions,
                                  llvm::Reloc::PIC_, llvm::CodeModel::Small, level));
  if (!machine)
    return failure("no code generator for " + options.cpu);
  return std::move(machine);
}

/// LLVM's passes grow faster than linearly in the size of one function, and moe_main is as long as
/// the graph. Beyond this many instructions it is left as emitted; the nests never are.
static constexpr size_t kLargeMain = 20000;

static void markFunctions(llvm::Module &module) {
  for (llvm::Function &f : module) {
    if (f.isDeclaration())
      continue;
    if (f.getName() == "moe_main") {
      if (f.getInstructionCount() > kLargeMain) {
        f.addFnAttr(llvm::Attribute::OptimizeNone);
        f.addFnAttr(llvm::Attribute::NoInline);
      }
      continue;
    }
    f.setLinkage(llvm::GlobalValue::InternalLinkage);
    f.addFnAttr(llvm::Attribute::NoInline);
    f.addFnAttr(llvm::Attribute::NoUnwind);
  }
}

static void optimise(llvm::Module &module, llvm::TargetMachine &machine, int level) {
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager components;
  llvm::ModuleAnalysisManager modules;
  llvm::PipelineTuningOptions tuning;
  tuning.LoopVectorization = true;
  tuning.SLPVectorization = true;
  llvm::PassBuilder builder(&machine, tuning);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(components);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, components, modules);
  auto pipeline = level >= 2 ? llvm::OptimizationLevel::O2 : llvm::OptimizationLevel::O1;
  builder.buildPerModuleDefaultPipeline(pipeline).run(module, modules);
}

llvm::Error moec::host::emitObject(HostResult &result, const HostOptions &options) {
  llvm::Module &module = *result.module;
  std::string text;
  llvm::raw_string_ostream out(text);
  if (llvm::verifyModule(module, &out))
    return failure("the host program is malformed: " + text);
  auto machine = makeMachine(options);
  if (!machine)
    return machine.takeError();
  module.setTargetTriple((*machine)->getTargetTriple());
  module.setDataLayout((*machine)->createDataLayout());
  module.setPICLevel(llvm::PICLevel::BigPIC);
  markFunctions(module);
  if (options.optLevel >= 1)
    optimise(module, **machine, options.optLevel);
  if (!options.emitObject)
    return llvm::Error::success();
  llvm::raw_svector_ostream object(result.object);
  llvm::legacy::PassManager passes;
  if ((*machine)->addPassesToEmitFile(passes, object, nullptr, llvm::CodeGenFileType::ObjectFile))
    return failure("no object files for " + options.cpu);
  passes.run(module);
  return llvm::Error::success();
}
