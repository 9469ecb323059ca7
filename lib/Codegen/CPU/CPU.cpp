#include "moec/Codegen/CPU/CPU.h"
#include "Emit.h"
#include "llvm/Support/ThreadPool.h"
#include "llvm/Support/Threading.h"
#include <map>

using llvm::StringRef;

namespace moec::cpu {
namespace {

/// Raised whenever the generated code changes, so that old cache entries are not used.
constexpr const char *generatorVersion = "halide21-2";

struct Job {
  KernelSpec spec;
  const Isa *isa;
  std::string symbol, object, failure;
};

/// What this room cannot make; empty when it can.
std::string unsupported(const KernelSpec &spec) {
  if (spec.quant != Quantisation::None)
    return "quantised weights are unsupported by the CPU code generator";
  return "";
}

std::string symbolOf(const KernelSpec &spec, const Isa &isa) {
  return "moec_kernel_" + spec.hash() + "_" + isa.name;
}

void compile(Job &job, const KernelCache &cache) {
  if (auto hit = cache.load(job.spec, job.isa->name, generatorVersion)) {
    job.object = std::move(*hit);
    return;
  }
  try {
    auto object = emitObject(makeParts(job.spec, *job.isa), *job.isa, job.symbol);
    if (!object) {
      job.failure = llvm::toString(object.takeError());
      return;
    }
    job.object = std::move(*object);
  } catch (const std::exception &error) { // Halide's
    job.failure = StringRef(error.what()).rtrim().str();
    return;
  }
  cache.store(job.spec, job.isa->name, generatorVersion, job.object);
}

} // namespace

llvm::Expected<std::vector<KernelObject>> compileKernels(const std::vector<std::string> &specs,
                                                         const CpuOptions &options) {
  std::map<std::string, Job> jobs; // by symbol: equal specs once
  struct Use {
    unsigned slot;
    Job *job;
  };
  std::vector<Use> uses;
  for (unsigned slot = 0; slot < specs.size(); ++slot) {
    auto spec = parseKernelSpec(specs[slot]);
    if (!spec)
      return spec.takeError();
    if (std::string why = unsupported(*spec); !why.empty())
      return llvm::createStringError("kernel spec '" + specs[slot] + "': " + why);
    for (const std::string &name : options.isas) {
      const Isa *isa = findIsa(name);
      if (!isa)
        return llvm::createStringError("unsupported instruction set '" + name +
                                       "' (known: avx2, avx512)");
      std::string symbol = symbolOf(*spec, *isa);
      auto [it, isNew] = jobs.try_emplace(symbol, Job{*spec, isa, symbol, {}, {}});
      uses.push_back({slot, &it->second});
    }
  }

  KernelCache cache(options.cacheFolder);
  {
    llvm::DefaultThreadPool pool(llvm::hardware_concurrency(options.jobs));
    for (auto &[symbol, job] : jobs)
      pool.async([&cache, &job] { compile(job, cache); });
    pool.wait();
  }

  std::vector<KernelObject> objects;
  for (const Use &use : uses) {
    if (!use.job->failure.empty())
      return llvm::createStringError("kernel spec '" + specs[use.slot] + "' for " +
                                     use.job->isa->name + ": " + use.job->failure);
    objects.push_back({use.slot, use.job->isa->name, use.job->symbol, use.job->object});
  }
  return objects;
}

} // namespace moec::cpu
