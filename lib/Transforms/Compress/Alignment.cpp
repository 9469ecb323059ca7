#include "Alignment.h"

#include <limits>

using namespace moec::compress;

// Rows are added one by one; each is the start of a shortest path, under reduced costs, to a column
// that is free, along which the assignment is changed.
std::vector<int64_t> moec::compress::assignRows(const Rows &cost) {
  int64_t n = cost.rows();
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  std::vector<double> ofRow(static_cast<size_t>(n), 0), ofColumn(static_cast<size_t>(n), 0), least;
  std::vector<int64_t> rowOf(static_cast<size_t>(n), -1), columnOf(static_cast<size_t>(n), -1);
  std::vector<int64_t> from;
  std::vector<bool> done;
  for (int64_t start = 0; start < n; ++start) {
    least.assign(static_cast<size_t>(n), kInfinite);
    from.assign(static_cast<size_t>(n), -1);
    done.assign(static_cast<size_t>(n), false);
    int64_t row = start, end = -1;
    double length = 0;
    std::vector<int64_t> seen;
    while (end < 0) {
      int64_t next = -1;
      const float *costs = cost.row(row).data();
      for (int64_t c = 0; c < n; ++c) {
        if (done[c])
          continue;
        double reduced = length + costs[c] - ofRow[row] - ofColumn[c];
        if (reduced < least[c]) {
          least[c] = reduced;
          from[c] = row;
        }
        // Of equally near columns a free one ends the search.
        if (next < 0 || least[c] < least[next] ||
            (least[c] == least[next] && rowOf[c] < 0 && rowOf[next] >= 0))
          next = c;
      }
      length = least[next];
      done[next] = true;
      if (rowOf[next] < 0)
        end = next;
      else
        row = rowOf[next];
      seen.push_back(next);
    }
    ofRow[start] += length;
    for (int64_t c : seen)
      if (c != end) {
        ofRow[rowOf[c]] += length - least[c];
        ofColumn[c] -= length - least[c];
      }
    for (int64_t c = end; c >= 0;) {
      int64_t r = from[c];
      rowOf[c] = r;
      std::swap(columnOf[r], c);
      if (r == start)
        break;
    }
  }
  return columnOf;
}

llvm::Expected<Neurons> moec::compress::neuronsOf(FfnBank &bank, int64_t slab) {
  auto in = bank.slab(slab);
  if (!in)
    return in.takeError();
  auto down = bank.down(slab);
  if (!down)
    return down.takeError();
  return Neurons{std::move(*in), std::move(*down)};
}

std::vector<int64_t> moec::compress::alignNeurons(const Neurons &reference, const Neurons &other) {
  // Squared lengths are the same in every order: what is left is the product.
  Rows cost = -(reference.in.up * other.in.up.transpose());
  if (reference.in.gate.size() > 0)
    cost.noalias() -= reference.in.gate * other.in.gate.transpose();
  cost.noalias() -= reference.down.transpose() * other.down;
  if (reference.in.gateBias.size() > 0)
    cost.noalias() -= reference.in.gateBias.transpose() * other.in.gateBias;
  if (reference.in.upBias.size() > 0)
    cost.noalias() -= reference.in.upBias.transpose() * other.in.upBias;
  if (!cost.allFinite())
    cost.setZero();
  return assignRows(cost);
}
