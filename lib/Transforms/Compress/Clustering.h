// Groups of experts that are alike: partitions of a few items, by similarities or as points.
#pragma once

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/Error.h"
#include <Eigen/Core>
#include <cstdint>
#include <vector>

namespace moec::compress {

using Groups = std::vector<std::vector<int64_t>>;

/// Each of `others` joins the centre that it resembles most (larger `similarity`, [n, n]) and that
/// has fewer than `most` members; the most similar pairs first. The groups begin with their
/// centres, in the order of `centres`. Errors: no room for all.
llvm::Expected<Groups> joinCentres(const Eigen::MatrixXd &similarity,
                                   llvm::ArrayRef<int64_t> centres, llvm::ArrayRef<int64_t> others,
                                   int64_t most);

/// The centres, in their order, take the most similar of `others` that are left until they have
/// `most` members (pseudo-pruning of REAM). Errors: no room for all.
llvm::Expected<Groups> fillCentres(const Eigen::MatrixXd &similarity,
                                   llvm::ArrayRef<int64_t> centres, llvm::ArrayRef<int64_t> others,
                                   int64_t most);

/// Agglomerative clustering with average linkage: of two groups with at most `most` members
/// together, the most similar ones become one until `count` are left. Errors: no two fit any more.
llvm::Expected<Groups> linkAverage(const Eigen::MatrixXd &similarity,
                                   llvm::ArrayRef<int64_t> items, int64_t count, int64_t most);

/// Lloyd's k-means from k-means++ starts, the best of several: `count` groups, none empty, of at
/// most `most` of `items`, which are rows of `points`. The same for one seed. Errors: no room.
llvm::Expected<Groups> kMeans(const Eigen::MatrixXd &points, llvm::ArrayRef<int64_t> items,
                              int64_t count, int64_t most, uint64_t seed);

} // namespace moec::compress
