// Errors of this room: one line of text; who catches it says where.
#pragma once
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Error.h"

namespace moec::compress {

inline llvm::Error problem(const llvm::Twine &text) { return llvm::createStringError(text); }

} // namespace moec::compress
