#include "Context.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Location.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/ConvertUTF.h"

#include <cstring>

using namespace moec;
using namespace moec::onnx_import;
using llvm::StringRef;

std::string onnx_import::printable(StringRef name) {
  std::string result;
  auto *at = reinterpret_cast<const llvm::UTF8 *>(name.begin());
  auto *end = reinterpret_cast<const llvm::UTF8 *>(name.end());
  while (at != end) {
    unsigned length = *at < 32 || *at == 127 ? 0 : llvm::getUTF8SequenceSize(at, end);
    if (length == 0)
      result.push_back('?');
    else
      result.append(at, at + length);
    at += std::max(1u, length);
  }
  return result;
}

std::string onnx_import::brief(StringRef name) {
  constexpr size_t kLongest = 200;
  if (name.size() <= kLongest)
    return printable(name);
  size_t end = kLongest;
  while (end > 0 && (name[end] & 0xc0) == 0x80) // not inside a character
    --end;
  return printable(name.take_front(end)) + "...";
}

std::string onnx_import::oneLine(StringRef text) {
  std::string result;
  while (!text.empty()) {
    if (text.consume_front("[ShapeInferenceError]") || text.consume_front("[TypeInferenceError]"))
      continue;
    char c = text.front();
    text = text.drop_front();
    bool space = static_cast<unsigned char>(c) <= 32 || c == 127;
    if (!space)
      result.push_back(c);
    else if (!result.empty() && result.back() != ' ')
      result.push_back(' ');
  }
  // An assertion of the library: only what it says matters.
  if (size_t at = result.find("` failed: "); at != std::string::npos)
    result = result.substr(at + 10);
  result = StringRef(result).rtrim(" .|").str();
  if (result.size() > 400)
    result = result.substr(0, 400) + " ...";
  return printable(result);
}

void Context::error(const llvm::Twine &text) {
  ++errors;
  mlir::emitError(mlir::UnknownLoc::get(&mlir)) << oneLine(text.str());
}

void Context::nodeError(StringRef op, StringRef name, const llvm::Twine &text) {
  ++errors;
  auto id = mlir::StringAttr::get(&mlir, brief(name));
  mlir::emitError(mlir::NameLoc::get(id))
      << "'onnx." << brief(op) << "' op " << oneLine(text.str());
}

void Context::error(const onnx::NodeProto &node, const llvm::Twine &text) {
  nodeError(node.op_type(), node.name(), text);
}

const TensorSource *Context::sourceOf(const onnx::TensorProto &tensor) const {
  size_t index;
  for (const onnx::StringStringEntryProto &entry : tensor.external_data())
    if (entry.key() == kSourceKey && !StringRef(entry.value()).getAsInteger(10, index) &&
        index < sources.size())
      return &sources[index];
  return nullptr;
}

std::optional<uint64_t> onnx_import::elementCount(const onnx::TensorProto &tensor,
                                                  std::string &why) {
  uint64_t count = 1;
  for (int64_t dim : tensor.dims()) {
    if (dim < 0) {
      why = "has the negative dimension " + std::to_string(dim);
      return std::nullopt;
    }
    constexpr uint64_t kMost = uint64_t(1) << 48;
    bool fits = count == 0 || static_cast<uint64_t>(dim) <= kMost / count;
    count *= static_cast<uint64_t>(dim);
    if (!fits) {
      why = "is unsupported: it has more than 2^48 elements";
      return std::nullopt;
    }
  }
  return count;
}

static std::optional<uint64_t> byteCount(const onnx::TensorProto &tensor, std::string &why) {
  std::optional<uint64_t> count = elementCount(tensor, why);
  unsigned bits = elementBits(tensor.data_type());
  if (count && bits == 0) {
    std::string name = onnx::TensorProto_DataType_Name(
        static_cast<onnx::TensorProto_DataType>(tensor.data_type()));
    why = "has the unsupported element type " +
          (name.empty() ? std::to_string(tensor.data_type()) : name);
    return std::nullopt;
  }
  return count ? std::optional((*count * bits + 7) / 8) : std::nullopt;
}

