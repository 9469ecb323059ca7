// How many directions rows of numbers take up.
#pragma once

#include "llvm/ADT/ArrayRef.h"

#include <cstdint>
#include <vector>

namespace moec {

/// Gathers rows of equal length and tells the effective rank of the matrix of them, not centred: the
/// exponential of the entropy of its singular values over their sum (Roy and Vetterli, The effective
/// rank, EUSIPCO 2007). r where r singular values are equal and the others zero. Rows that are not
/// finite do not count. Memory: 8 bytes times the square of the length. Not thread-safe.
class EffectiveRank {
public:
  explicit EffectiveRank(int64_t length);
  /// `rows` holds whole rows, one after the other.
  void add(llvm::ArrayRef<float> rows);
  int64_t length() const { return width; }
  int64_t rows() const { return count; }
  /// 0 when all rows were zero; NaN without any.
  double value() const;
  /// The singular values, falling.
  std::vector<double> singularValues() const;

private:
  int64_t width, count = 0;
  std::vector<double> negative; // lower triangle of minus the sum of the rows' outer products
};

} // namespace moec
