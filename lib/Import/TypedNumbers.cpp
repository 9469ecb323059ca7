// Elements that a tensor holds as numbers in a field of its own, not as raw data.
#include "Skim.h"
#include "Wire.h"

using namespace moec::onnx_import;

// Bytes that one number of a typed field stands for in raw_data.
static unsigned numberBytes(uint32_t field, int32_t type) {
  switch (field) {
  case 4: return type == 1 || type == 14 ? 4 : 0;
  case 10: return type == 11 || type == 15 ? 8 : 0;
  case 7: return type == 7 ? 8 : 0;
  case 11: return type == 13 ? 8 : type == 12 ? 4 : 0;
  case 5: {
    // Types of 2 and 4 bits come packed, a byte a number.
    bool fits = type != 1 && type != 7 && (type < 11 || type > 15);
    unsigned bits = fits ? elementBits(type) : 0;
    return bits == 0 ? 0 : bits < 8 ? 1 : bits / 8;
  }
  default: return 0;
  }
}

unsigned moec::onnx_import::elementBits(int32_t type) {
  static constexpr uint8_t bits[] = {0,  32, 8,  8, 16, 16, 32, 64, 0, 8, 16, 64, 32, 64,
                                     64, 128, 16, 8, 8, 8, 8, 4, 4, 4, 8, 2, 2};
  return type >= 0 && static_cast<size_t>(type) < std::size(bits) ? bits[type] : 0;
}

bool moec::onnx_import::decodeTyped(const TensorSource &source, int32_t type, uint64_t count,
                                    std::string &out) {
  uint64_t want = (count * elementBits(type) + 7) / 8;
  out.clear();
  std::string ignored;
  for (const TensorSource::Run &run : source.runs) {
    unsigned size = numberBytes(run.field, type);
    bool fixed = run.field == 4 || run.field == 10;
    if (size == 0 || (run.wire == Wire::varint && fixed))
      return false;
    if (fixed) {
      out.append(run.bytes.begin(), run.bytes.end());
      continue;
    }
    Cursor cursor(run.bytes, false);
    uint64_t value;
    while (!cursor.done()) {
      if (!cursor.number(value, ignored) || out.size() >= want)
        return false;
      out.append(reinterpret_cast<const char *>(&value), size);
    }
  }
  return out.size() == want;
}
