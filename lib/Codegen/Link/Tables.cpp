// The descriptor and the table of code, as an object.
#include "Parts.h"
#include "moert/format.h"
#include "llvm/IR/Constants.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/CRC.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Triple.h"
#include <cstring>
#include <map>

using namespace moec;
using namespace moec::link;

namespace {

// A block of tables and strings under construction.
class Block {
public:
  Bytes bytes;

  template <typename T>
  uint32_t table(llvm::ArrayRef<T> rows) {
    bytes.resize(llvm::alignTo(bytes.size(), 8), 0);
    uint32_t offset = bytes.size();
    auto *data = reinterpret_cast<const char *>(rows.data());
    bytes.append(data, data + rows.size() * sizeof(T));
    return offset;
  }

  uint32_t string(llvm::StringRef text) {
    auto [it, isNew] = places.try_emplace(text.str(), bytes.size());
    if (isNew) {
      bytes.append(text.begin(), text.end());
      bytes.push_back(0);
    }
    return it->second;
  }

private:
  std::map<std::string, uint32_t> places;
};

std::optional<uint32_t> cpuOf(llvm::StringRef isa) {
  if (isa == "avx2")
    return MOERT_CPU_X86_64_V3;
  if (isa == "avx512")
    return MOERT_CPU_X86_64_V3 | MOERT_CPU_X86_64_V4;
  return std::nullopt;
}

llvm::Expected<moert_descriptor_tensor> makeTensor(Block &block, const SignatureEntry &entry) {
  moert_descriptor_tensor tensor = {};
  tensor.dtype = onnxCode(entry.dtype);
  if (!tensor.dtype)
    return internalError("\"" + entry.name + "\" has element type " + entry.dtype);
  if (entry.dims.size() > MOERT_MAX_RANK)
    return llvm::createStringError("\"" + entry.name + "\": unsupported: rank " +
                                   llvm::Twine(entry.dims.size()) + " (at most " +
                                   llvm::Twine(MOERT_MAX_RANK) + ")");
  tensor.name = block.string(entry.name);
  tensor.rank = entry.dims.size();
  for (auto [i, dim] : llvm::enumerate(entry.dims))
    tensor.dims[i] = block.string(dim);
  return tensor;
}

// Checks that every slot has variants, grouped and in order.
llvm::Error makeKernels(Block &block, const LinkInput &input,
                        std::vector<moert_descriptor_kernel> &kernels,
                        std::vector<moert_descriptor_variant> &variants) {
  for (auto [slot, spec] : llvm::enumerate(input.program.kernels)) {
    moert_descriptor_kernel kernel = {block.string(spec), uint32_t(variants.size()), 0};
    for (const KernelVariant &v : input.kernels) {
      if (v.slot != slot)
        continue;
      auto cpu = cpuOf(v.isa);
      if (!cpu)
        return internalError("kernel \"" + spec + "\" is for the unknown instruction set " + v.isa);
      variants.push_back({block.string(v.isa), *cpu});
      ++kernel.variants;
    }
    if (!kernel.variants)
      return internalError("kernel \"" + spec + "\" has no object");
    kernels.push_back(kernel);
  }
  return llvm::Error::success();
}

} // namespace

