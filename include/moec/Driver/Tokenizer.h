// Byte-level BPE as written in a Hugging Face `tokenizer.json` (GPT-2, Qwen, Llama 3, ... style).
//
// Strings are UTF-8; ids are the vocabulary's. A tokenizer is immutable after `load` and may be
// used from several threads. Anything in the file that this class does not implement is refused
// by `load` with an "unsupported" message rather than tokenised differently.
#pragma once

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace moec {

class Tokenizer {
public:
  /// Reads `path`. The error is one line that names the file.
  static llvm::Expected<Tokenizer> load(llvm::StringRef path);

  Tokenizer(Tokenizer &&) noexcept;
  Tokenizer &operator=(Tokenizer &&) noexcept;
  ~Tokenizer();

  /// Ids of `text`; special tokens written out in the text become their own ids.
  /// Bytes that are no valid UTF-8 count as U+FFFD.
  std::vector<int64_t> encode(llvm::StringRef text) const;

  /// The bytes that `id` stands for (possibly part of a character); empty for unknown ids.
  llvm::StringRef bytes(int64_t id) const;

  /// The bytes of all ids, one after the other.
  std::string decode(llvm::ArrayRef<int64_t> ids) const;

  /// Whether `id` is a special token (end of text and the like).
  bool isSpecial(int64_t id) const;

  /// Largest id + 1.
  int64_t size() const;

private:
  struct Data;
  explicit Tokenizer(std::unique_ptr<Data> data);
  std::unique_ptr<Data> data;
};

} // namespace moec
