// The file and its weights: written to temporary files, renamed at the end.
#include "moec/Export/Export.h"

#include "Writer.h"
#include "moec/Dialect/MoE/MoE.h"
#include "moec/Dialect/Onnx/OnnxDialect.h"
#include "moec/Weights/Weights.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/OwningOpRef.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Signals.h"
#include "llvm/Support/raw_ostream.h"

using namespace moec;
using namespace moec::onnx_export;
using llvm::Error;
using llvm::StringRef;
namespace fs = llvm::sys::fs;

// Weights up to this size stand in the .onnx file in any case, and all when they are no more than
// the second number.
static constexpr uint64_t kInlineBytes = 256, kInlineTotal = 2 << 20;
// What is evaluated at a time, where a row of a weight is not larger.
static constexpr int64_t kChunkBytes = 8 << 20;
// Large weights begin on pages, so that they can be mapped one by one.
static constexpr uint64_t kPage = 4096, kSmallAlignment = 64;

namespace {

// A file that becomes another one at the end, or never was.
class PendingFile {
public:
  explicit PendingFile(std::string final) : final(std::move(final)) {}
  ~PendingFile() {
    if (stream) {
      stream->close();
      stream->clear_error();
    }
    if (!old.empty())
      fs::remove(old);
    if (!temporary.empty()) {
      llvm::sys::DontRemoveFileOnSignal(temporary);
      fs::remove(temporary);
    }
  }
  Error open() {
    int fd = -1;
    if (auto code = fs::createUniqueFile(final + ".tmp-%%%%%%%%", fd, temporary, fs::OF_None,
                                         fs::all_read | fs::owner_write)) {
      temporary.clear();
      return cannot(code);
    }
    llvm::sys::RemoveFileOnSignal(temporary);
    stream = std::make_unique<llvm::raw_fd_ostream>(fd, /*shouldClose=*/true);
    return Error::success();
  }
  llvm::raw_fd_ostream &out() { return *stream; }
  Error close() {
    stream->close();
    std::error_code code = stream->error();
    stream->clear_error();
    stream.reset();
    return code ? cannot(code) : Error::success();
  }
  /// From here on the file has its name; the one that had it is kept until the end.
  Error rename() {
    if (fs::exists(final)) {
      llvm::SmallString<128> name;
      if (auto code = fs::createUniqueFile(final + ".old-%%%%%%%%", name))
        return cannot(code);
      if (auto code = fs::rename(final, name)) {
        fs::remove(name);
        return cannot(code);
      }
      old = name;
    }
    if (auto code = fs::rename(temporary, final)) {
      undo();
      return cannot(code);
    }
    llvm::sys::DontRemoveFileOnSignal(temporary);
    temporary.clear();
    renamed = true;
    return Error::success();
  }
  /// What was there before is there again.
  void undo() {
    if (renamed)
      fs::remove(final);
    if (!old.empty() && !fs::rename(old, final))
      old.clear();
  }

private:
  Error cannot(std::error_code code) {
    return llvm::createStringError(code, final + ": cannot write: " + code.message());
  }
  std::string final;
  llvm::SmallString<128> temporary, old;
  bool renamed = false;
  std::unique_ptr<llvm::raw_fd_ostream> stream;
};

// Streams weights in the layout of files.
class WeightWriter {
public:
  WeightWriter(mlir::ModuleOp module, StringRef folder,
               const std::function<void(uint64_t)> &progress)
      : evaluator(module, folder), progress(progress) {}

  llvm::Expected<uint64_t> bytes(StringRef bind) {
    auto type = evaluator.type(bind);
    if (!type)
      return type.takeError();
    return static_cast<uint64_t>(
        (type->getNumElements() * storageBits(type->getElementType()) + 7) / 8);
  }

  Error write(StringRef bind, llvm::raw_ostream &os) {
    auto type = evaluator.type(bind);
    if (!type)
      return type.takeError();
    int64_t rows = type->getRank() == 0 ? 1 : type->getDimSize(0), count = type->getNumElements();
    if (count == 0)
      return Error::success();
    int64_t rowBytes = count / rows * elementBytes(type->getElementType());
    // A multiple of 8 rows: packed elements then begin on whole bytes.
    int64_t step = std::max<int64_t>(1, kChunkBytes / rowBytes);
    int64_t bits = storageBits(type->getElementType());
    if (bits < 8)
      step = static_cast<int64_t>(llvm::alignTo(static_cast<uint64_t>(step), 8));
    for (int64_t row = 0; row < rows; row += step) {
      int64_t take = std::min(step, rows - row);
      if (Error error = evaluator.rows(bind, row, take, buffer))
        return error;
      if (bits < 8)
        pack(bits);
      os.write(buffer.data(), buffer.size());
      written += buffer.size();
      if (progress)
        progress(written);
    }
    return Error::success();
  }

private:
  // Elements of less than 8 bits, low bits first.
  void pack(int64_t bits) {
    size_t count = buffer.size();
    unsigned mask = (1u << bits) - 1, each = static_cast<unsigned>(8 / bits);
    for (size_t i = 0; i < count; i += each) {
      unsigned byte = 0;
      for (unsigned j = 0; j < each && i + j < count; ++j)
        byte |= (static_cast<unsigned char>(buffer[i + j]) & mask) << (j * bits);
      buffer[i / each] = static_cast<char>(byte);
    }
    buffer.resize((count + each - 1) / each);
  }

