// WeightReader: every file is opened component by component below the folder, so that a path
// cannot leave it by `..`, by an absolute name or through a link that was put there.
#include "moec/Weights/Weights.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/Support/MathExtras.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace moec;
using llvm::ArrayRef;
using llvm::StringRef;

namespace {

class Descriptor {
public:
  explicit Descriptor(int fd = -1) : fd(fd) {}
  Descriptor(Descriptor &&other) noexcept : fd(std::exchange(other.fd, -1)) {}
  Descriptor &operator=(Descriptor &&other) noexcept {
    std::swap(fd, other.fd);
    return *this;
  }
  ~Descriptor() {
    if (fd >= 0)
      close(fd);
  }
  int get() const { return fd; }

private:
  int fd;
};

struct Mapping {
  char *start = nullptr;
  uint64_t size = 0;
};

} // namespace

struct WeightReader::Data {
  std::string folder;
  llvm::StringMap<Mapping> files;

  llvm::Expected<Mapping> file(StringRef name);
  llvm::Expected<Mapping> open(StringRef name);
};

static llvm::Error refuse(StringRef file, const llvm::Twine &why) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(),
                                 "external data \"" + file + "\" " + why);
}

static llvm::Error systemError(StringRef file, int code) {
  if (code == ENOENT && file.contains('\\'))
    return refuse(file, "does not exist; is a backslash in it meant to separate folders? Names use \"/\"");
  if (code == ENOENT)
    return refuse(file, "does not exist");
  return refuse(file, llvm::Twine("cannot be opened: ") + std::strerror(code));
}

// Splits a name into components; fails where the name itself breaks a rule.
static llvm::Expected<llvm::SmallVector<std::string>> components(StringRef file) {
  if (file.empty())
    return refuse(file, "has an empty name");
  if (file.contains('\0'))
    return refuse(file, "has a NUL byte in its name");
  if (file.starts_with("/"))
    return refuse(file, "is an absolute path; weights must be below the model's folder");
  llvm::SmallVector<std::string> parts;
  while (!file.empty()) {
    auto [part, rest] = file.split('/');
    if (part == "..")
      return refuse(file, "leaves the model's folder by \"..\"");
    if (!part.empty() && part != ".")
      parts.push_back(part.str());
    file = rest;
  }
  if (parts.empty())
    return refuse(".", "is no file");
  return parts;
}

llvm::Expected<Mapping> WeightReader::Data::open(StringRef name) {
  auto parts = components(name);
  if (!parts)
    return parts.takeError();
  Descriptor at(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (at.get() < 0)
    return systemError(folder, errno);
  for (size_t i = 0; i < parts->size(); ++i) {
    const std::string &part = (*parts)[i];
    bool last = i + 1 == parts->size();
    struct stat info;
    if (fstatat(at.get(), part.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
      return systemError(name, errno);
    if (S_ISLNK(info.st_mode))
      return refuse(name, "goes through the symbolic link \"" + part + "\"");
    if (!last && !S_ISDIR(info.st_mode))
      return refuse(name, "goes through \"" + part + "\", which is no folder");
    // O_NONBLOCK: a pipe must not make us wait. O_NOFOLLOW closes the gap between the two calls.
    int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | (last ? O_NONBLOCK : O_DIRECTORY);
    Descriptor next(openat(at.get(), part.c_str(), flags));
    if (next.get() < 0)
      return systemError(name, errno);
    at = std::move(next);
  }
  struct stat info;
  if (fstat(at.get(), &info) != 0)
    return systemError(name, errno);
  if (!S_ISREG(info.st_mode))
    return refuse(name, "is no regular file");
  if (info.st_nlink > 1)
    return refuse(name, "is a hard link; weights must be files of their own");
  Mapping mapping;
  mapping.size = static_cast<uint64_t>(info.st_size);
  if (mapping.size == 0)
    return mapping;
  void *start = mmap(nullptr, mapping.size, PROT_READ, MAP_PRIVATE, at.get(), 0);
  if (start == MAP_FAILED)
    return systemError(name, errno);
  mapping.start = static_cast<char *>(start);
  StringRef text(mapping.start, std::min<uint64_t>(mapping.size, 1024));
  if (mapping.size <= 1024 && text.starts_with("version https://git-lfs.github.com/spec/")) {
    munmap(start, mapping.size);
    return refuse(name, "is a Git LFS pointer, not the data: run git lfs pull");
  }
  return mapping;
}

llvm::Expected<Mapping> WeightReader::Data::file(StringRef name) {
  auto it = files.find(name);
  if (it != files.end())
    return it->second;
  auto mapping = open(name);
  if (mapping)
    files[name] = *mapping;
  return mapping;
}

WeightReader::WeightReader(StringRef folder) : data(std::make_unique<Data>()) {
  data->folder = folder.empty() ? "." : folder.str();
}

WeightReader::~WeightReader() {
  for (auto &file : data->files)
    if (file.second.start)
      munmap(file.second.start, file.second.size);
}

llvm::Expected<uint64_t> WeightReader::size(StringRef file) {
  auto mapping = data->file(file);
  if (!mapping)
    return mapping.takeError();
  return mapping->size;
}

llvm::Expected<ArrayRef<char>> WeightReader::map(StringRef file, uint64_t offset,
                                                 uint64_t length) {
  auto mapping = data->file(file);
  if (!mapping)
    return mapping.takeError();
  // Written so that nothing can overflow.
  if (offset > mapping->size || length > mapping->size - offset)
    return refuse(file, "is too short: " + llvm::Twine(length) + " bytes at offset " +
                            llvm::Twine(offset) + " are needed, it has " +
                            llvm::Twine(mapping->size));
  return ArrayRef<char>(mapping->start + offset, length);
}

void WeightReader::release(ArrayRef<char> range) {
  if (range.empty())
    return;
  static const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  uintptr_t begin = llvm::alignDown(reinterpret_cast<uintptr_t>(range.begin()), page);
  uintptr_t end = llvm::alignTo(reinterpret_cast<uintptr_t>(range.end()), page);
  // The mapping is private and never written, so dropped pages are read again when needed.
  madvise(reinterpret_cast<void *>(begin), end - begin, MADV_DONTNEED);
}

void WeightReader::releaseAll() {
  for (auto &file : data->files)
    if (file.second.start)
      madvise(file.second.start, file.second.size, MADV_DONTNEED);
}
