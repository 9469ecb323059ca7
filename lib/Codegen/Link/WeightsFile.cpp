// Writes the .moew file: slabs first, the manifest into the space that was left for it.
#include "Parts.h"
#include "moert/format.h"
#include "llvm/Support/CRC.h"
#include "llvm/Support/Errno.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/SHA256.h"
#include <cstring>
#include <map>
#include <unistd.h>

using namespace moec;
using namespace moec::link;

namespace {

class WeightsWriter {
public:
  WeightsWriter(const LinkInput &input, int fd, llvm::StringRef path,
                const std::function<void(uint64_t)> &progress)
      : program(input.program), fd(fd), path(path), progress(progress),
        evaluator(input.module, input.folder),
        packer(evaluator, mlir::ModuleOp(input.module)->getContext()) {}

  llvm::Expected<PackedWeights> run() {
    if (llvm::Error error = makeManifest())
      return error;
    uint64_t at = llvm::alignTo(sizeof(moew_header) + manifestBytes(), MOEW_ALIGNMENT);
    std::map<std::array<std::string, 4>, size_t> stored;
    for (size_t i = 0; i < entries.size(); ++i) {
      const WeightEntry &w = program.weights[i];
      auto [known, isNew] = stored.try_emplace({w.name, w.name2, w.layout, w.dtype}, i);
      moew_entry &entry = entries[i];
      if (!isNew) {
        entry.offset = entries[known->second].offset;
        entry.length = entries[known->second].length;
        entry.crc = entries[known->second].crc;
        continue;
      }
      entry.offset = at;
      if (llvm::Error error = writeSlab(w, entry))
        return error;
      end = std::max(end, entry.offset + entry.length);
      at = llvm::alignTo(at + entry.length, MOEW_ALIGNMENT);
    }
    return writeHead();
  }

private:
  uint64_t manifestBytes() const { return entries.size() * sizeof(moew_entry) + strings.size(); }

  uint32_t addString(llvm::StringRef text) {
    if (text.empty())
      return 0;
    auto [it, isNew] = places.try_emplace(text.str(), 0);
    if (isNew) {
      it->second = program.weights.size() * sizeof(moew_entry) + strings.size();
      strings += text.str();
      strings += '\0';
    }
    return it->second;
  }

  llvm::Error makeManifest() {
    entries.resize(program.weights.size());
    for (size_t i = 0; i < entries.size(); ++i) {
      const WeightEntry &w = program.weights[i];
      moew_entry &entry = entries[i];
      auto bytes = packer.bytes(w); // also checks the entry
      if (!bytes)
        return bytes.takeError();
      if (w.shape.size() > MOERT_MAX_RANK)
        return internalError("weight @" + w.name + ": rank " + llvm::Twine(w.shape.size()));
      std::memset(&entry, 0, sizeof entry);
      entry.length = *bytes;
      llvm::copy(w.shape, entry.shape);
      entry.rank = w.shape.size();
      entry.dtype = onnxCode(w.dtype);
      entry.name = addString(w.name);
      entry.name2 = addString(w.name2);
      entry.layout = addString(w.layout);
    }
    return llvm::Error::success();
  }

  llvm::Error write(uint64_t offset, llvm::ArrayRef<char> bytes) {
    while (!bytes.empty()) {
      ssize_t n =
          llvm::sys::RetryAfterSignal(-1, ::pwrite, fd, bytes.data(), bytes.size(), off_t(offset));
      if (n <= 0)
        return fileError(path, n ? std::error_code(errno, std::generic_category())
                                 : std::make_error_code(std::errc::io_error));
      bytes = bytes.drop_front(n);
      offset += n;
    }
    return llvm::Error::success();
  }

  llvm::Error writeSlab(const WeightEntry &w, moew_entry &entry) {
    uint64_t hashed = 0, written = 0; // the checksum follows while bytes come in order
    uint32_t crc = 0;
    auto sink = [&](uint64_t offset, llvm::ArrayRef<char> bytes) -> llvm::Error {
      if (llvm::Error error = write(entry.offset + offset, bytes))
        return error;
      if (offset == hashed) {
        crc = llvm::crc32(crc, bytesOf(bytes));
        hashed += bytes.size();
      }
      written += bytes.size();
      packed += bytes.size();
      if (progress)
        progress(packed);
      return llvm::Error::success();
    };
    if (llvm::Error error = packer.pack(w, sink))
      return error;
    if (written != entry.length)
      return internalError("weight @" + w.name + ": packed to an unexpected size");
    Bytes again;
    while (hashed < entry.length) { // the rest came out of order
      again.resize_for_overwrite(std::min<uint64_t>(4 << 20, entry.length - hashed));
      ssize_t n = llvm::sys::RetryAfterSignal(-1, ::pread, fd, again.data(), again.size(),
                                              off_t(entry.offset + hashed));
      if (n <= 0)
        return fileError(path, std::make_error_code(std::errc::io_error));
      crc = llvm::crc32(crc, bytesOf(llvm::ArrayRef<char>(again).take_front(n)));
      hashed += n;
    }
    entry.crc = crc;
    return llvm::Error::success();
  }

  llvm::Expected<PackedWeights> writeHead() {
    moew_header header = {};
    std::memcpy(header.magic, MOEW_MAGIC, sizeof header.magic);
    header.version = MOEW_VERSION;
    header.header_bytes = sizeof header;
    header.manifest_bytes = manifestBytes();
    header.entries = entries.size();
    header.file_bytes = std::max<uint64_t>(end, sizeof header + manifestBytes());
    Bytes head;
    auto append = [&](const void *data, size_t bytes) {
      head.append(static_cast<const char *>(data), static_cast<const char *>(data) + bytes);
    };
    append(&header, sizeof header);
    append(entries.data(), entries.size() * sizeof(moew_entry));
    append(strings.data(), strings.size());
    if (llvm::Error error = write(0, head))
      return error;
    if (::ftruncate(fd, off_t(header.file_bytes))) // empty slabs at the end were not written
      return fileError(path, std::error_code(errno, std::generic_category()));
    return PackedWeights{header.file_bytes, llvm::SHA256::hash(bytesOf(head))};
  }

  static llvm::ArrayRef<uint8_t> bytesOf(llvm::ArrayRef<char> bytes) {
    return {reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()};
  }

  const Program &program;
  int fd;
  llvm::StringRef path;
  const std::function<void(uint64_t)> &progress;
  WeightEvaluator evaluator;
  Packer packer;
  std::vector<moew_entry> entries;
  std::string strings;
  std::map<std::string, uint32_t> places;
  uint64_t packed = 0, end = 0;
};

} // namespace

llvm::Expected<PackedWeights>
moec::link::writeWeights(const LinkInput &input, int fd, llvm::StringRef path,
                         const std::function<void(uint64_t)> &progress) {
  return WeightsWriter(input, fd, path, progress).run();
}
