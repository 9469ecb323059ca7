// The formula around a moe.select: which scores it chooses by, and how its
// weights become mixing weights.
#pragma once

#include "mlir/IR/Operation.h"
#include "mlir/IR/Value.h"
#include <string>

namespace moec::routing {

struct Formula {
  enum Score { Identity, Softmax, Sigmoid };
  enum Renorm { None, Sum, SoftmaxChosen, SigmoidChosen };
  Score score = Identity;
  Renorm renorm = None;
  double epsilon = 0.0;    // added to the sum
  double minimum = 0.0;    // or its lower bound
  double scale = 1.0;
  int64_t k = 0;
  int64_t groups = 1, groupK = 1; // the choice is among the groupK best groups
  bool top2 = false;              // by the sum of a group's two largest scores
  mlir::Value logits;      // [T, E]
  mlir::Value bias;        // [E] added for the selection only, or null
  mlir::Value weights;     // what the fused weights replace: [T, k], or with
  mlir::Value shape;       // token axes of its own: then its shape, else null
};

// The formula of a moe.select; false with the reason when nothing can be fused
// without changing values.
bool matchFormula(mlir::Operation *select, Formula &formula, std::string &why);

} // namespace moec::routing
