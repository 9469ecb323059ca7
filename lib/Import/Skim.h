// Reads a .onnx file without its tensors: the graph becomes a small protobuf message, and every
// tensor that is not small is left where it is, as a range of a file.
#pragma once
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moec::onnx_import {

/// Where the elements of one tensor are.
struct TensorSource {
  enum class Kind {
    file,    // bytes of the .onnx file, in the layout of raw_data
    external, // bytes of another file
    typed,   // numbers in a field of the tensor's own, such as int32_data
    nothing  // no data at all
  };
  /// One occurrence of a typed field: packed numbers, or one number.
  struct Run {
    uint32_t field;
    uint32_t wire;
    llvm::ArrayRef<uint8_t> bytes;
  };
  Kind kind = Kind::nothing;
  std::string location;          // external: the name of the file
  uint64_t offset = 0;           // file, external
  std::optional<uint64_t> length; // file, external (when the model says)
  llvm::SmallVector<Run, 1> runs;
};

/// The message without big tensors: a tensor that was left out has no data but one entry of
/// external_data with this key and its index in `sources` as value.
inline constexpr llvm::StringLiteral kSourceKey = "moec.source";

struct Skimmed {
  std::string message; // a ModelProto
  std::vector<TensorSource> sources;
  bool sparse = false; // sparse tensors were dropped
};

/// Scans `file`, which must outlive the result. Lengths in the file are checked before they are
/// used; nothing is allocated on their word. On damage: nothing, and `error` says what.
std::optional<Skimmed> skim(llvm::ArrayRef<uint8_t> file, std::string &error);

/// The elements of a typed source in the layout of raw_data. Fails when they are not `count`
/// elements of the ONNX element type `type`.
bool decodeTyped(const TensorSource &source, int32_t type, uint64_t count, std::string &out);

/// Bits of an element of an ONNX type in raw_data (types of 2 and 4 bits are packed); 0 for
/// strings and types that are not handled.
unsigned elementBits(int32_t type);

} // namespace moec::onnx_import
