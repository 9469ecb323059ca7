// .npy, TensorProto and test_data_set_* folders.
#include "moec/Driver/Tensor.h"
#include "moec/Driver/Error.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

#include <onnx/onnx_pb.h>

#include <cstring>
#include <map>

using namespace moec;
using llvm::StringRef;

namespace {

llvm::Error refuse(StringRef path, const llvm::Twine &what) {
  return fail(Exit::input, path + ": " + what);
}

llvm::Expected<std::unique_ptr<llvm::MemoryBuffer>> readFile(StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer)
    return refuse(path, "cannot read: " + buffer.getError().message());
  return std::move(*buffer);
}

// The element count of `shape` times `size`; nothing if a dimension is negative or it overflows.
std::optional<uint64_t> byteCount(llvm::ArrayRef<int64_t> shape, size_t size) {
  int64_t bytes = int64_t(size);
  for (int64_t d : shape)
    if (d < 0)
      return std::nullopt;
  for (int64_t d : shape)
    if (llvm::MulOverflow(bytes, d, bytes))
      return std::nullopt;
  return uint64_t(bytes);
}

std::optional<DType> npyType(StringRef descr) {
  return llvm::StringSwitch<std::optional<DType>>(descr)
      .Case("<f4", DType::f32).Case("<f8", DType::f64).Case("<f2", DType::f16)
      .Case("|u1", DType::u8).Case("|i1", DType::i8).Case("|b1", DType::boolean)
      .Case("<u2", DType::u16).Case("<i2", DType::i16).Case("<u4", DType::u32)
      .Case("<i4", DType::i32).Case("<u8", DType::u64).Case("<i8", DType::i64)
      .Default(std::nullopt);
}

StringRef npyDescr(DType type) {
  switch (type) {
  case DType::f32: return "<f4";
  case DType::f64: return "<f8";
  case DType::f16: return "<f2";
  case DType::u8: return "|u1";
  case DType::i8: return "|i1";
  case DType::boolean: return "|b1";
  case DType::u16: return "<u2";
  case DType::i16: return "<i2";
  case DType::u32: return "<u4";
  case DType::i32: return "<i4";
  case DType::u64: return "<u8";
  case DType::i64: return "<i8";
  default: return isFloat(type) ? "<f4" : "|i1"; // NumPy lacks these; see writeNpy
  }
}

// Elements of fewer than 8 bits, the first in the lowest bits, to one byte each.
void unpack(Tensor &t, StringRef bytes) {
  unsigned bits = bitsOf(t.type), each = 8 / bits, mask = (1u << bits) - 1;
  bool negative = t.type == DType::i4 || t.type == DType::i2;
  t.data.resize(size_t(t.count()));
  for (size_t i = 0; i < t.data.size(); ++i) {
    unsigned value = uint8_t(bytes[i / each]) >> (i % each * bits) & mask;
    if (negative && value > mask / 2)
      value |= ~mask;
    t.data[i] = char(value);
  }
}

// The text after `'key':` in the header's dictionary.
StringRef valueOf(StringRef header, StringRef key) {
  size_t at = header.find(("'" + key + "':").str());
  return at == StringRef::npos ? StringRef() : header.substr(at + key.size() + 3).ltrim();
}

template <typename Field>
bool copyField(Tensor &t, const Field &field) {
  if (int64_t(field.size()) != t.count())
    return false;
  for (int64_t i = 0; i < t.count(); ++i) {
    // Small floats stand as bit patterns in int32_data; everything else as its value.
    if (t.type == DType::f16 || t.type == DType::bf16)
      t.as<uint16_t>()[i] = uint16_t(field.Get(int(i)));
    else if (sizeOf(t.type) == 1)
      t.as<uint8_t>()[i] = uint8_t(field.Get(int(i)));
    else if (t.type == DType::i64)
      t.as<int64_t>()[i] = int64_t(field.Get(int(i)));
    else if (t.type == DType::u64)
      t.as<uint64_t>()[i] = uint64_t(field.Get(int(i)));
    else
      t.set(i, double(field.Get(int(i))));
  }
  return true;
}

