#include "Experts.h"
#include "MatMul.h"
#include <algorithm>

using namespace llvm;

namespace moec::reference {

namespace {

// x [n, k] * matrix [.., k]^T + bias, for the first `outputs` rows of the matrix.
std::vector<float> project(ArrayRef<float> x, int64_t n, const Tensor &matrix,
                           const std::optional<Tensor> &bias, int64_t outputs, int64_t k) {
  Elements<float> w(matrix);
  std::vector<double> sums(n * outputs);
  if (k == matrix.shape[1]) {
    multiplyTransposed(x.data(), w.data(), sums.data(), n, outputs, k);
  } else { // only the first k columns of the matrix
    std::vector<float> narrow;
    for (int64_t r = 0; r < outputs; ++r)
      narrow.insert(narrow.end(), w.data() + r * matrix.shape[1],
                    w.data() + r * matrix.shape[1] + k);
    multiplyTransposed(x.data(), narrow.data(), sums.data(), n, outputs, k);
  }
  if (bias) {
    if (bias->size() < outputs)
      fail("a bias of " + Twine(bias->size()) + " elements for " + Twine(outputs));
    Elements<double> b(*bias);
    for (int64_t i = 0; i < n * outputs; ++i)
      sums[i] += b[i % outputs];
  }
  return {sums.begin(), sums.end()};
}

void checkMatrix(const std::optional<Tensor> &m, const char *name, int64_t rows, int64_t columns) {
  if (!m || m->rank() != 2 || (rows >= 0 && m->shape[0] < rows) ||
      (columns >= 0 && m->shape[1] != columns))
    fail(Twine("the ") + name + " matrix " + (m ? text(m->shape) : "is missing and") +
         " does not fit");
}

} // namespace

std::vector<float> applyFfn(const FfnFormula &f, const FfnParameters &p, ArrayRef<float> rows,
                            int64_t n, int64_t width) {
  int64_t hidden = n > 0 ? static_cast<int64_t>(rows.size()) / n : -1;
  if (n == 0)
    return {};
  checkMatrix(p.up, "up", -1, hidden);
  width = width < 0 ? p.up->shape[0] : width;
  checkMatrix(p.up, "up", width, hidden);
  if (f.gated)
    checkMatrix(p.gate, "gate", width, hidden);
  checkMatrix(p.down, "down", -1, p.up->shape[0]);
  std::vector<float> up = project(rows, n, *p.up, p.upBias, width, hidden), gate;
  if (f.gated)
    gate = project(rows, n, *p.gate, p.gateBias, width, hidden);
  for (size_t i = 0; i < up.size(); ++i) {
    double u = up[i];
    if (f.limit) // NaN stays
      u = u > *f.limit ? *f.limit : u < -*f.limit ? -*f.limit : u;
    if (f.gated) {
      double g = gate[i];
      if (f.limit && g > *f.limit)
        g = *f.limit;
      u = f.activation(g, f.alpha) * (u + f.upOffset);
    } else {
      u = f.activation(u, f.alpha);
    }
    up[i] = static_cast<float>(u);
  }
  return project(up, n, *p.down, p.downBias, p.down->shape[0], width);
}

} // namespace moec::reference
