#include "SafeTensors.h"
#include "Text.h"

#include "llvm/ADT/SmallString.h"
#include "llvm/Support/CheckedArithmetic.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Signals.h"
#include "llvm/Support/raw_ostream.h"

#include <nlohmann/json.hpp>

#include <algorithm>

using namespace moec;
using llvm::StringRef;
using nlohmann::json;
namespace fs = llvm::sys::fs;

namespace {

// A parsed header needs many times its bytes: a limit keeps a hostile one from using up the memory.
constexpr uint64_t kHeaderLimit = 16 << 20;
constexpr size_t kRankLimit = 8;

int64_t bytesOf(StringRef type) {
  static const std::map<std::string, int64_t> sizes = {
      {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8}, {"I32", 4},
      {"I16", 2}, {"I8", 1},  {"U64", 8}, {"U32", 4},  {"U16", 2}, {"U8", 1}};
  auto found = sizes.find(type.str());
  return found == sizes.end() ? 0 : found->second;
}

llvm::Expected<SafeTensor> toTensor(StringRef path, const std::string &name, const json &entry,
                                    llvm::ArrayRef<char> data) {
  auto bad = [&](const llvm::Twine &what) {
    return refuse(path, "tensor " + shown(name) + ": " + what);
  };
  auto get = [&](const char *key) -> const json * {
    auto found = entry.is_object() ? entry.find(key) : entry.end();
    return entry.is_object() && found != entry.end() ? &*found : nullptr;
  };
  const json *type = get("dtype"), *shape = get("shape"), *offsets = get("data_offsets");
  if (!type || !type->is_string() || !shape || !shape->is_array() || shape->size() > kRankLimit ||
      !offsets || !offsets->is_array() || offsets->size() != 2 ||
      !(*offsets)[0].is_number_unsigned() || !(*offsets)[1].is_number_unsigned())
    return bad("needs \"dtype\", \"shape\" and \"data_offsets\" of two numbers");
  SafeTensor tensor{name, type->get<std::string>(), {}, {}};
  std::optional<int64_t> bytes = bytesOf(tensor.type);
  if (!*bytes)
    return bad("unsupported type " + shown(tensor.type));
  for (const json &dim : *shape) {
    if (!dim.is_number_unsigned() || dim.get<uint64_t>() > uint64_t(INT64_MAX))
      return bad("a dimension is no size");
    tensor.shape.push_back(dim.get<int64_t>());
    bytes = llvm::checkedMul(*bytes, tensor.shape.back());
    if (!bytes)
      return bad("its shape is too large");
  }
  uint64_t begin = (*offsets)[0].get<uint64_t>(), end = (*offsets)[1].get<uint64_t>();
  if (begin > end || end > data.size())
    return bad("its bytes lie outside of the file");
  if (end - begin != uint64_t(*bytes))
    return bad("its shape needs " + llvm::Twine(*bytes) + " bytes, the file has " +
               llvm::Twine(end - begin));
  tensor.bytes = data.slice(begin, end - begin);
  return tensor;
}

} // namespace

const SafeTensor *SafeTensors::find(StringRef name) const {
  auto found = byName.find(name);
  return found == byName.end() ? nullptr : &all[found->second];
}

llvm::Expected<SafeTensors> SafeTensors::open(StringRef path) {
  fs::file_status status;
  if (std::error_code error = fs::status(path, status))
    return refuse(path, "cannot be read: " + error.message());
  if (status.type() != fs::file_type::regular_file)
    return refuse(path, "cannot be read: it is no regular file");
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer)
    return refuse(path, "cannot be read: " + buffer.getError().message());
  SafeTensors file;
  file.buffer = std::move(*buffer);
  if (llvm::Error error = file.parse(path))
    return error;
  return file;
}

llvm::Error SafeTensors::parse(StringRef path) {
  StringRef content = buffer->getBuffer();
  if (content.size() < 8)
    return refuse(path, "is no safetensors file: it is shorter than 8 bytes");
  uint64_t length = llvm::support::endian::read64le(content.data());
  if (length > content.size() - 8 || length > kHeaderLimit)
    return refuse(path, "is no safetensors file, or cut off: its header would have " +
                            llvm::Twine(length) + " bytes");
  StringRef header = content.substr(8, length);
  StringRef rest = content.drop_front(8 + length);
  json parsed = json::parse(header.begin(), header.end(), nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object())
    return refuse(path, "is no safetensors file: its header is no JSON object");
  for (auto &[name, entry] : parsed.items()) {
    if (name == "__metadata__") {
      if (!entry.is_object())
        return refuse(path, "its metadata is no JSON object");
      for (auto &[key, value] : entry.items()) {
        if (!value.is_string())
          return refuse(path, "metadata " + shown(key) + " is no text");
        texts[key] = value.get<std::string>();
      }
      continue;
    }
    auto tensor = toTensor(path, name, entry, {rest.data(), rest.size()});
    if (!tensor)
      return tensor.takeError();
    byName[name] = all.size();
    all.push_back(std::move(*tensor));
  }
  return checkCover(path, rest.size());
}

llvm::Error SafeTensors::checkCover(StringRef path, size_t bytes) const {
  std::vector<const SafeTensor *> order;
  for (const SafeTensor &tensor : all)
    if (!tensor.bytes.empty())
      order.push_back(&tensor);
  llvm::sort(order, [](auto *a, auto *b) { return a->bytes.data() < b->bytes.data(); });
  const char *at = buffer->getBufferEnd() - bytes;
  for (const SafeTensor *tensor : order) {
    if (tensor->bytes.data() != at)
      return refuse(
          path, "tensor " + shown(tensor->name) +
                    (tensor->bytes.data() < at ? " overlaps another" : " leaves a gap before it"));
    at = tensor->bytes.end();
  }
  if (at != buffer->getBufferEnd())
    return refuse(path, "has " + llvm::Twine(buffer->getBufferEnd() - at) +
                            " bytes that belong to no tensor");
  return llvm::Error::success();
}

llvm::Error moec::writeSafeTensors(StringRef path,
                                   const std::map<std::string, std::string> &metadata,
                                   llvm::ArrayRef<SafeTensor> tensors) {
  json header = {{"__metadata__", metadata}};
  uint64_t offset = 0;
  for (const SafeTensor &tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.type},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.bytes.size()}}};
    offset += tensor.bytes.size();
  }
  std::string text = header.dump(-1, ' ', false, json::error_handler_t::replace);
  text.resize(llvm::alignTo(text.size(), 8), ' '); // the data begins aligned
  if (text.size() > kHeaderLimit)
    return refuse(path, "cannot write: its header would be longer than can be read again");

  int fd = -1;
  llvm::SmallString<128> temporary;
  if (std::error_code error = fs::createUniqueFile(path + ".tmp-%%%%%%%%", fd, temporary,
                                                   fs::OF_None, fs::all_read | fs::owner_write))
    return refuse(path, "cannot write: " + error.message());
  llvm::sys::RemoveFileOnSignal(temporary);
  llvm::raw_fd_ostream os(fd, /*shouldClose=*/true);
  char length[8];
  llvm::support::endian::write64le(length, text.size());
  os.write(length, 8);
  os << text;
  for (const SafeTensor &tensor : tensors)
    os.write(tensor.bytes.data(), tensor.bytes.size());
  os.close();
  std::error_code error = os.error();
  os.clear_error();
  if (!error)
    error = fs::rename(temporary, path);
  llvm::sys::DontRemoveFileOnSignal(temporary);
  if (!error)
    return llvm::Error::success();
  fs::remove(temporary);
  return refuse(path, "cannot write: " + error.message());
}
