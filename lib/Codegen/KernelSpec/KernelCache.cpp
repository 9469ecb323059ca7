// The disk cache. An entry is one file: a line that repeats what was asked for (so that a hash
// collision or an old format is a miss), a line with length and checksum, then the object.
#include "moec/Codegen/KernelSpec/KernelSpec.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Support/xxhash.h"

using llvm::StringRef;
namespace fs = llvm::sys::fs;
namespace path = llvm::sys::path;

namespace moec {
namespace {

std::string keyLine(const KernelSpec &spec, StringRef isa, StringRef version) {
  return ("moec kernel | " + spec.text() + " | " + isa + " | " + version + "\n").str();
}

std::string checkLine(StringRef object) {
  return llvm::utostr(object.size()) + " " + llvm::utohexstr(llvm::xxh3_64bits(object)) + "\n";
}

llvm::SmallString<128> entryPath(StringRef root, StringRef key) {
  llvm::SmallString<128> file(root);
  path::append(file, llvm::utohexstr(llvm::xxh3_64bits(key), true, 16) + ".kernel");
  return file;
}

} // namespace

KernelCache::KernelCache(StringRef folder) {
  if (folder == "-")
    return;
  if (!folder.empty()) {
    root = folder.str();
    return;
  }
  llvm::SmallString<128> base;
  if (auto xdg = llvm::sys::Process::GetEnv("XDG_CACHE_HOME"); xdg && path::is_absolute(*xdg))
    base = *xdg;
  else if (auto home = llvm::sys::Process::GetEnv("HOME"); home && path::is_absolute(*home)) {
    base = *home;
    path::append(base, ".cache");
  } else
    return;
  path::append(base, "moec");
  root = base.str().str();
}

std::optional<std::string> KernelCache::load(const KernelSpec &spec, StringRef isa,
                                             StringRef generatorVersion) const {
  if (root.empty())
    return std::nullopt;
  std::string key = keyLine(spec, isa, generatorVersion);
  auto file = llvm::MemoryBuffer::getFile(entryPath(root, key), /*IsText=*/false,
                                          /*RequiresNullTerminator=*/false);
  if (!file)
    return std::nullopt;
  StringRef content = (*file)->getBuffer();
  if (!content.consume_front(key))
    return std::nullopt;
  auto [check, object] = content.split('\n');
  if ((check + "\n").str() != checkLine(object))
    return std::nullopt;
  return object.str();
}

void KernelCache::store(const KernelSpec &spec, StringRef isa, StringRef generatorVersion,
                        StringRef object) const {
  if (root.empty() || fs::create_directories(root))
    return;
  std::string key = keyLine(spec, isa, generatorVersion);
  auto file = entryPath(root, key);
  auto temporary = fs::TempFile::create(file + ".%%%%%%%%");
  if (!temporary)
    return llvm::consumeError(temporary.takeError());
  {
    llvm::raw_fd_ostream out(temporary->FD, /*shouldClose=*/false);
    out << key << checkLine(object) << object;
    out.flush();
    if (out.has_error()) {
      out.clear_error();
      return llvm::consumeError(temporary->discard());
    }
  }
  llvm::consumeError(temporary->keep(file));
}

} // namespace moec
