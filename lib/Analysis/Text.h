// Text of errors. Internal to Analysis.
#pragma once
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Error.h"

#include <algorithm>
#include <string>

namespace moec {

/// A name that comes from a file, for an error's one line: short, and without control characters.
inline std::string shown(llvm::StringRef name) {
  std::string out = name.take_front(100).str();
  auto breaks = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
  std::replace_if(out.begin(), out.end(), breaks, '?');
  return "\"" + out + "\"";
}

inline llvm::Error refuse(const llvm::Twine &where, const llvm::Twine &what) {
  return llvm::createStringError(where + ": " + what);
}

} // namespace moec
