#include "moec/Driver/Error.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/raw_ostream.h"

using namespace moec;

char CommandError::ID = 0;

// Every line stands alone: an error may list several nodes.
static void print(llvm::StringRef text) {
  llvm::SmallVector<llvm::StringRef> lines;
  text.split(lines, '\n', -1, /*KeepEmpty=*/false);
  for (llvm::StringRef line : lines)
    llvm::errs() << "moec: " << line << "\n";
}

int moec::report(llvm::Error error, Exit otherwise) {
  int code = 0;
  llvm::handleAllErrors(
      std::move(error),
      [&](const CommandError &e) {
        code = int(e.code);
        print(e.text);
      },
      [&](const llvm::ErrorInfoBase &e) {
        if (code == 0)
          code = int(otherwise);
        print(e.message());
      });
  return code;
}
