// MultiHeadAttention and Attention. Formulas: docs/ContribOperators.md of ONNX Runtime.
#include "Contrib.h"
#include "ContribGroupQuery.h"
#include <cmath>

using namespace mlir;

namespace moec::prepare {

namespace {

// Queries, keys and values with heads as an axis, and what joins them.
struct MultiHead {
  int64_t heads = 0, width = 0, vWidth = -1; // of all heads together
  Value q, k, v;
};

// Part [from, from + width) of the bias of all three projections, added to one of them.
Value biased(const Custom &c, OnnxBuilder &b, Value x, int64_t from, int64_t width) {
  Value bias = c.in(3);
  return bias ? b.binary("Add", x, b.slice(bias, 0, from, from + width)) : x;
}

bool readMultiHead(const Custom &c, OnnxBuilder &b, MultiHead &m) {
  if (!c.areFloats({0, 1, 2}) || !c.hasNone({8, 9}, {3}))
    return false;
  m.heads = c.number("num_heads", 0);
  for (unsigned i : {0u, 1u, 2u}) {
    auto type = rankedType(c.in(i));
    if (type.getRank() != 3 || m.heads <= 0 ||
        (type.getShape().back() >= 0 && type.getShape().back() % m.heads != 0))
      return c.refuse("input " + Twine(i) + " is not [batch, length, heads * size]");
  }
  // Queries and keys have one width, the values may have another.
  m.width = std::max(rankedType(c.in(0)).getShape().back(), rankedType(c.in(1)).getShape().back());
  m.vWidth = std::max<int64_t>(rankedType(c.in(2)).getShape().back(), -1);
  bool known = m.width > 0 && m.vWidth > 0;
  if ((c.real("scale", 0) == 0 && m.width <= 0) || (c.in(3) && !known))
    return c.refuse("the size of its heads is unknown");
  if (!c.in(6) != !c.in(7))
    return c.refuse("it has one of past_key and past_value");
  auto split = [&](Value x, int64_t all) {
    int64_t size = all > 0 ? all / m.heads : -1;
    return b.transpose(b.reshape(x, {0, 0, m.heads, size}), {0, 2, 1, 3});
  };
  m.q = split(biased(c, b, c.in(0), 0, m.width), m.width);
  m.k = split(biased(c, b, c.in(1), m.width, m.width), m.width);
  m.v = split(biased(c, b, c.in(2), 2 * m.width, m.vWidth), m.vWidth);
  if (c.in(6)) {
    m.k = b.concat({c.in(6), m.k}, 2);
    m.v = b.concat({c.in(7), m.v}, 2);
  }
  return true;
}

// Keys that a mask of integers hides, [B, T] or [B, S, T], or those behind lengths [B]; the
// operator adds a number to their scores.
bool paddingMask(const Custom &c, OnnxBuilder &b, Value padding, Value keys, Value &mask) {
  if (!padding)
    return true;
  auto type = rankedType(padding);
  Type element = rankedType(keys).getElementType();
  if (type && type.getRank() == 1 &&
      (type.isDynamicDim(0) || type.getDimSize(0) != rankedType(keys).getDimSize(0)))
    return c.refuse("a mask that is not one length for each sequence is unsupported");
  if (type && type.getRank() == 1) {
    Value column = b.unsqueeze(countTo(b, sizeOf(b, keys, 2), rankedType(keys).getDimSize(2)), {0});
    Value ends = b.unsqueeze(b.cast(padding, b.builder.getI64Type()), {1});
    padding = b.binary("Less", column, ends);
    type = rankedType(padding);
  }
  if (!type || type.getRank() > 3)
    return c.refuse("a mask that is not [batch, keys] or [batch, queries, keys] is unsupported");
  Value shown = type.getElementType().isInteger(1)
                    ? padding
                    : b.op("Cast", padding, type.clone(b.builder.getI1Type()),
                           {b.attr("to", int64_t(9)), b.attr("saturate", int64_t(1))});
  Value low = b.scalar(element, c.real("mask_filter_value", -10000.0));
  Value added = b.op("Where", {shown, b.scalar(element, 0), low}, type.clone(element));
  added =
      b.unsqueeze(added, type.getRank() == 2 ? ArrayRef<int64_t>({1, 2}) : ArrayRef<int64_t>(1));
  mask = mask ? b.binary("Add", mask, added) : added;
  return true;
}

bool multiHeadAttention(const Custom &c, OnnxBuilder &b) {
  MultiHead m;
  if (!readMultiHead(c, b, m))
    return false;
  Scores options;
  double scale = c.real("scale", 0);
  options.scale = scale != 0 ? scale : 1.0 / std::sqrt(double(m.width / m.heads));
  options.mask = c.in(5);
  options.causal = c.number("unidirectional", 0) != 0;
  if (c.in(6))
    options.offset = sizeOf(b, c.in(6), 2);
  if (!paddingMask(c, b, c.in(4), m.k, options.mask))
    return false;
  Value y = attend(b, m.q, m.k, m.v, options);
  c.replace(0, b.reshape(b.transpose(y, {0, 2, 1, 3}), {0, 0, m.vWidth}));
  c.replace(1, m.k);
  c.replace(2, m.v);
  return true;
}

// The projections of one input to queries, keys and values, and attention over them.
bool attention(const Custom &c, OnnxBuilder &b) {
  if (!c.areFloats({0, 1}) || !c.hasNone({6}, {}))
    return false;
  Value x = c.in(0), past = c.in(4);
  int64_t heads = c.number("num_heads", 0), all = rankedType(c.in(1)).getShape().back();
  int64_t width = all / 3, vWidth = all / 3;
  if (auto sizes = dyn_cast_or_null<DenseI64ArrayAttr>(c.attr("qkv_hidden_sizes"));
      sizes && sizes.size() == 3)
    width = sizes[0], vWidth = sizes[2];
  if (c.number("do_rotary", 0) != 0 || c.number("past_present_share_buffer", 0) != 0)
    return c.refuse("do_rotary and past_present_share_buffer are unsupported");
  if (rankedType(x).getRank() != 3 || heads < 1 || width < 1 || vWidth < 1 ||
      2 * width + vWidth != all || width % heads != 0 || vWidth % heads != 0 ||
      (past && (!isFloatTensor(past) || rankedType(past).getRank() != 5)))
    return c.refuse("its heads and sizes do not fit together");
  Value qkv = b.matmul(x, c.in(1));
  if (c.in(2))
    qkv = b.binary("Add", qkv, c.in(2));
  auto part = [&](int64_t from, int64_t size) {
    return b.transpose(b.reshape(b.slice(qkv, 2, from, from + size), {0, 0, heads, size / heads}),
                       {0, 2, 1, 3});
  };
  Value q = part(0, width), k = part(width, width), v = part(2 * width, vWidth);
  Scores options;
  options.causal = c.number("unidirectional", 0) != 0;
  if (past) {
    auto type = rankedType(past);
    auto one = RankedTensorType::get(type.getShape().drop_front(), type.getElementType());
    auto half = [&](int64_t i) {
      return b.op("Squeeze", {b.slice(past, 0, i, i + 1), b.ints(0)}, one);
    };
    options.offset = sizeOf(b, past, 3);
    k = b.concat({half(0), k}, 2);
    v = b.concat({half(1), v}, 2);
  }
  double scale = c.real("scale", 0);
  options.scale = scale != 0 ? scale : 1.0 / std::sqrt(double(width / heads));
  options.mask = c.in(5);
  if (!paddingMask(c, b, c.in(3), k, options.mask))
    return false;
  Value y = attend(b, q, k, v, options);
  c.replace(0, b.reshape(b.transpose(y, {0, 2, 1, 3}), {0, 0, vWidth}));
  if (c.wants(1))
    c.replace(1, b.concat({b.unsqueeze(k, {0}), b.unsqueeze(v, {0})}, 0));
  return true;
}

} // namespace

void addContribAttention(ContribTable &table) {
  table["MultiHeadAttention"] = multiHeadAttention;
  table["Attention"] = attention;
  table["GroupQueryAttention"] = groupQueryAttention;
}

} // namespace moec::prepare
