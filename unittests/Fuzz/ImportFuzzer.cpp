// A libFuzzer target: any bytes as a .onnx file. Import ends with a valid module or with errors that
// are one readable line each, and reads no file but the one given.
#include "Mutate.h"

#include "moec/Import/Import.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "onnx/onnx_pb.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sys/mman.h>
#include <unistd.h>

extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

static void check(bool good, const char *what) {
  if (good)
    return;
  std::fprintf(stderr, "ImportFuzzer: %s\n", what);
  std::abort();
}

// Attributes are never freed, so a context serves only some of the runs.
static mlir::MLIRContext &freshContext() {
  static std::unique_ptr<mlir::MLIRContext> context;
  static unsigned uses = 0;
  if (!context || ++uses % 256 == 0)
    context = std::make_unique<mlir::MLIRContext>(mlir::MLIRContext::Threading::DISABLED);
  return *context;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const int file = memfd_create("model.onnx", MFD_CLOEXEC);
  check(file >= 0 && ftruncate(file, 0) == 0 &&
            pwrite(file, data, size, 0) == static_cast<ssize_t>(size),
        "cannot write the file");
  mlir::MLIRContext &context = freshContext();
  unsigned errors = 0;
  mlir::ScopedDiagnosticHandler handler(&context, [&](mlir::Diagnostic &diagnostic) {
    errors += diagnostic.getSeverity() == mlir::DiagnosticSeverity::Error;
    std::string text = diagnostic.str();
    check(!text.empty() && text.size() < 4096, "an error of a strange length");
    for (char c : text)
      check(static_cast<unsigned char>(c) >= 32, "a control character in an error");
    return mlir::success();
  });
  auto module = moec::importOnnx("/proc/self/fd/" + std::to_string(file), context);
  check(bool(module) == (errors == 0), "neither a module nor an error, or both");
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed) {
  std::mt19937 random(seed);
  onnx::ModelProto model;
  if (random() % 4 == 0 || !model.ParseFromArray(data, static_cast<int>(size)))
    return LLVMFuzzerMutate(data, size, most);
  for (unsigned i = 0; i < 1 + random() % 3; ++i)
    moec::fuzz::mutate(model, random);
  size_t length = model.ByteSizeLong();
  if (length > most)
    return LLVMFuzzerMutate(data, size, most);
  model.SerializePartialToArray(data, static_cast<int>(length));
  return length;
}
