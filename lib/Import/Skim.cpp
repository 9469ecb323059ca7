#include "Context.h"
#include "Wire.h"

using namespace moec::onnx_import;
using llvm::ArrayRef;
using llvm::StringRef;

namespace {

// Bounds on what a file can make us do; well above any real model.
constexpr size_t kMaxMessage = size_t(1) << 29;
constexpr size_t kMaxParts = 20'000'000;
constexpr unsigned kMaxDepth = 16;
constexpr size_t kMaxRank = 64;
constexpr uint64_t kInline = 1024;
constexpr uint64_t kInlineVector = 64 << 10;

enum class Kind { model, graph, node, attribute, function, tensor };

// What becomes of a field: copied, left out, or a message that is skimmed itself.
enum class Fate { copy, drop, descend, sparse };
struct Rule {
  Fate fate;
  Kind kind = Kind::model;
};

// Documentation, metadata, training and device information are not needed; fields that this
// version of ONNX does not have are left out.
Rule ruleOf(Kind kind, uint32_t number) {
  switch (kind) {
  case Kind::model:
    if (number == 7)
      return {Fate::descend, Kind::graph};
    if (number == 25)
      return {Fate::descend, Kind::function};
    return {number <= 8 && number != 6 ? Fate::copy : Fate::drop};
  case Kind::graph:
    if (number == 1)
      return {Fate::descend, Kind::node};
    if (number == 5)
      return {Fate::descend, Kind::tensor};
    if (number == 15)
      return {Fate::sparse};
    return {number == 2 || (number >= 11 && number <= 13) ? Fate::copy : Fate::drop};
  case Kind::node:
    if (number == 5)
      return {Fate::descend, Kind::attribute};
    return {number <= 8 && number != 6 ? Fate::copy : Fate::drop};
  case Kind::attribute:
    if (number == 5 || number == 10)
      return {Fate::descend, Kind::tensor};
    if (number == 6 || number == 11)
      return {Fate::descend, Kind::graph};
    if (number == 22 || number == 23)
      return {Fate::sparse};
    return {number <= 9 || number == 14 || number == 15 || number == 20 || number == 21
                ? Fate::copy
                : Fate::drop};
  case Kind::function:
    if (number == 7)
      return {Fate::descend, Kind::node};
    if (number == 11)
      return {Fate::descend, Kind::attribute};
    return {number <= 13 && number != 8 ? Fate::copy : Fate::drop};
  case Kind::tensor:
    break;
  }
  return {Fate::drop};
}

class Skimmer {
public:
  Skimmer(ArrayRef<uint8_t> file, Skimmed &result, std::string &error)
      : file(file), result(result), error(error) {}

  bool message(Kind kind, ArrayRef<uint8_t> bytes, unsigned graphs, std::string &out) {
    if (kind == Kind::tensor)
      return tensor(bytes, out);
    if (kind == Kind::graph && ++graphs > kMaxDepth)
      return fail("unsupported: graphs are nested more than " + std::to_string(kMaxDepth) +
                  " deep");
    Cursor cursor(bytes, bytes.end() == file.end());
    Field field;
    while (!cursor.done()) {
      if (!cursor.next(field, error))
        return false;
      if (++parts > kMaxParts || out.size() > kMaxMessage)
        return fail("unsupported: the graph without its tensors is too large");
      Rule rule = ruleOf(kind, field.number);
      if (rule.fate == Fate::copy) {
        putField(out, field);
      } else if (rule.fate == Fate::sparse) {
        result.sparse = true;
      } else if (rule.fate == Fate::descend) {
        if (field.wire != Wire::bytes)
          return fail("not an ONNX file, or damaged");
        std::string inner;
        if (!message(rule.kind, field.payload, graphs, inner))
          return false;
        putBytes(out, field.number, inner);
      }
    }
    return true;
  }

private:
  struct Tensor {
    llvm::SmallVector<int64_t> dims;
    int32_t type = 0;
    bool external = false;
    std::string head;  // the fields that are kept in any case
    std::string data;  // the fields that hold the elements, while they are small
    uint64_t dataBytes = 0;
    ArrayRef<uint8_t> raw;
    bool hasRaw = false;
    TensorSource source;
    llvm::SmallVector<StringRef, 3> keys; // of external_data, those that mean something here
    StringRef name;
    std::string problem; // the first one, told with the name, which may come later
  };

  bool fail(std::string why) {
    error = std::move(why);
    return false;
  }

  bool dimension(Tensor &t, uint64_t value) {
    t.dims.push_back(static_cast<int64_t>(value));
    return t.dims.size() <= kMaxRank || fail("unsupported: a tensor of more than 64 dimensions");
  }

