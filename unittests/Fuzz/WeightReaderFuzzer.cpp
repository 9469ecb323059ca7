// A libFuzzer target: any names and ranges asked of a WeightReader. What it maps are bytes of a file
// of its folder; nothing outside is read, whatever the name.
#include "moec/Weights/Weights.h"

#include "llvm/ADT/StringRef.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

using llvm::StringRef;

static void check(bool good, const char *what) {
  if (good)
    return;
  std::fprintf(stderr, "WeightReaderFuzzer: %s\n", what);
  std::abort();
}

static constexpr size_t kSize = 5000; // of each file, more than a page
static char inside(size_t i) { return static_cast<char>('a' + i % 23); }

static void write(const std::string &path, char (*at)(size_t)) {
  std::string data(kSize, '\0');
  for (size_t i = 0; i < kSize; ++i)
    data[i] = at(i);
  int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600);
  check(fd >= 0 && ::write(fd, data.data(), kSize) == static_cast<ssize_t>(kSize), "no folder");
  close(fd);
}

// A model's folder with files that may be read ("w", "d/w", "d/e/w") and everything that may not.
static std::string makeFolder() {
  std::string top = (std::filesystem::temp_directory_path() / "moec-fuzz-XXXXXX").string();
  check(mkdtemp(top.data()), "no temporary folder");
  std::string model = top + "/m";
  for (const std::string &folder : {model, model + "/d", model + "/d/e", top + "/o"})
    check(mkdir(folder.c_str(), 0700) == 0, "no folder");
  auto secret = [](size_t) { return 'S'; };
  for (const char *file : {"/w", "/d/w", "/d/e/w"})
    write(model + file, inside);
  write(top + "/s", secret);
  write(top + "/o/w", secret);
  check(link((top + "/s").c_str(), (model + "/h").c_str()) == 0 &&
            symlink("../s", (model + "/l").c_str()) == 0 &&
            symlink("../o", (model + "/d/l").c_str()) == 0 &&
            mkfifo((model + "/p").c_str(), 0600) == 0,
        "no links");
  return model;
}

namespace {
struct Input {
  const uint8_t *data;
  size_t size;
  uint64_t number(size_t bytes) {
    uint64_t value = 0;
    bytes = std::min(bytes, size);
    std::memcpy(&value, data, bytes);
    data += bytes, size -= bytes;
    return value;
  }
};
} // namespace

// Each request: how long the name is, the name, an offset and a length of 2 or 8 bytes.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const std::string folder = makeFolder();
  moec::WeightReader reader(folder);
  Input in{data, size};
  while (in.size > 0) {
    uint64_t head = in.number(1);
    size_t length = std::min<size_t>(head & 63, in.size);
    StringRef name(reinterpret_cast<const char *>(in.data), length);
    in.data += length, in.size -= length;
    size_t wide = head & 64 ? 8 : 2;
    uint64_t offset = in.number(wide), count = in.number(wide);
    if (head & 128) {
      if (auto bytes = reader.size(name))
        check(*bytes == kSize, "a file of another size");
      else
        llvm::consumeError(bytes.takeError());
    }
    auto range = reader.map(name, offset, count);
    if (!range) {
      check(!llvm::toString(range.takeError()).empty(), "a failure without a reason");
      continue;
    }
    check(range->size() == count && offset <= kSize && count <= kSize - offset, "a wrong range");
    for (size_t i = 0; i < count; ++i)
      check((*range)[i] == inside(offset + i), "bytes of another file");
    reader.release(*range);
  }
  reader.releaseAll();
  return 0;
}
