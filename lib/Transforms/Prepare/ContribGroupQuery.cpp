// GroupQueryAttention: heads that share keys, with the cache of keys and values written inside.
// Formula: docs/ContribOperators.md of ONNX Runtime, and its kernel for the CPU where the text
// leaves a choice (the window counts the query's own position; a soft cap comes before the bias).
#include "ContribGroupQuery.h"
#include <cmath>
#include <limits>

using namespace mlir;

namespace moec::prepare {

namespace {

class GroupQuery {
public:
  GroupQuery(const Custom &c, OnnxBuilder &b) : c(c), b(b) {}

  bool run() {
    if (!read())
      return false;
    Type i64 = b.builder.getI64Type();
    length = sizeOf(b, c.in(0), 1);
    // How many keys there are before the first query of each sequence; the rows of a prompt that
    // is shorter than others are padded at their end.
    Value lengths = b.cast(b.reshape(c.in(5), {-1}), i64);
    Value all = b.binary("Add", lengths, b.scalar(i64, 1));
    before =
        b.op("Max", {b.op("Sub", {all, length}, all.getType()), b.scalar(i64, 0)}, all.getType());
    int64_t rows = rankedType(c.in(0)).getDimSize(1);
    Value count = countTo(b, length, rows);
    positions = b.binary("Add", b.unsqueeze(before, 1), count);
    held = windowed ? resident(before) : before;
    slots = windowed ? b.binary("Add", b.unsqueeze(held, 1), count) : positions;
    if (c.number("do_rotary", 0) != 0 && !rotate())
      return false;
    keys = joined(split(k, kvHeads), c.in(3), 1, all);
    values = joined(split(v, kvHeads), c.in(4), 2, all);
    // A buffer is longer than what is in it.
    bool shared = !windowed && c.in(3) && rankedType(c.in(3)).getRank() == 4 &&
                  !rankedType(c.in(3)).isDynamicDim(2);
    if (shared || c.in(10)) {
      keys = used(keys);
      values = used(values);
    }
    Value y = attention(mask(all));
    c.replace(0, y);
    return true;
  }

private:
  bool read() {
    if (!c.areFloats({0}) || !c.hasNone({12, 13, 16}, {3}))
      return false;
    heads = c.number("num_heads", 0), kvHeads = c.number("kv_num_heads", 0);
    auto type = rankedType(c.in(0));
    int64_t width = type.getRank() == 3 ? type.getDimSize(2) : -1;
    bool packed = !c.in(1);
    int64_t parts = packed ? heads + 2 * kvHeads : heads;
    if (heads < 1 || kvHeads < 1 || heads % kvHeads != 0 || width <= 0 || width % parts != 0)
      return c.refuse("its query is not [batch, length, heads * size]");
    size = width / parts;
    for (StringRef name : {"k_quant_type", "v_quant_type"})
      if (c.text(name, "NONE") != "NONE")
        return c.refuse("a quantised cache is unsupported");
    windowed = c.number("sliding_window_cache", 0) != 0;
    if (windowed && (!c.in(3) || c.in(10) || c.number("causal", 1) == 0 ||
                     c.number("local_window_size", -1) < 1))
      return c.refuse("a cache of the window's size needs a cache, a window and no bias");
    if (!c.in(5) || !rankedType(c.in(5)) || !c.in(6) || !rankedType(c.in(6)))
      return c.refuse("seqlens_k or total_sequence_length is missing");
    if (!c.in(3) != !c.in(4) || !c.in(14) != !c.in(15) || packed != !c.in(2))
      return c.refuse("of a pair of inputs there is one");
    element = type.getElementType();
    q = packed ? b.slice(c.in(0), 2, 0, heads * size) : c.in(0);
    k = packed ? b.slice(c.in(0), 2, heads * size, (heads + kvHeads) * size) : c.in(1);
    v = packed ? b.slice(c.in(0), 2, (heads + kvHeads) * size, width) : c.in(2);
    for (Value x : {k, v})
      if (!isFloatTensor(x) || rankedType(x).getRank() != 3 ||
          rankedType(x).getDimSize(2) != kvHeads * size)
        return c.refuse("its keys or values are not [batch, length, heads * size]");
    for (unsigned i : {3u, 4u})
      if (c.in(i) && (!isFloatTensor(c.in(i)) || rankedType(c.in(i)).getRank() != 4 ||
                      rankedType(c.in(i)).getElementType() != element))
        return c.refuse("a cache is not [batch, heads, length, size] of its type");
    if (c.in(14)) {
      double epsilon = c.real("qk_norm_epsilon", 1e-6);
      q = normalised(q, heads, c.in(14), c.real("q_norm_epsilon", epsilon));
      k = normalised(k, kvHeads, c.in(15), c.real("k_norm_epsilon", epsilon));
    }
    return true;
  }

  Value normalised(Value x, int64_t n, Value scale, double epsilon) {
    return b.reshape(rmsNorm(b, b.reshape(x, {0, 0, n, size}), scale, -1, epsilon),
                     {0, 0, n * size});
  }

