// Rotary embeddings: RotaryEmbedding and MRotaryEmbedding. Formulas: docs/ContribOperators.md of
// ONNX Runtime.
#include "Contrib.h"

using namespace mlir;

namespace moec::prepare {

bool rotated(const Custom &c, OnnxBuilder &b, Value x, Value cos, Value sin, const Rotary &options,
             Value &result) {
  auto done = rotary(b, x, cos, sin, options);
  if (!done)
    return c.refuse("the width of its heads is unknown");
  result = *done;
  return true;
}

namespace {

// Rows of the caches by position: [B, S, dim / 2].
Value cacheRows(OnnxBuilder &b, Value cache, Value positions, Value x) {
  auto type = rankedType(positions);
  if (type.getRank() == 2)
    return b.gather(cache, positions, 0);
  // A single offset: positions are offset .. offset + S - 1.
  int64_t axis = rankedType(x).getRank() == 4 ? 2 : 1;
  Value range = countTo(b, sizeOf(b, x, axis), rankedType(x).getDimSize(axis));
  Value rows = b.binary("Add", range, positions);
  return b.unsqueeze(b.gather(cache, rows, 0), 0);
}

// What both operators say about their heads; false with the reason.
bool readRotary(const Custom &c, Rotary &options) {
  Value x = c.in(0), cos = c.in(2);
  if (!c.areFloats({0, 2, 3}))
    return false;
  if (!c.in(1) || !rankedType(c.in(1)) || rankedType(cos).getRank() != 2)
    return c.refuse("its positions or caches have an unknown form");
  if (c.number("is_packed_batching", 0) != 0)
    return c.refuse("packed batches are unsupported");
  if (c.real("scale", 1.0) != 1.0)
    return c.refuse("a scale is unsupported");
  options.interleaved = c.number("interleaved", 0) != 0;
  options.heads = c.number("num_heads", 0);
  options.rotaryDim = c.number("rotary_embedding_dim", 0);
  int64_t half = rankedType(cos).getShape().back();
  // Without num_heads the head is as wide as the caches say.
  int64_t width = rankedType(x).getShape().back();
  if (options.heads == 0 && half > 0 && width > 0)
    options.heads = width / (2 * half);
  if (options.rotaryDim == 0 && half > 0) {
    options.rotaryDim = 2 * half;
    options.wholeHead = true;
  }
  return true;
}

bool rotaryEmbedding(const Custom &c, OnnxBuilder &b) {
  Rotary options;
  Value x = c.in(0), positions = c.in(1), y;
  if (!readRotary(c, options) || !rotated(c, b, x, cacheRows(b, c.in(2), positions, x),
                                          cacheRows(b, c.in(3), positions, x), options, y))
    return false;
  c.replace(0, y);
  return true;
}

// Which of the three streams of positions (time, height, width) each column reads.
bool streamsOf(const Custom &c, int64_t half, SmallVectorImpl<int64_t> &streams) {
  SmallVector<int64_t> section;
  if (auto given = dyn_cast_or_null<DenseI64ArrayAttr>(c.attr("mrope_section")))
    section.assign(given.asArrayRef().begin(), given.asArrayRef().end());
  else if (auto list = dyn_cast_or_null<ArrayAttr>(c.attr("mrope_section")))
    for (Attribute n : list)
      section.push_back(intAttr(n, -1));
  if (section.size() != 3 || llvm::any_of(section, [](int64_t n) { return n < 0; }) ||
      section[0] + section[1] + section[2] != half)
    return c.refuse("mrope_section does not fit the caches");
  streams.assign(half, 0);
  bool interleaved = c.number("mrope_layout", 0) == 1;
  for (int64_t stream : {1, 2})
    for (int64_t i = 0; i < section[stream]; ++i) {
      int64_t column =
          interleaved ? stream + 3 * i : section[0] + (stream == 2 ? section[1] : 0) + i;
      if (column < half)
        streams[column] = stream;
    }
  return true;
}

// positions [3, B, S]: each column of the caches' rows is of one stream.
bool mRotaryEmbedding(const Custom &c, OnnxBuilder &b) {
  Rotary options;
  if (!readRotary(c, options))
    return false;
  Value x = c.in(0), positions = c.in(1);
  int64_t half = rankedType(c.in(2)).getShape().back();
  SmallVector<int64_t> streams;
  if (rankedType(positions).getRank() != 3 || half < 1)
    return c.refuse("its positions or caches have an unknown form");
  if (!streamsOf(c, half, streams))
    return false;
  auto type = RankedTensorType::get({half}, b.builder.getI1Type());
  auto rows = [&](Value cache) {
    Value result;
    for (int64_t stream = 0; stream < 3; ++stream) {
      if (stream > 0 && !llvm::is_contained(streams, stream))
        continue;
      auto all = rankedType(positions);
      auto one = RankedTensorType::get(all.getShape().drop_front(), all.getElementType());
      Value mine = b.op("Squeeze", {b.slice(positions, 0, stream, stream + 1), b.ints(0)}, one);
      Value read = b.gather(cache, mine, 0);
      if (!result) {
        result = read;
        continue;
      }
      SmallVector<bool> chosen;
      for (int64_t s : streams)
        chosen.push_back(s == stream);
      Value mask = b.op("Constant", {}, type,
                        {b.builder.getNamedAttr("value", DenseElementsAttr::get(type, chosen))});
      result = b.op("Where", {mask, read, result}, result.getType());
    }
    return result;
  };
  Value y;
  if (!rotated(c, b, x, rows(c.in(2)), rows(c.in(3)), options, y))
    return false;
  c.replace(0, y);
  return true;
}

} // namespace

void addContribRotary(ContribTable &table) {
  table["RotaryEmbedding"] = rotaryEmbedding;
  table["MRotaryEmbedding"] = mRotaryEmbedding;
}

} // namespace moec::prepare
