// Halide hands over bitcode; LLVM adds the table, hides the functions and writes the object.
#include "Emit.h"
#include "llvm/Bitcode/BitcodeReader.h"
#include "llvm/IR/Constants.h"
#include "llvm/IR/InstIterator.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/IR/Operator.h"
#include "llvm/IR/Verifier.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/Transforms/IPO/GlobalDCE.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/SmallString.h"

using llvm::StringRef;

namespace moec::cpu {
namespace {

/// Halide's only way to hand over bitcode is a file.
llvm::Expected<std::unique_ptr<llvm::Module>>
readFunctions(const std::vector<Halide::Module> &functions, llvm::LLVMContext &context) {
  llvm::SmallString<128> path;
  if (auto error = llvm::sys::fs::createTemporaryFile("moec-kernel", "bc", path))
    return llvm::createStringError(error, "cannot create a temporary file: " + error.message());
  auto remove = llvm::scope_exit([&] { llvm::sys::fs::remove(path); });
  Halide::link_modules("kernel", functions)
      .compile({{Halide::OutputFileType::bitcode, path.str().str()}});
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return llvm::createStringError(buffer.getError(), "cannot read back " + path.str());
  return llvm::parseBitcodeFile((*buffer)->getMemBufferRef(), context);
}

llvm::Expected<llvm::Constant *> fieldConstant(const TableField &field, llvm::Module &module) {
  auto &context = module.getContext();
  if (auto *number = std::get_if<uint32_t>(&field))
    return llvm::ConstantInt::get(llvm::Type::getInt32Ty(context), *number);
  if (auto *number = std::get_if<float>(&field))
    return llvm::ConstantFP::get(llvm::Type::getFloatTy(context), *number);
  const std::string &name = std::get<std::string>(field);
  if (name.empty())
    return llvm::ConstantPointerNull::get(llvm::PointerType::get(context, 0));
  if (llvm::Function *function = module.getFunction(name); function && !function->isDeclaration())
    return function;
  return llvm::createStringError("Halide made no function " + name);
}

/// Assumptions that suited the optimiser but must not reach instruction selection: approximate
/// reciprocals turn 1 / inf into NaN, and infinities and NaN are values here.
void restrictFastMath(llvm::Module &module) {
  for (llvm::Function &function : module)
    for (llvm::Instruction &instruction : llvm::instructions(function)) {
      if (!llvm::isa<llvm::FPMathOperator>(instruction))
        continue;
      auto flags = instruction.getFastMathFlags();
      flags.setAllowReciprocal(false);
      flags.setNoNaNs(false);
      flags.setNoInfs(false);
      flags.setApproxFunc(false);
      instruction.copyFastMathFlags(flags);
    }
}

llvm::Expected<std::unique_ptr<llvm::TargetMachine>> makeMachine(const llvm::Triple &triple) {
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86Target();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86AsmPrinter();
  std::string why;
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(triple, why);
  if (!target)
    return llvm::createStringError(why);
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Fast;
  // CPU and features are attributes of each function.
  return std::unique_ptr<llvm::TargetMachine>(
      target->createTargetMachine(triple, "x86-64", "", options, llvm::Reloc::PIC_,
                                  llvm::CodeModel::Small, llvm::CodeGenOptLevel::Default));
}

/// What a kernel may call: it runs inside any process that loads the library.
bool isLibcFunction(StringRef name) {
  return name == "memcpy" || name == "memset" || name == "memmove" || name.starts_with("llvm.");
}

} // namespace

llvm::Expected<std::string> emitObject(const KernelParts &parts, const Isa &isa,
                                       const std::string &symbol) {
  llvm::LLVMContext context;
  std::unique_ptr<llvm::Module> module;
  if (parts.functions.empty()) {
    module = std::make_unique<llvm::Module>("kernel", context);
    module->setTargetTriple(llvm::Triple("x86_64-unknown-linux-gnu"));
  } else {
    auto read = readFunctions(parts.functions, context);
    if (!read)
      return read.takeError();
    module = std::move(*read);
  }
  auto machine = makeMachine(module->getTargetTriple());
  if (!machine)
    return machine.takeError();
  module->setDataLayout((*machine)->createDataLayout());

  llvm::SmallVector<llvm::Constant *> fields;
  for (const TableField &field : parts.table) {
    auto constant = fieldConstant(field, *module);
    if (!constant)
      return constant.takeError();
    fields.push_back(*constant);
  }
  for (llvm::GlobalValue &value : module->global_values())
    if (!value.isDeclaration() && !value.hasAppendingLinkage())
      value.setLinkage(llvm::GlobalValue::InternalLinkage);
  auto *init = llvm::ConstantStruct::getAnon(context, fields);
  auto *table = new llvm::GlobalVariable(*module, init->getType(), /*isConstant=*/true,
                                         llvm::GlobalValue::ExternalLinkage, init, symbol);
  table->setVisibility(llvm::GlobalValue::HiddenVisibility);
  table->setAlignment(llvm::Align(64));

  restrictFastMath(*module);
  llvm::ModuleAnalysisManager analyses;
  llvm::GlobalDCEPass().run(*module, analyses);
  for (const llvm::Function &function : *module)
    if (function.isDeclaration() && !function.use_empty() && !isLibcFunction(function.getName()))
      return llvm::createStringError("the kernel calls " + function.getName());

  llvm::SmallVector<char, 0> object;
  llvm::raw_svector_ostream out(object);
  llvm::legacy::PassManager passes;
  if ((*machine)->addPassesToEmitFile(passes, out, nullptr, llvm::CodeGenFileType::ObjectFile))
    return llvm::createStringError("LLVM cannot write objects for " + StringRef(isa.name));
  passes.run(*module);
  return std::string(object.begin(), object.end());
}

} // namespace moec::cpu
