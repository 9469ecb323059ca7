#include "DownStore.h"

#include "moec/Weights/Weights.h"
#include "mlir/IR/BuiltinDialect.h"
#include "mlir/IR/DialectResourceBlobManager.h"

using namespace moec;
using namespace moec::compress;

static mlir::DenseResourceElementsHandle handleOf(mlir::ElementsAttr attr) {
  return llvm::cast<mlir::DenseResourceElementsAttr>(attr).getRawHandle();
}

llvm::Expected<std::unique_ptr<DownStore>>
DownStore::create(int64_t slabs, int64_t hidden, int64_t inter, mlir::Type matrix,
                  mlir::Type bias) {
  std::unique_ptr<DownStore> store(new DownStore);
  store->hidden = hidden;
  store->inter = inter;
  store->matrixType = matrix;
  store->biasType = bias;
  auto open = [](std::optional<LiteralWriter> &writer,
                 mlir::RankedTensorType type) -> llvm::Error {
    auto made = LiteralWriter::create(type);
    if (!made)
      return made.takeError();
    writer.emplace(std::move(*made));
    return llvm::Error::success();
  };
  if (llvm::Error error = open(store->matrixWriter,
                               mlir::RankedTensorType::get({slabs, hidden, inter}, matrix)))
    return std::move(error);
  if (bias)
    if (llvm::Error error =
            open(store->biasWriter, mlir::RankedTensorType::get({slabs, hidden}, bias)))
      return std::move(error);
  return store;
}

static llvm::Error write(LiteralWriter &to, mlir::Type type, const float *values, int64_t count) {
  std::vector<char> bytes(static_cast<size_t>(count * elementBytes(type)));
  convertFloats(mlir::Float32Type::get(type.getContext()), reinterpret_cast<const char *>(values),
                type, bytes.data(), count);
  return to.write(bytes);
}

llvm::Error DownStore::append(const Down &down) {
  if (llvm::Error error =
          write(*matrixWriter, matrixType, down.matrix.data(), down.matrix.size()))
    return error;
  return biasType ? write(*biasWriter, biasType, down.bias.data(), down.bias.size())
                  : llvm::Error::success();
}

llvm::Error DownStore::close(llvm::StringRef name) {
  auto finish = [](std::optional<LiteralWriter> &writer, const llvm::Twine &name,
                   mlir::ElementsAttr &to) -> llvm::Error {
    auto made = writer->finish(name.str());
    writer.reset();
    if (!made)
      return made.takeError();
    to = *made;
    return llvm::Error::success();
  };
  if (llvm::Error error = finish(matrixWriter, name + ".down", matrixLiteral))
    return error;
  return biasType ? finish(biasWriter, name + ".down_bias", biasLiteral)
                  : llvm::Error::success();
}

Down DownStore::read(size_t place) const {
  Down down{Rows(hidden, inter), Eigen::RowVectorXf::Zero(hidden)};
  auto read = [&](mlir::ElementsAttr from, mlir::Type type, float *to, int64_t count) {
    size_t bytes = static_cast<size_t>(count * elementBytes(type));
    auto all = handleOf(from).getBlob()->getData();
    convertFloats(type, all.slice(place * bytes, bytes).data(),
                  mlir::Float32Type::get(type.getContext()), reinterpret_cast<char *>(to), count);
  };
  read(matrixLiteral, matrixType, down.matrix.data(), down.matrix.size());
  if (biasLiteral)
    read(biasLiteral, biasType, down.bias.data(), down.bias.size());
  return down;
}

void DownStore::discard() {
  for (mlir::ElementsAttr attr : {matrixLiteral, biasLiteral})
    if (attr)
      mlir::DenseResourceElementsHandle::getManagerInterface(attr.getContext())
          .getBlobManager()
          .update(handleOf(attr).getKey(), mlir::AsmResourceBlob());
}