  WeightEvaluator evaluator;
  llvm::SmallVector<char> buffer;
  const std::function<void(uint64_t)> &progress;
  uint64_t written = 0;
};

} // namespace

static void addEntry(::onnx::TensorProto &tensor, const char *key, std::string value) {
  auto *entry = tensor.add_external_data();
  entry->set_key(key);
  entry->set_value(std::move(value));
}

// The data file must not replace one that the model's weights are read from.
static Error checkSources(mlir::ModuleOp module, StringRef folder, StringRef dataPath) {
  if (!fs::exists(dataPath))
    return Error::success();
  moe::WeightsOp weights = moe::findWeights(module);
  llvm::StringMap<char> seen;
  if (weights)
    for (auto load : weights->getRegion(0).getOps<moe::WeightLoadOp>()) {
      if (!seen.try_emplace(load.getFile(), 0).second)
        continue;
      llvm::SmallString<256> path(folder);
      llvm::sys::path::append(path, load.getFile());
      if (fs::equivalent(path, dataPath))
        return llvm::createStringError(std::make_error_code(std::errc::file_exists),
                                       dataPath + ": would overwrite the weights of the model");
    }
  return Error::success();
}

// All weights into the graph or the data file, as their sizes say.
static Error storeWeights(const Writer &writer, WeightWriter &weights, ::onnx::GraphProto &graph,
                          bool externalData, StringRef dataName, PendingFile &data,
                          ExportReport &report) {
  uint64_t total = 0;
  std::vector<uint64_t> sizes;
  for (const Stored &stored : writer.stored) {
    auto size = weights.bytes(stored.bind);
    if (!size)
      return size.takeError();
    sizes.push_back(*size);
    total += *size;
  }
  bool beside = externalData || total > kInlineTotal;
  uint64_t at = 0;
  for (auto [stored, size] : llvm::zip(writer.stored, sizes)) {
    ::onnx::TensorProto &tensor = *graph.mutable_initializer(stored.initializer);
    if (!beside || size <= kInlineBytes) {
      std::string raw;
      llvm::raw_string_ostream os(raw);
      if (Error error = weights.write(stored.bind, os))
        return error;
      tensor.set_raw_data(std::move(raw));
      continue;
    }
    if (report.dataPath.empty()) {
      if (Error error = data.open())
        return error;
      report.dataPath = dataName.str();
    }
    uint64_t begin = llvm::alignTo(at, size >= kPage ? kPage : kSmallAlignment);
    data.out().write_zeros(static_cast<unsigned>(begin - at));
    if (Error error = weights.write(stored.bind, data.out()))
      return error;
    at = begin + size;
    tensor.set_data_location(::onnx::TensorProto::EXTERNAL);
    addEntry(tensor, "location", dataName.str());
    addEntry(tensor, "offset", std::to_string(begin));
    addEntry(tensor, "length", std::to_string(size));
  }
  report.dataBytes = at;
  return report.dataPath.empty() ? Error::success() : data.close();
}

static Error refused() {
  return llvm::createStringError(std::make_error_code(std::errc::not_supported),
                                 "the model holds what ONNX cannot say");
}

llvm::Expected<ExportReport> moec::exportOnnx(mlir::ModuleOp module, StringRef folder,
                                              StringRef path, const ExportOptions &options,
                                              const std::function<void(uint64_t)> &progress) {
  module.getContext()
      ->loadDialect<moec::onnx::OnnxDialect, moe::MoEDialect, mlir::func::FuncDialect>();
  mlir::OwningOpRef<mlir::ModuleOp> copy = module.clone();
  ExportReport report;
  ::onnx::ModelProto model;
  Writer writer(*copy, model);
  if (mlir::failed(lowerToOnnx(*copy, options, report)) || !writer.run())
    return refused();
  model.set_producer_name("moec");
  model.set_producer_version(options.producerVersion);
  report.opset = model.opset_import(0).version();
  std::string dataPath = (path + ".data").str();
  if (Error error = checkSources(module, folder, dataPath))
    return std::move(error);
  PendingFile data(dataPath), file(path.str());
  WeightWriter weights(*copy, folder, progress);
  if (Error error = storeWeights(writer, weights, *model.mutable_graph(), options.externalData,
                                 llvm::sys::path::filename(dataPath), data, report))
    return std::move(error);
  if (Error error = file.open())
    return std::move(error);
  std::string bytes;
  if (!model.SerializeToString(&bytes) || bytes.size() > (size_t(1) << 31) - 1)
    return llvm::createStringError(std::make_error_code(std::errc::file_too_large),
                                   path + ": the graph is larger than 2 GiB");
  report.modelBytes = bytes.size();
  file.out() << bytes;
  if (Error error = file.close())
    return std::move(error);
  // The graph last: a reader never sees it without its weights.
  if (!report.dataPath.empty()) {
    report.dataPath = dataPath;
    if (Error error = data.rename())
      return std::move(error);
  }
  if (Error error = file.rename()) {
    data.undo();
    return std::move(error);
  }
  return report;
}
