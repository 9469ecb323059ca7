#include "harness/Harness.h"
#include "moec/Codegen/CPU/CPU.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/TargetSelect.h"
#include <cstring>
#include <set>
#include <stdexcept>

namespace orc = llvm::orc;

namespace harness {
namespace {

template <typename T> T check(llvm::Expected<T> value) {
  if (!value)
    throw std::runtime_error(llvm::toString(value.takeError()));
  return std::move(*value);
}

void check(llvm::Error error) {
  if (error)
    throw std::runtime_error(llvm::toString(std::move(error)));
}

/// The cache of this process: tests that use equal kernels compile them once.
class CacheFolder {
public:
  CacheFolder() {
    if (llvm::sys::fs::createUniqueDirectory("moec-kernels", path))
      path = "-";
  }
  ~CacheFolder() {
    if (path != "-")
      llvm::sys::fs::remove_directories(path);
  }
  llvm::SmallString<128> path;
};

} // namespace

struct Kernels::Impl {
  std::unique_ptr<orc::LLJIT> jit;
};

Kernels::Kernels(const std::vector<KernelSpec> &specs, const std::string &isa)
    : impl(std::make_unique<Impl>()) {
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86Target();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86AsmPrinter();
  std::vector<std::string> texts;
  for (const KernelSpec &spec : specs)
    texts.push_back(spec.text());
  moec::cpu::CpuOptions options;
  options.isas = {isa};
  static const CacheFolder cache;
  options.cacheFolder = cache.path.str().str();
  auto objects = check(moec::cpu::compileKernels(texts, options));

  impl->jit = check(orc::LLJITBuilder().create());
  std::set<std::string> added;
  tables.resize(specs.size());
  for (const auto &object : objects) {
    if (added.insert(object.symbol).second)
      check(impl->jit->addObjectFile(
          llvm::MemoryBuffer::getMemBufferCopy(object.object, object.symbol)));
    // The table is a hidden symbol.
    auto symbol = check(impl->jit->getExecutionSession().lookup(
        {{&impl->jit->getMainJITDylib(), orc::JITDylibLookupFlags::MatchAllSymbols}},
        impl->jit->mangleAndIntern(object.symbol)));
    tables[object.slot] = symbol.getAddress().toPtr<moert_kernel>();
  }
}

Kernels::~Kernels() = default;

std::string Context::run(const std::function<void(const moert_api &, moert_ctx *)> &fn) {
  using Function = std::function<void(const moert_api &, moert_ctx *)>;
  moert_error error;
  harness_run(
      ctx,
      [](moert_ctx *ctx, void *arg) {
        (*static_cast<const Function *>(arg))(*reinterpret_cast<moert_ctx_head *>(ctx)->api, ctx);
      },
      const_cast<Function *>(&fn), &error);
  return error.status ? error.message : "";
}

std::vector<std::string> isas() {
  if (harness_has_avx512())
    return {"avx2", "avx512"};
  return {"avx2"};
}

Floats randomFloats(std::mt19937 &random, size_t count, float scale) {
  std::uniform_real_distribution<float> uniform(-scale, scale);
  Floats values(count);
  for (float &value : values)
    value = uniform(random);
  return values;
}

std::vector<uint8_t> store(Floats &values, WeightType type) {
  size_t bytes = type == WeightType::F32 ? 4 : 2;
  std::vector<uint8_t> out(values.size() * bytes);
  for (size_t i = 0; i < values.size(); ++i) {
    uint8_t *to = out.data() + i * bytes;
    if (type == WeightType::F32) {
      std::memcpy(to, &values[i], 4);
    } else if (type == WeightType::F16) {
      auto half = static_cast<_Float16>(values[i]);
      std::memcpy(to, &half, 2);
      values[i] = static_cast<float>(half);
    } else {
      uint32_t bits;
      std::memcpy(&bits, &values[i], 4);
      bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
      uint16_t upper = bits >> 16;
      std::memcpy(to, &upper, 2);
      std::memcpy(&values[i], &bits, 4);
    }
  }
  return out;
}

Floats packPanels(const Floats &w, int64_t E, int64_t N, int64_t K) {
  int64_t panels = (N + 15) / 16;
  Floats out(E * panels * K * 16);
  for (int64_t e = 0; e < E; ++e)
    for (int64_t n = 0; n < N; ++n)
      for (int64_t k = 0; k < K; ++k)
        out[((e * panels + n / 16) * K + k) * 16 + n % 16] = w[(e * N + n) * K + k];
  return out;
}

Floats packGateUp(const Floats &gate, const Floats &up, int64_t E, int64_t I, int64_t H) {
  int64_t panels = (I + 15) / 16;
  Floats out(E * panels * H * 32);
  for (int64_t e = 0; e < E; ++e)
    for (int64_t i = 0; i < I; ++i)
      for (int64_t h = 0; h < H; ++h) {
        int64_t to = ((e * panels + i / 16) * H + h) * 32 + i % 16;
        out[to] = gate[(e * I + i) * H + h];
        out[to + 16] = up[(e * I + i) * H + h];
      }
  return out;
}

} // namespace harness
