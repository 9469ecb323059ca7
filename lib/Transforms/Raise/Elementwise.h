// What elementwise operations need to know about their operands.
#pragma once

#include "Analysis.h"

namespace moec::raise {

bool isFloat(mlir::Value v);
// Positions: a sort's, or those of an expert's hits.
bool isIndexKind(const Expr *e);
// One element of a binary op, in the arithmetic of the result type.
double fold(llvm::StringRef name, double x, double y, bool floats);
// The layout describes a value of this type without further broadcasting.
bool fits(const Layout &layout, mlir::Value v);

} // namespace moec::raise