  // One entry of external_data.
  bool entry(Tensor &t, ArrayRef<uint8_t> bytes) {
    Cursor cursor(bytes, false);
    Field field;
    StringRef key, value;
    while (!cursor.done()) {
      if (!cursor.next(field, error))
        return false;
      (field.number == 1 ? key : value) = text(field.payload);
    }
    uint64_t number = 0;
    if (key != "location" && key != "offset" && key != "length")
      return true;
    if (llvm::is_contained(t.keys, key) && t.problem.empty())
      t.problem = "external data has its " + key.str() + " twice";
    t.keys.push_back(key);
    if (key == "location") {
      t.source.location = value.str();
      return true;
    }
    if (value.getAsInteger(10, number) && t.problem.empty())
      t.problem = "external data has the " + key.str() + " \"" + value.take_front(40).str() +
                  "\", which is no size in bytes";
    if (key == "offset")
      t.source.offset = number;
    else
      t.source.length = number;
    return true;
  }

  bool field(Tensor &t, const Field &field) {
    switch (field.number) {
    case 1: {
      putField(t.head, field);
      if (field.wire == Wire::varint)
        return dimension(t, field.value);
      Cursor dims(field.payload, false);
      uint64_t value;
      while (!dims.done())
        if (!dims.number(value, error) || !dimension(t, value))
          return false;
      return true;
    }
    case 2:
      t.type = static_cast<int32_t>(field.value);
      putField(t.head, field);
      return true;
    case 3:
      return fail("unsupported: a tensor in segments");
    case 8:
      t.name = text(field.payload);
      putField(t.head, field);
      return true;
    case 9:
      t.raw = field.payload;
      t.hasRaw = true;
      t.dataBytes += field.payload.size();
      if (t.dataBytes <= kInlineVector)
        putField(t.data, field);
      return true;
    case 4: case 5: case 7: case 10: case 11:
      t.source.runs.push_back({field.number, field.wire, field.payload});
      t.dataBytes += field.payload.size();
      if (t.dataBytes <= kInlineVector)
        putField(t.data, field);
      return true;
    case 13:
      return entry(t, field.payload);
    case 14:
      t.external = field.value == 1;
      return true;
    default: // string_data too: strings are refused later
      return true;
    }
  }

  // Tensors that shape inference and folding look at stay in the message.
  static bool staysInline(const Tensor &t) {
    uint64_t count = 1;
    for (int64_t dim : t.dims) {
      if (dim <= 0 || dim > 1 << 20)
        return dim == 0;
      count *= static_cast<uint64_t>(dim);
      if (count > 1 << 20)
        return false;
    }
    bool index = t.type == 6 || t.type == 7 || t.type == 9;
    if (count > 1 && !index)
      return false;
    return t.dataBytes <= (t.dims.size() <= 1 ? kInlineVector : kInline);
  }

  bool tensor(ArrayRef<uint8_t> bytes, std::string &out) {
    Tensor t;
    Cursor cursor(bytes, bytes.end() == file.end());
    Field next;
    while (!cursor.done()) {
      if (++parts > kMaxParts)
        return fail("unsupported: the graph without its tensors is too large");
      if (!cursor.next(next, error) || !field(t, next))
        return false;
    }
    bool typed = llvm::any_of(t.source.runs, [](const auto &run) { return !run.bytes.empty(); });
    if (typed && !t.raw.empty() && t.problem.empty())
      t.problem = "has both raw data and numbers of its own";
    if (!t.problem.empty())
      return fail("tensor \"" + brief(t.name) + "\" " + t.problem);
    out = std::move(t.head);
    bool strings = t.type == 8;
    if (!t.external && (strings || staysInline(t))) {
      out += t.data;
      return true;
    }
    using K = TensorSource::Kind;
    TensorSource &source = t.source;
    bool plain = source.runs.size() == 1 && source.runs[0].wire == Wire::bytes &&
                 ((source.runs[0].field == 4 && (t.type == 1 || t.type == 14)) ||
                  (source.runs[0].field == 10 && (t.type == 11 || t.type == 15)));
    if (t.external) {
      source.kind = K::external;
    } else if (t.hasRaw || plain) { // packed floats lie in the file as raw_data would
      ArrayRef<uint8_t> range = t.hasRaw ? t.raw : source.runs[0].bytes;
      source.kind = K::file;
      source.offset = static_cast<uint64_t>(range.begin() - file.begin());
      source.length = range.size();
    } else if (!source.runs.empty()) {
      source.kind = K::typed;
    }
    std::string pair;
    putBytes(pair, 1, kSourceKey);
    putBytes(pair, 2, std::to_string(result.sources.size()));
    putBytes(out, 13, pair);
    result.sources.push_back(std::move(source));
    return true;
  }

  ArrayRef<uint8_t> file;
  Skimmed &result;
  std::string &error;
  size_t parts = 0;
};

} // namespace

std::optional<Skimmed> moec::onnx_import::skim(ArrayRef<uint8_t> file, std::string &error) {
  Skimmed result;
  Skimmer skimmer(file, result, error);
  if (!skimmer.message(Kind::model, file, 0, result.message))
    return std::nullopt;
  return result;
}
