// Elementary functions on f32 expressions, accurate to about 2e-7 relative (exp) and exact for
// infinities and NaN, in operations that vectorise.
#pragma once
#include "moec/Codegen/KernelSpec/KernelSpec.h"
#include <Halide.h>

namespace moec::cpu {

/// min(x, limit), and x held within [-limit, limit]; NaN passes.
Halide::Expr atMost(const Halide::Expr &x, float limit);
Halide::Expr within(const Halide::Expr &x, float limit);

Halide::Expr expOf(const Halide::Expr &x);
Halide::Expr sigmoidOf(const Halide::Expr &x);
Halide::Expr tanhOf(const Halide::Expr &x);
Halide::Expr erfOf(const Halide::Expr &x);

/// act(x); alpha is used by swish.
Halide::Expr activate(Activation activation, float alpha, const Halide::Expr &x);

} // namespace moec::cpu
