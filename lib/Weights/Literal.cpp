#include "moec/Weights/Literal.h"

#include "moec/Dialect/MoE/MoE.h"
#include "moec/Weights/Weights.h"

#include "mlir/IR/AsmState.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/Errno.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Path.h"

#include <cerrno>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

using namespace moec;

static llvm::Error fault(const llvm::Twine &text) {
  return llvm::createStringError(llvm::inconvertibleErrorCode(), text);
}

// Bytes of all elements; nothing when the type has no such form.
static std::optional<uint64_t> bytesOf(mlir::RankedTensorType type) {
  mlir::Type element = type.getElementType();
  if (!type.hasStaticShape() || element.isInteger(1) || elementBytes(element) == 0 ||
      elementBytes(element) * 8 != storageBits(element))
    return std::nullopt;
  int64_t bytes = elementBytes(element);
  for (int64_t dim : type.getShape())
    if (llvm::MulOverflow(bytes, dim, bytes) || bytes > (int64_t(1) << 48))
      return std::nullopt;
  return static_cast<uint64_t>(bytes);
}

llvm::Expected<LiteralWriter> LiteralWriter::create(mlir::RankedTensorType type) {
  auto length = bytesOf(type);
  if (!length)
    return fault("unsupported type of a new weight: elements must be whole bytes, sizes known");
  llvm::SmallString<128> path;
  llvm::sys::path::system_temp_directory(/*erasedOnReboot=*/true, path);
  llvm::sys::path::append(path, "moec-weight-XXXXXX");
  path.c_str(); // ends it with a zero, which mkstemp needs
  int file = mkstemp(path.data());
  if (file < 0)
    return fault("no temporary file for a new weight: " + path.str() + ": " +
                 llvm::sys::StrError(errno));
  unlink(path.c_str());
  return LiteralWriter(type, *length, file);
}

LiteralWriter::LiteralWriter(LiteralWriter &&other)
    : type(other.type), length(other.length), written(other.written), file(other.file) {
  other.file = -1;
}

LiteralWriter::~LiteralWriter() {
  if (file >= 0)
    close(file);
}

llvm::Error LiteralWriter::write(llvm::ArrayRef<char> bytes) {
  if (bytes.size() > length - written)
    return fault("a new weight is given more bytes than its type holds");
  written += bytes.size();
  while (!bytes.empty()) {
    ssize_t n = ::write(file, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return fault("a new weight cannot be written to the folder for temporary files (TMPDIR): " +
                   llvm::sys::StrError(errno));
    bytes = bytes.drop_front(static_cast<size_t>(n));
  }
  return llvm::Error::success();
}

llvm::Expected<mlir::ElementsAttr> LiteralWriter::finish(llvm::StringRef name) {
  if (written != length)
    return fault("a new weight is given fewer bytes than its type holds");
  void *map = nullptr;
  if (length > 0) {
    map = mmap(nullptr, length, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED)
      return fault("a new weight cannot be mapped: " + llvm::sys::StrError(errno));
  }
  mlir::AsmResourceBlob blob(
      llvm::ArrayRef(static_cast<const char *>(map), length), /*dataAlignment=*/64,
      [](void *data, size_t size, size_t) {
        if (size > 0)
          munmap(data, size);
      },
      /*dataIsMutable=*/false);
  return llvm::cast<mlir::ElementsAttr>(
      mlir::DenseResourceElementsAttr::get(type, name, std::move(blob)));
}

llvm::Expected<mlir::Value>
moec::makeLiteral(mlir::OpBuilder &builder, mlir::Location location, mlir::RankedTensorType type,
                  llvm::StringRef name, llvm::function_ref<llvm::Error(LiteralWriter &)> fill) {
  auto writer = LiteralWriter::create(type);
  if (!writer)
    return writer.takeError();
  if (llvm::Error error = fill(*writer))
    return std::move(error);
  auto value = writer->finish(name);
  if (!value)
    return value.takeError();
  mlir::Value made = moe::WeightLiteralOp::create(builder, location, type, *value);
  return made;
}
