#include "Attention.h"
#include "Call.h"
#include "Indices.h"
#include "Normalisation.h"
#include "Shapes.h"
#include <cmath>

using namespace llvm;

namespace moec::reference {

Tensor splitHeads(const Tensor &x, int64_t heads) {
  if (x.rank() != 3 || heads <= 0 || x.shape[2] % heads != 0)
    fail(text(x.shape) + " cannot be split into " + Twine(heads) + " heads");
  Tensor t = x.reshaped({x.shape[0], x.shape[1], heads, x.shape[2] / heads});
  return transpose(t, {0, 2, 1, 3});
}

Tensor joinHeads(const Tensor &x) {
  Tensor t = transpose(x, {0, 2, 1, 3});
  return t.reshaped({t.shape[0], t.shape[1], t.shape[2] * t.shape[3]});
}

namespace {

void check(const AttentionInputs &in) {
  for (const Tensor *t : {&in.q, &in.k, &in.v})
    if (t->rank() != 4 || t->shape[0] != in.q.shape[0] || !isFloat(t->type))
      fail("query, key and value " + text(in.q.shape) + ", " + text(in.k.shape) + ", " +
           text(in.v.shape) + " do not fit");
  if (in.k.shape[1] != in.v.shape[1] || in.k.shape[2] != in.v.shape[2] ||
      in.k.shape[3] != in.q.shape[3] || in.k.shape[1] == 0 || in.q.shape[1] % in.k.shape[1] != 0)
    fail("query, key and value " + text(in.q.shape) + ", " + text(in.k.shape) + ", " +
         text(in.v.shape) + " do not fit");
}

// Whether query i of batch element b may see key j, bias apart.
bool visible(const AttentionInputs &in, int64_t b, int64_t i, int64_t j) {
  int64_t position = i + (in.offsets.empty() ? 0 : in.offsets[b]);
  return (!in.causal || j <= position) && (in.left < 0 || j >= position - in.left) &&
         (in.right < 0 || j <= position + in.right) &&
         (in.validKeys.empty() || j < in.validKeys[b]);
}

} // namespace

AttentionResult attend(const AttentionInputs &in) {
  check(in);
  int64_t batch = in.q.shape[0], heads = in.q.shape[1], queries = in.q.shape[2];
  int64_t size = in.q.shape[3], kvHeads = in.k.shape[1], keys = in.k.shape[2];
  int64_t width = in.v.shape[3];
  Elements<double> q(in.q), k(in.k), v(in.v);
  std::optional<Elements<double>> bias;
  if (in.bias)
    bias.emplace(broadcast(*in.bias, {batch, heads, queries, keys}));
  std::vector<double> y(batch * heads * queries * width), shown, row(keys);
  if (in.scores != ScoresOutput::none)
    shown.resize(batch * heads * queries * keys);
  for (int64_t at = 0; at < batch * heads * queries; ++at) {
    int64_t i = at % queries, h = at / queries % heads, b = at / queries / heads;
    int64_t kv = b * kvHeads + h / (heads / kvHeads);
    const double *query = q.data() + at * size;
    bool any = false;
    auto show = [&](ScoresOutput kind) {
      if (in.scores == kind)
        std::copy(row.begin(), row.end(), shown.begin() + at * keys);
    };
    for (int64_t j = 0; j < keys; ++j) {
      const double *key = k.data() + (kv * keys + j) * size;
      double sum = 0;
      for (int64_t d = 0; d < size; ++d)
        sum += query[d] * key[d];
      row[j] = sum * in.scale;
    }
    show(ScoresOutput::raw);
    for (double &s : row)
      s = in.softcap > 0 ? in.softcap * std::tanh(s / in.softcap) : s;
    show(ScoresOutput::capped);
    for (int64_t j = 0; j < keys; ++j) {
      double added = visible(in, b, i, j) ? (bias ? (*bias)[at * keys + j] : 0) : -INFINITY;
      any |= added != -INFINITY;
      row[j] += added;
    }
    show(ScoresOutput::biased);
    if (any)
      softmax(row);
    else
      std::fill(row.begin(), row.end(), 0.0);
    show(ScoresOutput::probabilities);
    double *out = y.data() + at * width;
    for (int64_t j = 0; j < keys; ++j) {
      if (row[j] == 0) // a hidden key adds nothing, whatever its value
        continue;
      const double *value = v.data() + (kv * keys + j) * width;
      for (int64_t d = 0; d < width; ++d)
        out[d] += row[j] * value[d];
    }
  }
  AttentionResult result{pack(in.q.type, {batch, heads, queries, width}, y), std::nullopt};
  if (in.scores != ScoresOutput::none)
    result.scores = pack(in.q.type, {batch, heads, queries, keys}, shown);
  return result;
}

Tensor rotate(const Tensor &x, const Tensor &cos, const Tensor &sin, bool interleaved,
              int64_t dim) {
  if (x.rank() != 4)
    fail("rank 4 expected, not " + text(x.shape));
  int64_t batch = x.shape[0], heads = x.shape[1], length = x.shape[2], size = x.shape[3];
  dim = dim == 0 ? size : dim;
  int64_t half = dim / 2;
  if (dim < 0 || dim > size || dim % 2 != 0 || cos.rank() != 3 || cos.shape != sin.shape ||
      cos.shape[2] != half)
    fail("cos and sin " + text(cos.shape) + ", " + text(sin.shape) + " do not fit " + Twine(dim) +
         " rotated dimensions");
  Elements<double> in(x), c(broadcast(cos, {batch, length, half})),
      s(broadcast(sin, {batch, length, half}));
  std::vector<double> out(in.begin(), in.end());
  for (int64_t row = 0; row < batch * heads * length; ++row) {
    int64_t angle = (row / length / heads * length + row % length) * half;
    for (int64_t d = 0; d < half; ++d) {
      int64_t a = row * size + (interleaved ? 2 * d : d), b = a + (interleaved ? 1 : half);
      out[a] = in[a] * c[angle + d] - in[b] * s[angle + d];
      out[b] = in[b] * c[angle + d] + in[a] * s[angle + d];
    }
  }
  return pack(x.type, x.shape, out);
}

Tensor cacheRows(const Tensor &cache, const Tensor &positions) {
  if (cache.rank() != 2)
    fail("a cache of rank 2 expected, not " + text(cache.shape));
  int64_t n = cache.shape[1], run = n * bytesOf(cache.type);
  Elements<int64_t> at(positions);
  Shape shape(positions.shape);
  shape.push_back(n);
  Tensor out(cache.type, shape);
  for (int64_t i = 0; run > 0 && i < at.size(); ++i)
    std::memcpy(out.mutableBytes() + i * run,
                cache.bytes() + checkedIndex(at[i], cache.shape[0]) * run, run);
  return out;
}

namespace {

// A boolean mask as what is added to the scores, and masks that are too short made full.
Tensor biasOf(const Tensor &mask, int64_t keys) {
  Elements<double> in(mask);
  std::vector<double> out(in.begin(), in.end());
  if (mask.type == Elem::boolean)
    for (double &v : out)
      v = v != 0 ? 0 : -INFINITY;
  Tensor bias = pack(mask.type == Elem::boolean ? Elem::f64 : mask.type, mask.shape, out);
  if (mask.rank() == 0 || mask.shape.back() >= keys)
    return bias;
  Shape rest(mask.shape);
  rest.back() = keys - mask.shape.back();
  std::vector<double> hidden(count(rest), -INFINITY);
  return concat({bias, pack(bias.type, rest, hidden)}, mask.rank() - 1);
}

void attention(Call &c) {
  AttentionInputs in;
  bool flat = c.in(0).rank() == 3;
  int64_t heads = c.i64("q_num_heads", 0), kvHeads = c.i64("kv_num_heads", 0);
  in.q = flat ? splitHeads(c.in(0), heads) : c.in(0);
  in.k = flat ? splitHeads(c.in(1), kvHeads) : c.in(1);
  in.v = flat ? splitHeads(c.in(2), kvHeads) : c.in(2);
  int64_t past = 0;
  if (c.hasIn(4) != c.hasIn(5) || (c.hasIn(4) && c.hasIn(6)))
    fail("past_key and past_value go together and exclude nonpad_kv_seqlen");
  if (c.hasIn(4)) {
    if (in.k.rank() != 4 || in.v.rank() != 4 || c.in(4).rank() != 4 || c.in(5).rank() != 4)
      fail("keys and values must have rank 4");
    past = c.in(4).shape[2];
    in.k = concat({c.in(4), in.k}, 2);
    in.v = concat({c.in(5), in.v}, 2);
  }
  check(in);
  int64_t batch = in.q.shape[0], queries = in.q.shape[2], keys = in.k.shape[2];
  in.offsets.assign(batch, past);
  if (c.hasIn(6)) {
    in.validKeys = c.intsIn(6);
    if (static_cast<int64_t>(in.validKeys.size()) != batch)
      fail("nonpad_kv_seqlen needs one length for each batch element");
    for (int64_t b = 0; b < batch; ++b)
      in.offsets[b] = in.validKeys[b] - queries;
  }
  if (c.hasIn(3))
    in.bias = biasOf(c.in(3), keys);
  in.scale = c.f64("scale", 1 / std::sqrt(static_cast<double>(in.q.shape[3])));
  in.softcap = c.f64("softcap", 0);
  in.causal = c.i64("is_causal", 0);
  in.left = c.i64("left_window_size", -1);
  in.right = c.i64("right_window_size", -1);
  static constexpr ScoresOutput modes[] = {ScoresOutput::raw, ScoresOutput::capped,
                                           ScoresOutput::biased, ScoresOutput::probabilities};
  int64_t mode = c.i64("qk_matmul_output_mode", 0);
  if (mode < 0 || mode > 3)
    fail("qk_matmul_output_mode = " + Twine(mode));
  if (c.wants(3))
    in.scores = modes[mode];
  AttentionResult result = attend(in);
  c.set(0, flat ? joinHeads(result.y) : result.y);
  c.set(1, in.k);
  c.set(2, in.v);
  if (result.scores)
    c.set(3, *result.scores);
}

void rotaryEmbedding(Call &c) {
  const Tensor &x = c.in(0);
  bool flat = x.rank() == 3;
  Tensor heads = flat ? splitHeads(x, c.i64("num_heads", 0)) : x;
  Tensor cos = c.in(1), sin = c.in(2);
  if (c.hasIn(3)) {
    cos = cacheRows(cos, c.in(3));
    sin = cacheRows(sin, c.in(3));
  }
  Tensor y = rotate(heads, cos, sin, c.i64("interleaved", 0), c.i64("rotary_embedding_dim", 0));
  c.set(0, flat ? joinHeads(y) : y);
}

} // namespace

void addAttention(Registry &r) {
  r.add("onnx.Attention", attention);
  r.add("onnx.RotaryEmbedding", rotaryEmbedding);
}

} // namespace moec::reference
