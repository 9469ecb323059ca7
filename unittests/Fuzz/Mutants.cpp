// usage: Mutants FOLDER SEED COUNT SECONDS [FIRST]
//
// Takes the .onnx files of FOLDER, damages them at random (SEED) and brings each through the whole
// compiler up to LLVM IR. A mutant may be refused, but never by an internal error, and nothing may
// crash. The mutant at work lies in FOLDER/mutant.bin, its number in FOLDER/mutant.number, so that a
// crash leaves its cause; FIRST continues with that mutant. Stops after COUNT mutants or SECONDS.
#include "Mutate.h"

#include "moec/Codegen/Host/Host.h"
#include "moec/Driver/Model.h"

#include "onnx/onnx_pb.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Signals.h"
#include "llvm/Support/raw_ostream.h"

#include <chrono>
#include <sys/resource.h>

using namespace moec;
using llvm::StringRef;

namespace {

struct Counts {
  unsigned compiled = 0, refused = 0, internal = 0;
};

std::vector<::onnx::ModelProto> readSeeds(StringRef folder) {
  std::vector<std::string> paths;
  std::error_code error;
  for (llvm::sys::fs::directory_iterator it(folder, error), end; it != end && !error;
       it.increment(error))
    if (StringRef(it->path()).ends_with(".onnx"))
      paths.push_back(it->path());
  std::sort(paths.begin(), paths.end());
  std::vector<::onnx::ModelProto> models;
  for (const std::string &path : paths) {
    auto file = llvm::MemoryBuffer::getFile(path);
    ::onnx::ModelProto model;
    if (file && model.ParseFromString((*file)->getBuffer().str()))
      models.push_back(std::move(model));
  }
  return models;
}

// What `moec compile` does before it makes kernels.
llvm::Error compile(const std::string &path, int level) {
  auto model = Model::load(path);
  if (!model)
    return model.takeError();
  if (llvm::Error error = (*model)->optimise(level))
    return error;
  if (auto signature = (*model)->signature(); !signature)
    return signature.takeError();
  if (!host::collectUnsupported((*model)->module()).empty())
    return fail(Exit::unsupported, "unsupported");
  host::HostOptions options;
  options.optLevel = 0;
  options.emitObject = false;
  if (mlir::failed(host::lowerToHost((*model)->module(), options)))
    return (*model)->takeErrors("lowering failed without saying why");
  return llvm::Error::success();
}

void judge(llvm::Error error, unsigned number, Counts &counts) {
  if (!error) {
    ++counts.compiled;
    return;
  }
  llvm::handleAllErrors(
      std::move(error),
      [&](const CommandError &e) {
        if (e.code != Exit::internal) {
          ++counts.refused;
          return;
        }
        ++counts.internal;
        llvm::outs() << "mutant " << number << ": internal error: " << e.text << "\n";
      },
      [&](const llvm::ErrorInfoBase &e) { ++counts.refused; });
}

} // namespace

int main(int argc, char **argv) {
  llvm::sys::PrintStackTraceOnErrorSignal(argv[0]);
  rlimit memory{};
  getrlimit(RLIMIT_AS, &memory);
  memory.rlim_cur = rlim_t(6) << 30; // a mutant that wants more ends the run
  setrlimit(RLIMIT_AS, &memory);
  unsigned seed = 0, count = 0, seconds = 0, first = 0;
  if (argc < 5 || StringRef(argv[2]).getAsInteger(10, seed) ||
      StringRef(argv[3]).getAsInteger(10, count) || StringRef(argv[4]).getAsInteger(10, seconds) ||
      (argc > 5 && StringRef(argv[5]).getAsInteger(10, first))) {
    llvm::errs() << "usage: Mutants FOLDER SEED COUNT SECONDS [FIRST]\n";
    return 2;
  }
  std::string folder = argv[1], path = folder + "/mutant.bin";
  std::vector<::onnx::ModelProto> seeds = readSeeds(folder);
  if (seeds.empty())
    return 2;
  auto stop = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  Counts counts;
  unsigned number = first;
  for (; number < first + count && std::chrono::steady_clock::now() < stop; ++number) {
    std::seed_seq sequence{seed, number};
    std::mt19937 random(sequence);
    ::onnx::ModelProto model = seeds[random() % seeds.size()];
    for (unsigned changes = 1 + random() % 3; changes > 0; --changes)
      fuzz::mutate(model, random);
    std::error_code error;
    llvm::raw_fd_ostream(path, error) << model.SerializePartialAsString();
    llvm::raw_fd_ostream(folder + "/mutant.number", error) << number;
    judge(compile(path, random() % 2 ? 2 : 0), number, counts);
  }
  llvm::outs() << "seed " << seed << ", " << number - first << " mutants of " << seeds.size()
               << " models: " << counts.compiled << " compiled, " << counts.refused << " refused, "
               << counts.internal << " internal errors\n";
  return counts.internal ? 1 : 0;
}
