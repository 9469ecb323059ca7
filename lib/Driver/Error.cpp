#include "moec/Driver/Error.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/raw_ostream.h"

using namespace moec;

char CommandError::ID = 0;

int moec::report(llvm::Error error, Exit otherwise) {
  int code = 0;
  llvm::handleAllErrors(
      std::move(error),
      [&](const CommandError &e) {
        code = int(e.code);
        llvm::errs() << "moec: " << llvm::StringRef(e.text).rtrim() << "\n";
      },
      [&](const llvm::ErrorInfoBase &e) {
        if (code == 0)
          code = int(otherwise);
        llvm::errs() << "moec: " << llvm::StringRef(e.message()).rtrim() << "\n";
      });
  return code;
}
