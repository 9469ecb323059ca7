// Files that commands write. Internal to Driver.
#pragma once

#include "llvm/ADT/Twine.h"
#include "llvm/Support/Error.h"

#include <string>

namespace moec {

/// A folder below the system's temporary folder, removed with everything in it at the end.
class TemporaryFolder {
public:
  static llvm::Expected<TemporaryFolder> create();
  TemporaryFolder(TemporaryFolder &&other) : path(std::move(other.path)) { other.path.clear(); }
  TemporaryFolder &operator=(TemporaryFolder &&) = delete;
  ~TemporaryFolder();
  std::string file(const llvm::Twine &name) const;
  const std::string &folder() const { return path; }

private:
  explicit TemporaryFolder(std::string path) : path(std::move(path)) {}
  std::string path;
};

/// Writes `path` through a temporary file beside it that is renamed at the end, so that a reader,
/// or an interrupted run, never sees a part of it. "-" is stdout.
llvm::Error writeFile(llvm::StringRef path, llvm::StringRef content);

/// Keeps what is needed to repeat an internal error in a new file of the system's temporary folder
/// and returns its path; empty when not even that can be written.
std::string writeReproducer(llvm::StringRef extension, llvm::StringRef content);

} // namespace moec