bool fillFromFields(Tensor &t, const onnx::TensorProto &proto) {
  if (bitsOf(t.type) < 8) { // a packed byte in each number
    std::string bytes;
    for (int32_t value : proto.int32_data())
      bytes += char(value);
    if (bytes.size() != (size_t(t.count()) * bitsOf(t.type) + 7) / 8)
      return false;
    unpack(t, bytes);
    return true;
  }
  switch (t.type) {
  case DType::f32: return copyField(t, proto.float_data());
  case DType::f64: return copyField(t, proto.double_data());
  case DType::i64: return copyField(t, proto.int64_data());
  case DType::u64: case DType::u32: return copyField(t, proto.uint64_data());
  default: return copyField(t, proto.int32_data());
  }
}

} // namespace

llvm::Expected<Tensor> moec::readNpy(StringRef path) {
  auto buffer = readFile(path);
  if (!buffer)
    return buffer.takeError();
  StringRef bytes = (*buffer)->getBuffer();
  if (!bytes.starts_with("\x93NUMPY") || bytes.size() < 12)
    return refuse(path, "not a .npy file");
  auto byte = [&](size_t i) { return uint32_t(uint8_t(bytes[i])); };
  bool wide = byte(6) >= 2;
  size_t length = byte(8) | byte(9) << 8, start = 10;
  if (wide)
    length |= byte(10) << 16 | byte(11) << 24, start = 12;
  if (start + length > bytes.size())
    return refuse(path, "truncated .npy header");
  StringRef header = bytes.substr(start, length);
  StringRef descr = valueOf(header, "descr"), shape = valueOf(header, "shape");
  descr = descr.drop_front(descr.empty() ? 0 : 1).split('\'').first;
  auto type = npyType(descr);
  if (!type)
    return fail(Exit::unsupported, path + ": unsupported .npy element type '" + descr + "'");
  if (valueOf(header, "fortran_order").starts_with("True"))
    return fail(Exit::unsupported, path + ": unsupported .npy file in Fortran order");
  Tensor t;
  t.type = *type;
  t.name = llvm::sys::path::stem(path).str();
  if (!shape.consume_front("("))
    return refuse(path, "malformed .npy header");
  llvm::SmallVector<StringRef> dims;
  shape.split(')').first.split(dims, ',', -1, /*KeepEmpty=*/false);
  for (StringRef d : dims) {
    int64_t n;
    if (d.trim().empty())
      continue;
    if (d.trim().getAsInteger(10, n))
      return refuse(path, "malformed .npy shape");
    t.shape.push_back(n);
  }
  StringRef values = bytes.substr(start + length);
  if (byteCount(t.shape, sizeOf(t.type)) != values.size())
    return refuse(path, llvm::formatv("{0} bytes of data do not fill {1}", values.size(), describe(t)));
  t.data.assign(values.begin(), values.end());
  return t;
}

llvm::Error moec::writeNpy(StringRef path, const Tensor &tensor) {
  std::string shape;
  for (int64_t d : tensor.shape)
    shape += std::to_string(d) + ", ";
  std::string header = llvm::formatv("{{'descr': '{0}', 'fortran_order': False, 'shape': ({1}), }",
                                     npyDescr(tensor.type), shape);
  header.resize((10 + header.size() + 1 + 63) / 64 * 64 - 11, ' ');
  header += '\n';
  std::error_code error;
  llvm::raw_fd_ostream os(path, error);
  if (error)
    return fail(Exit::resource, path + ": cannot write: " + error.message());
  os << StringRef("\x93NUMPY\x01\x00", 8) << char(header.size() & 255) << char(header.size() >> 8)
     << header;
  if (isFloat(tensor.type) && npyType(npyDescr(tensor.type)) != tensor.type) {
    for (int64_t i = 0; i < tensor.count(); ++i) {
      float value = float(tensor.at(i));
      os << StringRef(reinterpret_cast<const char *>(&value), sizeof value);
    }
  } else {
    os << StringRef(tensor.data.data(), tensor.data.size());
  }
  os.close();
  if (os.has_error()) {
    std::string text = os.error().message();
    os.clear_error();
    return fail(Exit::resource, path + ": cannot write: " + text);
  }
  return llvm::Error::success();
}

