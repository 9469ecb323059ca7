#include "Clustering.h"

#include "llvm/ADT/STLExtras.h"
#include <limits>
#include <random>

using namespace moec::compress;
using llvm::ArrayRef;

static llvm::Error noRoom(int64_t items, int64_t groups, int64_t most) {
  return llvm::createStringError(
      llvm::inconvertibleErrorCode(),
      "%lld experts do not fit into %lld groups of at most %lld; raise max-group or keep more",
      static_cast<long long>(items), static_cast<long long>(groups), static_cast<long long>(most));
}

static Groups singles(ArrayRef<int64_t> items) {
  Groups groups;
  for (int64_t item : items)
    groups.push_back({item});
  return groups;
}

static int64_t room(ArrayRef<int64_t> centres, int64_t most) {
  return static_cast<int64_t>(centres.size()) * (most - 1);
}

llvm::Expected<Groups> moec::compress::joinCentres(const Eigen::MatrixXd &similarity,
                                                   ArrayRef<int64_t> centres,
                                                   ArrayRef<int64_t> others, int64_t most) {
  if (static_cast<int64_t>(others.size()) > room(centres, most))
    return noRoom(static_cast<int64_t>(others.size() + centres.size()),
                  static_cast<int64_t>(centres.size()), most);
  struct Pair {
    double likeness;
    size_t group;
    int64_t item;
  };
  std::vector<Pair> pairs;
  for (int64_t item : others)
    for (size_t g = 0; g < centres.size(); ++g)
      pairs.push_back({similarity(centres[g], item), g, item});
  llvm::stable_sort(pairs, [](const Pair &a, const Pair &b) { return a.likeness > b.likeness; });
  Groups groups = singles(centres);
  std::vector<bool> placed(static_cast<size_t>(similarity.rows()), false);
  for (const Pair &pair : pairs) {
    auto &group = groups[pair.group];
    if (placed[static_cast<size_t>(pair.item)] || static_cast<int64_t>(group.size()) >= most)
      continue;
    placed[static_cast<size_t>(pair.item)] = true;
    group.push_back(pair.item);
  }
  return groups;
}

llvm::Expected<Groups> moec::compress::fillCentres(const Eigen::MatrixXd &similarity,
                                                   ArrayRef<int64_t> centres,
                                                   ArrayRef<int64_t> others, int64_t most) {
  if (static_cast<int64_t>(others.size()) > room(centres, most))
    return noRoom(static_cast<int64_t>(others.size() + centres.size()),
                  static_cast<int64_t>(centres.size()), most);
  Groups groups = singles(centres);
  std::vector<int64_t> left(others.begin(), others.end());
  for (auto &group : groups) {
    int64_t centre = group.front();
    llvm::stable_sort(left, [&](int64_t a, int64_t b) {
      return similarity(centre, a) > similarity(centre, b);
    });
    size_t taken = std::min(left.size(), static_cast<size_t>(most - 1));
    group.insert(group.end(), left.begin(), left.begin() + static_cast<int64_t>(taken));
    left.erase(left.begin(), left.begin() + static_cast<int64_t>(taken));
  }
  return groups;
}

llvm::Expected<Groups> moec::compress::linkAverage(const Eigen::MatrixXd &similarity,
                                                   ArrayRef<int64_t> items, int64_t count,
                                                   int64_t most) {
  Groups groups = singles(items);
  // Sums of the similarities of all pairs of members.
  Eigen::MatrixXd sums(items.size(), items.size());
  for (size_t a = 0; a < items.size(); ++a)
    for (size_t b = 0; b < items.size(); ++b)
      sums(a, b) = similarity(items[a], items[b]);
  while (static_cast<int64_t>(groups.size()) > count) {
    size_t bestA = 0, bestB = 0;
    double best = 0;
    for (size_t a = 0; a < groups.size(); ++a)
      for (size_t b = a + 1; b < groups.size(); ++b) {
        size_t x = groups[a].size(), y = groups[b].size();
        double mean = sums(a, b) / (double(x) * double(y));
        if (static_cast<int64_t>(x + y) <= most && (bestB == 0 || mean > best)) {
          best = mean;
          bestA = a;
          bestB = b;
        }
      }
    if (bestB == 0)
      return noRoom(static_cast<int64_t>(items.size()), count, most);
    groups[bestA].insert(groups[bestA].end(), groups[bestB].begin(), groups[bestB].end());
    sums.row(bestA) += sums.row(bestB);
    sums.col(bestA) += sums.col(bestB);
    size_t last = groups.size() - 1;
    if (bestB != last) {
      groups[bestB] = std::move(groups[last]);
      sums.row(bestB) = sums.row(last).eval();
      sums.col(bestB) = sums.col(last).eval();
    }
    groups.pop_back();
  }
  for (auto &group : groups)
    llvm::sort(group);
  return groups;
}

