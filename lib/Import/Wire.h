// The fields of a protobuf message as they lie in a file.
#pragma once
#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <string>

namespace moec::onnx_import {

enum Wire : uint32_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

struct Field {
  uint32_t number = 0;
  uint32_t wire = 0;
  llvm::ArrayRef<uint8_t> payload; // of a varint: its own bytes
  uint64_t value = 0;              // varints
};

// Reads the fields of one message.
class Cursor {
public:
  Cursor(llvm::ArrayRef<uint8_t> bytes, bool toEnd)
      : at(bytes.begin()), end(bytes.end()), toEnd(toEnd) {}
  bool done() const { return at == end; }

  bool next(Field &field, std::string &error) {
    uint64_t tag;
    if (!number(tag, error))
      return false;
    field.number = static_cast<uint32_t>(tag >> 3);
    field.wire = static_cast<uint32_t>(tag & 7);
    if (field.number == 0 || tag >> 32)
      return fail(error, "not an ONNX file, or damaged");
    uint64_t length = 0;
    switch (field.wire) {
    case Wire::varint: {
      const uint8_t *from = at;
      if (!number(field.value, error))
        return false;
      field.payload = {from, at};
      return true;
    }
    case Wire::fixed64: length = 8; break;
    case Wire::fixed32: length = 4; break;
    case Wire::bytes:
      if (!number(length, error))
        return false;
      break;
    default:
      return fail(error, "not an ONNX file, or damaged");
    }
    if (length > static_cast<uint64_t>(end - at))
      return fail(error, toEnd ? "truncated, or not an ONNX file: a field goes beyond the end"
                               : "damaged, or not an ONNX file: a field goes beyond its message");
    field.payload = {at, static_cast<size_t>(length)};
    at += length;
    return true;
  }

  bool number(uint64_t &value, std::string &error) {
    value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (at == end)
        return fail(error,
                    toEnd ? "truncated, or not an ONNX file" : "not an ONNX file, or damaged");
      uint8_t byte = *at++;
      value |= uint64_t(byte & 0x7f) << shift;
      if (!(byte & 0x80))
        return true;
    }
    return fail(error, "not an ONNX file, or damaged");
  }

private:
  static bool fail(std::string &error, llvm::StringRef text) {
    error = text.str();
    return false;
  }
  const uint8_t *at, *end;
  bool toEnd; // the message ends where the file ends
};

inline void putNumber(std::string &out, uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

inline void putBytes(std::string &out, uint32_t number, llvm::StringRef bytes) {
  putNumber(out, uint64_t(number) << 3 | Wire::bytes);
  putNumber(out, bytes.size());
  out.append(bytes.begin(), bytes.end());
}

inline llvm::StringRef text(llvm::ArrayRef<uint8_t> bytes) {
  return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}

inline void putField(std::string &out, const Field &field) {
  if (field.wire == Wire::bytes)
    return putBytes(out, field.number, text(field.payload));
  putNumber(out, uint64_t(field.number) << 3 | field.wire);
  out.append(field.payload.begin(), field.payload.end());
}

} // namespace moec::onnx_import