llvm::Expected<Tensor> moec::readTensorProto(StringRef path) {
  auto buffer = readFile(path);
  if (!buffer)
    return buffer.takeError();
  onnx::TensorProto proto;
  if ((*buffer)->getBufferSize() > INT32_MAX ||
      !proto.ParseFromArray((*buffer)->getBufferStart(), int((*buffer)->getBufferSize())))
    return refuse(path, "not a serialized ONNX tensor");
  Tensor t;
  t.type = DType(proto.data_type());
  t.name = proto.name();
  t.shape.assign(proto.dims().begin(), proto.dims().end());
  if (sizeOf(t.type) == 0)
    return fail(Exit::unsupported,
                path + ": unsupported tensor element type " + llvm::Twine(proto.data_type()));
  auto size = byteCount(t.shape, sizeOf(t.type));
  if (!size)
    return refuse(path, "invalid tensor shape");
  if (proto.has_raw_data()) {
    bool packed = bitsOf(t.type) < 8;
    if (proto.raw_data().size() != (packed ? (*size * bitsOf(t.type) + 7) / 8 : *size))
      return refuse(path, llvm::formatv("{0} bytes of data do not fill {1}",
                                        proto.raw_data().size(), describe(t)));
    if (packed) {
      unpack(t, proto.raw_data());
      return t;
    }
    t.data.assign(proto.raw_data().begin(), proto.raw_data().end());
    return t;
  }
  // A shape promises data; it is believed only as far as the file holds some.
  if (*size > 16 * (*buffer)->getBufferSize())
    return refuse(path, "the data do not fill " + describe(t));
  t.data.resize(*size);
  if (!fillFromFields(t, proto))
    return refuse(path, "the data do not fill " + describe(t));
  return t;
}

static llvm::Expected<bool> readNumbered(StringRef folder, StringRef kind, size_t index,
                                         std::vector<Tensor> &tensors) {
  for (StringRef extension : {".pb", ".npy"}) {
    llvm::SmallString<128> path(folder);
    llvm::sys::path::append(path, kind + llvm::Twine(index) + extension);
    if (!llvm::sys::fs::exists(path))
      continue;
    auto tensor = extension == ".pb" ? readTensorProto(path) : readNpy(path);
    if (!tensor)
      return tensor.takeError();
    tensors.push_back(std::move(*tensor));
    return true;
  }
  return false;
}

llvm::Expected<TestSet> moec::readTestSet(StringRef folder) {
  TestSet set;
  set.folder = folder.str();
  for (auto [kind, tensors] : {std::pair<StringRef, std::vector<Tensor> *>{"input_", &set.inputs},
                               {"output_", &set.outputs}}) {
    while (true) {
      auto found = readNumbered(folder, kind, tensors->size(), *tensors);
      if (!found)
        return found.takeError();
      if (!*found)
        break;
    }
  }
  if (set.inputs.empty() && set.outputs.empty())
    return refuse(folder, "holds no input_0.pb or output_0.pb");
  return set;
}

std::vector<std::string> moec::findTestSets(StringRef folder) {
  std::map<uint64_t, std::string> sets;
  std::error_code error;
  for (llvm::sys::fs::directory_iterator it(folder, error), end; it != end && !error;
       it.increment(error)) {
    StringRef name = llvm::sys::path::filename(it->path());
    uint64_t number;
    if (name.consume_front("test_data_set_") && !name.getAsInteger(10, number))
      sets[number] = it->path();
    else if (name == "input_0.pb" || name == "output_0.pb" || name == "input_0.npy")
      return {folder.str()};
  }
  std::vector<std::string> paths;
  for (auto &[number, path] : sets)
    paths.push_back(path);
  return paths;
}