llvm::Expected<Bytes> moec::link::makeDescriptor(const LinkInput &input,
                                                 const PackedWeights &weights) {
  Block block;
  moert_descriptor head = {};
  block.bytes.resize(sizeof head, 0);
  std::memcpy(head.magic, MOERT_DESCRIPTOR_MAGIC, sizeof head.magic);
  head.abi = MOERT_ABI;
  head.header_bytes = sizeof head;
  head.cpu = MOERT_CPU_X86_64_V3;
  llvm::copy(weights.hash, head.manifest_hash);
  head.compiler_version = block.string(input.compilerVersion);
  std::vector<moert_descriptor_tensor> tensors;
  for (auto *list : {&input.program.inputs, &input.program.outputs})
    for (const SignatureEntry &entry : *list) {
      auto tensor = makeTensor(block, entry);
      if (!tensor)
        return tensor.takeError();
      tensors.push_back(*tensor);
    }
  std::vector<moert_descriptor_kernel> kernels;
  std::vector<moert_descriptor_variant> variants;
  if (llvm::Error error = makeKernels(block, input, kernels, variants))
    return error;
  std::vector<moert_descriptor_hook> hooks;
  for (const HookEntry &hook : input.program.hooks)
    hooks.push_back({block.string(hook.layer), uint32_t(hook.experts), uint32_t(hook.k)});
  head.inputs = input.program.inputs.size();
  head.outputs = input.program.outputs.size();
  head.kernels = kernels.size();
  head.variants = variants.size();
  head.weights = input.program.weights.size();
  head.tensors_offset = block.table<moert_descriptor_tensor>(tensors);
  head.kernels_offset = block.table<moert_descriptor_kernel>(kernels);
  head.variants_offset = block.table<moert_descriptor_variant>(variants);
  head.hooks = hooks.size();
  head.hooks_offset = block.table<moert_descriptor_hook>(hooks);
  head.total_bytes = block.bytes.size();
  std::memcpy(block.bytes.data(), &head, sizeof head);
  head.crc = llvm::crc32(
      llvm::ArrayRef(reinterpret_cast<const uint8_t *>(block.bytes.data()), block.bytes.size()));
  std::memcpy(block.bytes.data(), &head, sizeof head);
  return std::move(block.bytes);
}

static llvm::Error emitObject(llvm::Module &module, Bytes &object) {
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86Target();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86AsmPrinter();
  std::string why;
  llvm::Triple triple("x86_64-unknown-linux-gnu");
  const llvm::Target *target = llvm::TargetRegistry::lookupTarget(triple, why);
  if (!target)
    return internalError(why);
  std::unique_ptr<llvm::TargetMachine> machine(
      target->createTargetMachine(triple, "x86-64", "", llvm::TargetOptions(), llvm::Reloc::PIC_));
  module.setTargetTriple(triple);
  module.setDataLayout(machine->createDataLayout());
  llvm::raw_svector_ostream out(object);
  llvm::legacy::PassManager passes;
  if (machine->addPassesToEmitFile(passes, out, nullptr, llvm::CodeGenFileType::ObjectFile))
    return internalError("no object emitter for x86-64");
  passes.run(module);
  return llvm::Error::success();
}

llvm::Expected<Bytes> moec::link::makeTables(const LinkInput &input,
                                             llvm::ArrayRef<char> descriptor) {
  llvm::LLVMContext context;
  llvm::Module module("moert_tables", context);
  auto *data = llvm::ConstantDataArray::getString(
      context, llvm::StringRef(descriptor.data(), descriptor.size()), /*AddNull=*/false);
  auto define = [&](llvm::Constant *value, const char *name) {
    auto *global = new llvm::GlobalVariable(module, value->getType(), true,
                                            llvm::GlobalValue::ExternalLinkage, value, name);
    global->setAlignment(llvm::Align(8));
    return global;
  };
  define(data, MOERT_DESCRIPTOR_SYMBOL)->setSection(MOERT_SECTION);
  std::vector<llvm::Constant *> code;
  auto refer = [&](llvm::StringRef symbol) {
    code.push_back(module.getOrInsertGlobal(symbol, llvm::Type::getInt8Ty(context)));
  };
  refer("moe_main");
  for (unsigned slot = 0; slot < input.program.kernels.size(); ++slot)
    for (const KernelVariant &v : input.kernels)
      if (v.slot == slot)
        refer(v.symbol);
  auto *type = llvm::ArrayType::get(llvm::PointerType::getUnqual(context), code.size());
  define(llvm::ConstantArray::get(type, code), MOERT_CODE_SYMBOL);
  Bytes object;
  if (llvm::Error error = emitObject(module, object))
    return error;
  return std::move(object);
}
