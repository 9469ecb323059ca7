// Shapes of values that a Loop carries from step to step. ONNX's inference gives them none, as
// they may change; most do not.
#pragma once
#include "Context.h"

#include "llvm/ADT/StringMap.h"

namespace moec::onnx_import {

/// How much of the first value's shape a carried value is taken to keep.
enum class Keeps { nothing, rank, shape };

/// Keyed by the Loop's result.
using Carried = llvm::StringMap<Keeps>;

/// Removes the shapes that a file declares inside graphs of nodes; they need not be true.
void stripInnerShapes(::onnx::GraphProto &graph);

/// Declares, for Loops whose carried values have no shape although the first value has one, that
/// they keep what `carried` says (the whole shape when it says nothing yet, and then notes that).
/// True when something was declared; infer again then.
bool assumeCarried(::onnx::GraphProto &graph, Carried &carried);

/// Lowers what `carried` says of values for which the body does not bear it out: the assumption
/// holds when a body that is given such a value also ends with one. True when all held.
bool verifyCarried(const ::onnx::GraphProto &graph, Carried &carried);

} // namespace moec::onnx_import