bool onnx_import::checkSource(Context &context, const onnx::TensorProto &tensor,
                              const TensorSource &source, std::string &why) {
  std::optional<uint64_t> need = byteCount(tensor, why);
  if (!need)
    return false;
  using Kind = TensorSource::Kind;
  if (source.kind == Kind::nothing && *need > 0) {
    why = "has no data";
    return false;
  }
  if (source.length && *source.length != *need) {
    why = "has " + std::to_string(*source.length) + " bytes of data, its type needs " +
          std::to_string(*need);
    return false;
  }
  if (source.kind == Kind::typed && *need > uint64_t(256) << 20) {
    why = "is unsupported: more than 256 MiB of numbers that are not stored as raw data";
    return false;
  }
  if (source.kind != Kind::external)
    return true;
  if (source.location.empty()) {
    why = "is external data without a location";
    return false;
  }
  auto range = context.reader.map(source.location, source.offset, *need);
  if (range)
    return true;
  why = "cannot be read: " + llvm::toString(range.takeError());
  return false;
}

// Typed fields of a tensor that kept its data, as runs of unpacked numbers.
static std::string inlineElements(const onnx::TensorProto &tensor, std::string &why) {
  if (tensor.has_raw_data())
    return tensor.raw_data();
  std::string out;
  auto put = [&](auto value, size_t bytes) {
    out.append(reinterpret_cast<const char *>(&value), bytes);
  };
  unsigned bits = elementBits(tensor.data_type());
  size_t bytes = std::max<size_t>(1, bits / 8);
  switch (tensor.data_type()) {
  case onnx::TensorProto::FLOAT:
  case onnx::TensorProto::COMPLEX64:
    for (float v : tensor.float_data())
      put(v, 4);
    break;
  case onnx::TensorProto::DOUBLE:
  case onnx::TensorProto::COMPLEX128:
    for (double v : tensor.double_data())
      put(v, 8);
    break;
  case onnx::TensorProto::INT64:
    for (int64_t v : tensor.int64_data())
      put(v, 8);
    break;
  case onnx::TensorProto::UINT32:
  case onnx::TensorProto::UINT64:
    for (uint64_t v : tensor.uint64_data())
      put(v, bytes);
    break;
  default:
    for (int32_t v : tensor.int32_data())
      put(v, bytes);
  }
  return out;
}

std::optional<std::string> onnx_import::readElements(Context &context,
                                                     const onnx::TensorProto &tensor,
                                                     std::string &why) {
  std::optional<uint64_t> need = byteCount(tensor, why);
  if (!need)
    return std::nullopt;
  std::string out;
  if (const TensorSource *source = context.sourceOf(tensor)) {
    if (!checkSource(context, tensor, *source, why))
      return std::nullopt;
    using Kind = TensorSource::Kind;
    if (source->kind == Kind::file) {
      out.assign(reinterpret_cast<const char *>(context.bytes.data()) + source->offset, *need);
    } else if (source->kind == Kind::external) {
      llvm::ArrayRef<char> range = llvm::cantFail(
          context.reader.map(source->location, source->offset, *need)); // checked just now
      out.assign(range.begin(), range.end());
    } else if (source->kind == Kind::typed &&
               !decodeTyped(*source, tensor.data_type(), *elementCount(tensor, why), out)) {
      why = "has data that does not fit its type and shape";
      return std::nullopt;
    }
  } else {
    out = inlineElements(tensor, why);
  }
  if (out.size() == *need)
    return out;
  why = "has " + std::to_string(out.size()) + " bytes of data, its type needs " +
        std::to_string(*need);
  return std::nullopt;
}

void onnx_import::forEachGraph(onnx::GraphProto &graph,
                               llvm::function_ref<void(onnx::GraphProto &)> visit) {
  visit(graph);
  for (onnx::NodeProto &node : *graph.mutable_node())
    for (onnx::AttributeProto &attribute : *node.mutable_attribute()) {
      if (attribute.has_g())
        forEachGraph(*attribute.mutable_g(), visit);
      for (onnx::GraphProto &inner : *attribute.mutable_graphs())
        forEachGraph(inner, visit);
    }
}
