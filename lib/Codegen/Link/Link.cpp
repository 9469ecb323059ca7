// The order of a link, and its output files.
#include "Parts.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/Signals.h"
#include <set>

using namespace moec;
using namespace moec::link;
using llvm::StringRef;
namespace fs = llvm::sys::fs;

llvm::Error moec::link::internalError(const llvm::Twine &message) {
  return llvm::createStringError("internal: " + message);
}

llvm::Error moec::link::fileError(StringRef path, std::error_code code) {
  return llvm::createStringError(code, path + ": " + code.message());
}

namespace {

// A file beside its final place; removed unless it is kept, also when a signal ends the process.
class TemporaryFile {
public:
  static llvm::Expected<TemporaryFile> create(StringRef final) {
    TemporaryFile file;
    file.final = final.str();
    if (fs::is_directory(final))
      return fileError(final, std::make_error_code(std::errc::is_a_directory));
    llvm::SmallString<128> path;
    if (std::error_code code = fs::createUniqueFile(final + ".%%%%%%%%.tmp", file.fd, path))
      return fileError(final, code);
    file.path = path.str().str();
    llvm::sys::RemoveFileOnSignal(path);
    return file;
  }

  TemporaryFile(TemporaryFile &&other)
      : path(std::move(other.path)), final(std::move(other.final)), fd(other.fd) {
    other.path.clear();
    other.fd = -1;
  }

  ~TemporaryFile() {
    closeFile();
    if (path.empty())
      return;
    fs::remove(path);
    llvm::sys::DontRemoveFileOnSignal(path);
  }

  void closeFile() {
    if (fd >= 0)
      llvm::sys::Process::SafelyCloseFileDescriptor(fd);
    fd = -1;
  }

  llvm::Error keep() {
    if (std::error_code code = fs::rename(path, final))
      return fileError(final, code);
    llvm::sys::DontRemoveFileOnSignal(path);
    path.clear();
    return llvm::Error::success();
  }

  std::string path, final;
  int fd = -1;

private:
  TemporaryFile() = default;
};

// Both files or none: the old weights come back if the library cannot be renamed.
llvm::Error keepBoth(TemporaryFile &weights, TemporaryFile &library) {
  std::string backup = weights.path + ".old";
  bool saved = !fs::create_hard_link(weights.final, backup); // fails when there is no old file
  llvm::scope_exit removeBackup([&] {
    if (saved)
      fs::remove(backup);
  });
  if (llvm::Error error = weights.keep())
    return error;
  llvm::Error error = library.keep();
  if (!error)
    return error;
  if (saved)
    saved = bool(fs::rename(backup, weights.final));
  else
    fs::remove(weights.final);
  return error;
}

} // namespace

static llvm::Error linkInto(const LinkInput &input, TemporaryFile &weights, TemporaryFile &library,
                            const std::function<void(uint64_t)> &progress, LinkReport &report) {
  auto packed = writeWeights(input, weights.fd, weights.final, progress);
  if (!packed)
    return packed.takeError();
  weights.closeFile();
  auto descriptor = makeDescriptor(input, *packed);
  if (!descriptor)
    return descriptor.takeError();
  auto tables = makeTables(input, *descriptor);
  if (!tables)
    return tables.takeError();
  std::vector<llvm::ArrayRef<char>> objects{*tables, input.hostObject};
  std::set<const char *> known;
  for (const KernelVariant &v : input.kernels)
    if (known.insert(v.object.data()).second)
      objects.push_back(v.object);
  if (llvm::Error error = checkSymbols(objects))
    return error;
  library.closeFile();
  if (llvm::Error error = linkObjects(objects, library.path))
    return error;
  report.weightBytes = packed->bytes;
  if (std::error_code code = fs::file_size(library.path, report.libraryBytes))
    return fileError(library.final, code);
  return llvm::Error::success();
}

llvm::Expected<LinkReport> moec::link::linkLibrary(const LinkInput &input, StringRef output,
                                                   const std::function<void(uint64_t)> &progress) {
  llvm::SmallString<128> weightsPath(output);
  llvm::sys::path::replace_extension(weightsPath, "moew");
  if (weightsPath == output)
    return llvm::createStringError(std::make_error_code(std::errc::invalid_argument),
                                   output + ": the library's name must not end in .moew");
  auto weights = TemporaryFile::create(weightsPath);
  if (!weights)
    return weights.takeError();
  auto library = TemporaryFile::create(output);
  if (!library)
    return library.takeError();
  LinkReport report;
  report.weightsPath = weightsPath.str().str();
  if (llvm::Error error = linkInto(input, *weights, *library, progress, report))
    return error;
  if (llvm::Error error = keepBoth(*weights, *library))
    return error;
  return report;
}