  bool rotate() {
    Value cos = c.in(7), sin = c.in(8);
    if (!isFloatTensor(cos) || !isFloatTensor(sin) || rankedType(cos).getRank() != 2 ||
        rankedType(cos).getDimSize(1) <= 0)
      return c.refuse("its caches of cosines and sines have an unknown form");
    Value at = positions;
    if (c.in(9) && rankedType(c.in(9)) && rankedType(c.in(9)).getRank() == 2)
      at = c.in(9);
    Rotary options;
    options.interleaved = c.number("rotary_interleaved", 0) != 0;
    options.rotaryDim = 2 * rankedType(cos).getDimSize(1);
    Value c0 = b.gather(cos, at, 0), s0 = b.gather(sin, at, 0);
    options.heads = heads;
    if (!rotated(c, b, q, c0, s0, options, q))
      return false;
    options.heads = kvHeads;
    return rotated(c, b, k, c0, s0, options, k);
  }

  Value split(Value x, int64_t n) {
    return b.transpose(b.reshape(x, {0, 0, n, size}), {0, 2, 1, 3});
  }

  // How many of a sequence's first `count` [B] keys a cache of the window's size holds: rows are
  // dropped as many at a time as the cache is longer than the window (and one more).
  Value resident(Value count) {
    Type i64 = b.builder.getI64Type();
    Value capacity = sizeOf(b, c.in(3), 2);
    Value dropped =
        b.op("Sub", {capacity, b.scalar(i64, double(c.number("local_window_size", 1) - 1))},
             capacity.getType());
    Value over = b.binary("Sub", count, b.binary("Sub", capacity, dropped));
    over = b.binary("Sub", over, b.scalar(i64, 1));
    over = b.op("Max", {over, b.scalar(i64, 0)}, over.getType());
    Value times = b.binary("Div", over, dropped);
    return b.binary("Sub", count, b.binary("Mul", times, dropped));
  }

  // The cache with the new rows behind the old ones; the result is that, or its last rows.
  Value joined(Value rows, Value past, unsigned result, Value all) {
    if (!past) {
      c.replace(result, rows);
      return rows;
    }
    Type i64 = b.builder.getI64Type();
    auto one = RankedTensorType::get({1}, i64);
    Value total = b.cast(b.reshape(c.in(6), {1}), i64);
    Value have = b.shape(past, 2, 3);
    Value missing = b.op("Max", {b.op("Sub", {total, have}, one), b.ints(0)}, one);
    if (windowed)
      missing = b.reshape(length, {1});
    Value shape = b.concat({b.shape(past, 0, 2), missing, b.shape(past, 3, 4)}, 0);
    SmallVector<int64_t> dims(rankedType(past).getShape());
    dims[2] = ShapedType::kDynamic;
    Value zeros =
        b.op("Expand", {b.scalar(element, 0), shape}, RankedTensorType::get(dims, element));
    Value buffer = b.concat({past, zeros}, 2);
    // Rows behind the keys of a sequence are zero, whatever the buffer held there.
    buffer = cleared(buffer, held);
    auto declared = rankedType(c.op->getResult(result));
    if (declared && declared.getRank() == 4 && !windowed)
      dims[2] = declared.getDimSize(2);
    Value index = b.op("Expand", {b.unsqueeze(slots, {1, 3}), b.shape(rows, 0, 4)},
                       rankedType(rows).clone(i64));
    Value cache =
        b.op("ScatterElements", {buffer, index, rows}, RankedTensorType::get(dims, element),
             {b.attr("axis", int64_t(2)), b.attr("reduction", StringRef("none"))});
    c.replace(result, windowed ? last(cache, past, all) : cache);
    return cache;
  }

  Value cleared(Value buffer, Value count) {
    Value column = b.unsqueeze(countTo(b, sizeOf(b, buffer, 2), -1), {0, 1, 3});
    Value old = b.binary("Less", column, b.unsqueeze(count, {1, 2, 3}));
    return b.op("Where", {old, buffer, b.scalar(element, 0)}, buffer.getType());
  }

  // What a cache of the window's size keeps, from its row 0 on.
  Value last(Value cache, Value past, Value all) {
    Value kept = resident(all), capacity = sizeOf(b, past, 2);
    Value first = b.binary("Sub", b.binary("Add", held, length), kept);
    Value row = countTo(b, capacity, rankedType(past).getDimSize(2));
    Value index = b.binary("Add", b.unsqueeze(first, 1), row);
    Value end = b.binary("Sub", sizeOf(b, cache, 2), b.scalar(b.builder.getI64Type(), 1));
    index = b.op("Min", {index, end}, index.getType());
    index = b.op("Expand", {b.unsqueeze(index, {1, 3}), b.shape(past, 0, 4)},
                 rankedType(past).clone(b.builder.getI64Type()));
    Value moved =
        b.op("GatherElements", {cache, index}, past.getType(), b.attr("axis", int64_t(2)));
    return cleared(moved, kept);
  }

