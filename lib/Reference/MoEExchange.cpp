// Rows that go between devices, and what measures or changes routing in compiled code only.
#include "Call.h"
#include "Shapes.h"

using namespace llvm;

namespace moec::reference {

namespace {

// One process is every device: each used slot becomes a row that stays here.
void dispatch(Call &c) {
  const Tensor &x = c.in(0), &ids = c.in(1), &weights = c.in(2);
  if (x.rank() != 2 || ids.rank() != 2 || weights.shape != ids.shape || ids.shape[0] != x.shape[0])
    fail("tokens " + text(x.shape) + " and ids " + text(ids.shape) + " do not fit");
  Elements<int64_t> id(ids);
  Elements<double> weight(weights);
  auto placement = c.i64s("placement").value_or(std::vector<int64_t>());
  std::vector<Tensor> rows = {part(x, 0, 0, 0)};
  std::vector<int64_t> rowIds, origins;
  std::vector<double> rowWeights;
  for (int64_t i = 0; i < id.size(); ++i) {
    if (id[i] == -1 || weight[i] == 0)
      continue;
    if (id[i] < 0 || id[i] >= static_cast<int64_t>(placement.size()))
      fail("expert id " + Twine(id[i]) + " has no device");
    int64_t token = i / ids.shape[1];
    rows.push_back(part(x, 0, token, 1));
    rowIds.push_back(id[i]);
    rowWeights.push_back(weight[i]);
    origins.insert(origins.end(), {0, token});
  }
  int64_t n = static_cast<int64_t>(rowIds.size());
  c.set(0, concat(rows, 0));
  c.set(1, pack(Elem::i32, {n, 1}, rowIds));
  c.set(2, pack(weights.type, {n, 1}, rowWeights));
  c.set(3, pack(Elem::i32, {n, 2}, origins));
}

void combine(Call &c) {
  const Tensor &rows = c.in(0), &origin = c.in(1), &x = c.in(2);
  if (rows.rank() != 2 || x.rank() != 2 || origin.rank() != 2 || origin.shape[1] != 2 ||
      origin.shape[0] != rows.shape[0] || rows.shape[1] != x.shape[1])
    fail("rows " + text(rows.shape) + " and origins " + text(origin.shape) + " do not fit");
  Elements<float> in(rows);
  Elements<int64_t> from(origin);
  int64_t hidden = x.shape[1];
  std::vector<float> out(x.size(), 0.0f);
  for (int64_t r = 0; r < rows.shape[0]; ++r) {
    int64_t token = from[2 * r + 1];
    if (from[2 * r] != 0 || token < 0 || token >= x.shape[0])
      fail("row " + Twine(r) + " comes from token " + Twine(token) + " of device " +
           Twine(from[2 * r]));
    for (int64_t h = 0; h < hidden; ++h)
      out[token * hidden + h] += in[r * hidden + h];
  }
  c.set(0, pack(x.type, x.shape, out));
}

} // namespace

void addMoEExchange(Registry &r) {
  r.add("moe.dispatch", dispatch);
  r.add("moe.combine", combine);
  r.add("moe.probe", [](Call &) {}); // counts are for compiled code; values do not change
  // Settings are a session's; the interpreter has none.
  r.add("moe.logit_hook", [](Call &c) { c.set(0, c.in(0)); });
}

} // namespace moec::reference
