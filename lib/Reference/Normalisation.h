// Normalisations that several groups of ops share.
#pragma once
#include "Tensor.h"

namespace moec::reference {

/// Softmax in place; a row of only -inf becomes NaN, as its definition says.
void softmax(llvm::MutableArrayRef<double> row);
/// x / sqrt(mean(x^2 over axes >= axis) + epsilon) * scale. `inverse`, when not null, gets
/// 1 / sqrt(...), with the reduced axes as 1, as elements of type `stash`.
Tensor rmsNormalise(const Tensor &x, const Tensor &scale, int64_t axis, double epsilon,
                    Tensor *inverse = nullptr, Elem stash = Elem::f32);

} // namespace moec::reference
