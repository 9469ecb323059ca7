// The linear map of a router, as numbers.
#pragma once

#include "ExpertMath.h"

namespace moec::compress {

/// Logits that are `x map + summand`, x the experts' tokens.
class RouterMap {
public:
  /// The map behind the moe.route of the layer; without one, `why` says what stands in its place.
  static std::optional<RouterMap> find(const moe::RoutedLayer &layer, WeightEvaluator &weights,
                                       std::string &why);

  Rows map;          ///< [hidden, experts]
  mlir::Type stored; ///< element type that its weight is stored in

  /// The choice with another map in its place.
  llvm::Expected<Picks> route(const Rows &x, const Rows &map) const;
  /// What the logits lack to `aim`; 0 for experts that are masked.
  Rows missing(const Rows &x, const Rows &aim) const;
  /// Gives the router another map.
  llvm::Error replace(const moe::RoutedLayer &layer, const Rows &map) const;

private:
  Rows logits(const Rows &x, const Rows &map) const;
  moe::RouterAttr router;
  mlir::Operation *product = nullptr; // MatMul or Gemm
  bool turned = false;                // the weight is [experts, hidden]
  Eigen::RowVectorXf summand;
  std::vector<float> bias;
};

} // namespace moec::compress
