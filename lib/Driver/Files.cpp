#include "Files.h"

#include "moec/Driver/Error.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Signals.h"
#include "llvm/Support/raw_ostream.h"

using namespace moec;
namespace fs = llvm::sys::fs;

llvm::Expected<TemporaryFolder> TemporaryFolder::create() {
  llvm::SmallString<128> path;
  if (std::error_code error = fs::createUniqueDirectory("moec", path))
    return fail(Exit::resource, "cannot create a temporary folder: " + error.message());
  return TemporaryFolder(path.str().str());
}

TemporaryFolder::~TemporaryFolder() {
  if (!path.empty())
    fs::remove_directories(path, /*IgnoreErrors=*/true);
}

std::string TemporaryFolder::file(const llvm::Twine &name) const {
  return (path + "/" + name).str();
}

llvm::Error moec::writeFile(llvm::StringRef path, llvm::StringRef content) {
  if (path == "-") {
    llvm::outs() << content;
    llvm::outs().flush();
    return llvm::Error::success();
  }
  auto cannot = [&](std::error_code error) {
    return fail(Exit::resource, path + ": cannot write: " + error.message());
  };
  int fd = -1;
  llvm::SmallString<128> temporary;
  if (std::error_code error = fs::createUniqueFile(path + ".tmp-%%%%%%%%", fd, temporary, fs::OF_None,
                                                   fs::all_read | fs::owner_write))
    return cannot(error);
  llvm::sys::RemoveFileOnSignal(temporary);
  llvm::raw_fd_ostream os(fd, /*shouldClose=*/true);
  os << content;
  os.close();
  std::error_code error = os.error();
  os.clear_error();
  if (!error)
    error = fs::rename(temporary, path);
  llvm::sys::DontRemoveFileOnSignal(temporary);
  if (!error)
    return llvm::Error::success();
  fs::remove(temporary);
  return cannot(error);
}

std::string moec::writeReproducer(llvm::StringRef extension, llvm::StringRef content) {
  int fd = -1;
  llvm::SmallString<128> path;
  if (fs::createTemporaryFile("moec-reproducer", extension, fd, path))
    return "";
  llvm::raw_fd_ostream os(fd, /*shouldClose=*/true);
  os << content;
  os.close();
  bool failed = os.has_error();
  os.clear_error();
  return failed ? "" : path.str().str();
}
