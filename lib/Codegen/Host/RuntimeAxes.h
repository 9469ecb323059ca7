// Axes that only a run knows: their number is fixed, so that ranks are, too.
#pragma once
#include "Emitter.h"

namespace moec::host {

struct RuntimeAxes {
  /// `axes` may count from the end; `rank` is that of the tensor they name axes of. Out of range or
  /// twice: the run ends with an error.
  RuntimeAxes(Emitter &e, const Values &axes, size_t rank);

  Emitter &e;
  Values axes;  ///< in [0, rank)
  Values named; ///< by dimension: 1 if one of the axes, else 0

  /// `values` has one entry for each dimension: those of the named ones, or of the others, in order.
  Values of(const Values &values, bool theNamed) const;
  /// For each dimension: the entry of `given` (one for each axis), or `otherwise` where it has none.
  Values spread(const Values &given, const Values &otherwise) const;
  /// The view with the named dimensions behind the others, each in their order.
  Tensor last(Tensor view) const;
};

/// The elements of an operand that are no constants, where their number is known: from its type or
/// as `count`, if that is not negative.
std::optional<Values> runtimeValues(Emitter &e, const Tensor &operand, int64_t count = -1);
/// The rank of the op's first result less that of `t`; nothing when it is not known.
std::optional<int64_t> rankAdded(Emitter &e, const Tensor &t);

Tensor squeezeAt(Emitter &e, const Tensor &t, const Values &axes);
Tensor unsqueezeAt(Emitter &e, const Tensor &t, const Values &axes);
/// Slice; without `axes` the first dimensions, without `steps` all of them 1.
Tensor sliceAt(Emitter &e, Tensor t, const Values &starts, const Values &ends,
               const std::optional<Values> &axes, const std::optional<Values> &steps);

} // namespace moec::host