namespace {

class Lloyd {
public:
  Lloyd(const Eigen::MatrixXd &points, ArrayRef<int64_t> items, int64_t count, int64_t most,
        uint64_t seed)
      : points(points), items(items), count(count), most(most), random(seed) {}

  /// The groups and the sum of squared distances to their means.
  std::pair<Groups, double> run() {
    start();
    std::vector<int64_t> before;
    for (int round = 0; round < 100; ++round) {
      assign();
      if (of == before)
        break;
      before = of;
      update();
    }
    Groups groups(static_cast<size_t>(count));
    double loss = 0;
    for (size_t i = 0; i < items.size(); ++i) {
      groups[static_cast<size_t>(of[i])].push_back(items[i]);
      loss += distance(i, of[i]);
    }
    return {groups, loss};
  }

private:
  double distance(size_t item, int64_t centre) const {
    return (points.row(items[item]) - centres.row(centre)).squaredNorm();
  }

  // k-means++: each centre is drawn by the squared distance to those that are there.
  void start() {
    centres.resize(count, points.cols());
    std::vector<double> nearest(items.size(), 1);
    for (int64_t c = 0; c < count; ++c) {
      double sum = 0;
      for (double d : nearest)
        sum += d;
      double at = double(random() >> 11) * 0x1p-53 * sum;
      size_t chosen = 0;
      while (chosen + 1 < items.size() && (at -= nearest[chosen]) >= 0)
        ++chosen;
      centres.row(c) = points.row(items[chosen]);
      for (size_t i = 0; i < items.size(); ++i) {
        double d = distance(i, c);
        nearest[i] = c == 0 ? d : std::min(nearest[i], d);
      }
    }
  }

  // To the nearest centre with room, nearest pairs first; each centre gets one item at least.
  void assign() {
    struct Pair {
      double distance;
      size_t item;
      int64_t centre;
    };
    std::vector<Pair> pairs;
    for (size_t i = 0; i < items.size(); ++i)
      for (int64_t c = 0; c < count; ++c)
        pairs.push_back({distance(i, c), i, c});
    llvm::stable_sort(pairs, [](const Pair &a, const Pair &b) { return a.distance < b.distance; });
    of.assign(items.size(), -1);
    std::vector<int64_t> size(static_cast<size_t>(count), 0);
    int64_t empty = count, left = static_cast<int64_t>(items.size());
    for (const Pair &pair : pairs) {
      int64_t &members = size[static_cast<size_t>(pair.centre)];
      if (of[pair.item] >= 0 || members >= most || (members > 0 && left <= empty))
        continue;
      of[pair.item] = pair.centre;
      empty -= members == 0;
      ++members;
      --left;
    }
  }

  void update() {
    centres.setZero();
    Eigen::VectorXd size = Eigen::VectorXd::Zero(count);
    for (size_t i = 0; i < items.size(); ++i) {
      centres.row(of[i]) += points.row(items[i]);
      size(of[i]) += 1;
    }
    for (int64_t c = 0; c < count; ++c)
      centres.row(c) /= size(c);
  }

  const Eigen::MatrixXd &points;
  ArrayRef<int64_t> items;
  int64_t count, most;
  std::mt19937_64 random;
  Eigen::MatrixXd centres;
  std::vector<int64_t> of;
};

} // namespace

llvm::Expected<Groups> moec::compress::kMeans(const Eigen::MatrixXd &points,
                                              ArrayRef<int64_t> items, int64_t count, int64_t most,
                                              uint64_t seed) {
  int64_t n = static_cast<int64_t>(items.size());
  if (n < count || n > count * most)
    return noRoom(n, count, most);
  Groups best;
  double bestLoss = std::numeric_limits<double>::infinity();
  for (uint64_t start = 0; start < 10; ++start) {
    auto [groups, loss] = Lloyd(points, items, count, most, seed * 1000 + start).run();
    if (best.empty() || loss < bestLoss) {
      best = groups;
      bestLoss = loss;
    }
  }
  return best;
}