  // The first total_sequence_length rows.
  Value used(Value cache) {
    Value total = b.cast(b.reshape(c.in(6), {1}), b.builder.getI64Type());
    SmallVector<int64_t> dims(rankedType(cache).getShape());
    dims[2] = ShapedType::kDynamic;
    return b.op("Slice", {cache, b.ints(0), total, b.ints(2), b.ints(1)},
                RankedTensorType::get(dims, element));
  }

  // What is added to the scores, or the condition under which they stay: [B, heads or 1, S, T].
  Value mask(Value all) {
    Value keyCount = sizeOf(b, keys, 2);
    Value column = b.unsqueeze(countTo(b, keyCount, rankedType(keys).getDimSize(2)), {0, 1, 2});
    Value visible;
    if (c.number("causal", 1) != 0) {
      Value row = b.unsqueeze(slots, {1, 3});
      visible = b.binary("LessOrEqual", column, row);
      if (int64_t window = c.number("local_window_size", -1); window > 0) {
        Value first = b.binary("Sub", row, b.scalar(b.builder.getI64Type(), double(window)));
        visible = b.binary("And", visible, b.binary("Greater", column, first));
      }
    } else {
      visible = b.binary("Less", column, b.unsqueeze(all, {1, 2, 3}));
    }
    Value bias = c.in(10);
    if (!bias || !isFloatTensor(bias))
      return visible;
    return b.binary("Add", bias, added(visible, element));
  }

  Value added(Value visible, Type type) {
    return b.op(
        "Where",
        {visible, b.scalar(type, 0), b.scalar(type, -std::numeric_limits<double>::infinity())},
        rankedType(visible).clone(type));
  }

  Value attention(Value mask) {
    double scale = c.real("scale", 0);
    scale = scale != 0 ? scale : 1.0 / std::sqrt(double(size));
    bool sink = c.in(11) || c.number("smooth_softmax", -1) == 1;
    double cap = c.real("softcap", 0);
    if (sink || cap != 0 || !(element.isF32() || element.isF16()))
      return writtenOut(mask, scale, cap, sink);
    Scores options;
    options.scale = scale;
    Value query = split(q, heads);
    options.mask = kernelMask(b, mask, query, keys);
    Value y = attentionOp(b, query, keys, values, options);
    return b.reshape(b.transpose(y, {0, 2, 1, 3}), {0, 0, heads * size});
  }

  // In f32, the queries of heads with the same keys as rows of one matrix.
  Value writtenOut(Value mask, double scale, double cap, bool sink) {
    Type f32 = b.builder.getF32Type();
    int64_t group = heads / kvHeads;
    Value rows =
        b.transpose(b.reshape(b.cast(q, f32), {0, 0, kvHeads, group, size}), {0, 2, 3, 1, 4});
    rows = b.reshape(rows, {0, kvHeads, -1, size});
    Value scores = b.matmul(rows, b.transpose(b.cast(keys, f32), {0, 1, 3, 2}));
    scores = b.reshape(b.binary("Mul", scores, b.scalar(f32, scale)), {0, heads, -1, 0});
    if (cap != 0) {
      Value limit = b.scalar(f32, cap);
      scores = b.binary("Mul", b.unary("Tanh", b.binary("Div", scores, limit)), limit);
    }
    scores = b.binary("Add", scores,
                      rankedType(mask).getElementType().isInteger(1) ? added(mask, f32)
                                                                     : b.cast(mask, f32));
    Value p = sink ? softmaxWithSink(scores) : b.softmax(scores, -1);
    Value y = b.matmul(b.reshape(p, {0, kvHeads, -1, 0}), b.cast(values, f32));
    y = b.transpose(b.reshape(y, {0, kvHeads, group, -1, size}), {0, 3, 1, 2, 4});
    return b.cast(b.reshape(y, {0, 0, heads * size}), element);
  }

  // The sum in the denominator has one more term, exp of the head's sink (or 1).
  Value softmaxWithSink(Value scores) {
    Type f32 = b.builder.getF32Type();
    Value sink = c.in(11) ? b.reshape(b.cast(c.in(11), f32), {1, heads, 1, 1}) : b.scalar(f32, 0);
    Value largest = b.reduce("ReduceMax", scores, {-1});
    largest = b.op("Max", {largest, sink}, largest.getType());
    Value e = b.unary("Exp", b.binary("Sub", scores, largest));
    Value own = b.op("Exp", b.op("Sub", {sink, largest}, largest.getType()), largest.getType());
    return b.binary("Div", e, b.binary("Add", b.reduce("ReduceSum", e, {-1}), own));
  }

  const Custom &c;
  OnnxBuilder &b;
  int64_t heads = 0, kvHeads = 0, size = 0;
  bool windowed = false; // the cache holds the window only
  Type element;
  Value q, k, v;      // [B, S, heads * size]
  Value length;       // S
  Value before;       // [B], how many keys there were
  Value held;         // [B], how many of them the cache holds
  Value slots;        // [B, S], rows of the cache for the new ones
  Value positions;    // [B, S] of the new rows
  Value keys, values; // [B, heads, T, size]
};

} // namespace

bool groupQueryAttention(const Custom &c, OnnxBuilder &b) { return GroupQuery(c, b).run(); }

} // namespace moec::prepare
