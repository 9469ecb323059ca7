// The kinds of failure of a command, each with its exit code.
#pragma once

#include "llvm/ADT/Twine.h"
#include "llvm/Support/Error.h"

namespace moec {

/// Exit codes of moec; part of its interface.
enum class Exit : int {
  ok = 0,
  input = 1,       // the model or its data is wrong
  usage = 2,       // the command line is wrong
  unsupported = 3, // the model is right, but something in it is not implemented
  mismatch = 4,    // verify found a difference
  resource = 5,    // files that cannot be written, memory, tools that are missing
  internal = 70,   // a fault of moec itself
};

/// A failure that ends a command: a one-line text (or several lines, one a fault) and its code.
class CommandError : public llvm::ErrorInfo<CommandError> {
public:
  static char ID;
  CommandError(Exit code, std::string text) : code(code), text(std::move(text)) {}
  void log(llvm::raw_ostream &os) const override { os << text; }
  std::error_code convertToErrorCode() const override { return llvm::inconvertibleErrorCode(); }

  Exit code;
  std::string text;
};

inline llvm::Error fail(Exit code, const llvm::Twine &text) {
  return llvm::make_error<CommandError>(code, text.str());
}

/// Prints `error` to stderr as `moec: ...` and gives the exit code that it stands for. An error
/// that is no CommandError counts as `otherwise`.
int report(llvm::Error error, Exit otherwise = Exit::input);

} // namespace moec
