// The safetensors layout: 8 bytes little-endian header length, a JSON header, the tensors' bytes.
// Internal to Analysis.
#pragma once
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/MemoryBuffer.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace moec {

struct SafeTensor {
  std::string name;
  std::string type; ///< "F64", "F32", "I32", "U64", ...
  std::vector<int64_t> shape;
  llvm::ArrayRef<char> bytes; ///< row-major, little-endian, as long as type and shape say
};

/// A file mapped into memory. The tensors' bytes live as long as this does and may be unaligned.
class SafeTensors {
public:
  /// Errors: one line that names the file. The file is not trusted: every range is checked, and the
  /// tensors must cover the data exactly once, as the layout wants.
  static llvm::Expected<SafeTensors> open(llvm::StringRef path);

  const std::map<std::string, std::string> &metadata() const { return texts; }
  const std::vector<SafeTensor> &tensors() const { return all; }
  const SafeTensor *find(llvm::StringRef name) const;

private:
  llvm::Error parse(llvm::StringRef path);
  llvm::Error checkCover(llvm::StringRef path, size_t bytes) const;

  std::unique_ptr<llvm::MemoryBuffer> buffer;
  std::map<std::string, std::string> texts;
  std::vector<SafeTensor> all;
  llvm::StringMap<size_t> byName;
};

/// Writes a file beside `path` and renames it, so that no reader sees a part of it. Tensors are
/// written in the order given; each one's bytes must be as long as its type and shape say.
llvm::Error writeSafeTensors(llvm::StringRef path,
                             const std::map<std::string, std::string> &metadata,
                             llvm::ArrayRef<SafeTensor> tensors);

} // namespace moec
