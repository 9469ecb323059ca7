// Down projections of several slabs in files that no memory is needed for.
#pragma once

#include "LeastSquares.h"
#include "moec/Weights/Literal.h"
#include <optional>

namespace moec::compress {

/// Down weights and bias of one slab.
struct Down {
  Rows matrix; ///< [hidden, inter]
  Eigen::RowVectorXf bias;
};

/// Written once, in order; then read. Numbers are rounded to the element types given.
class DownStore {
public:
  /// `bias` is null for none.
  static llvm::Expected<std::unique_ptr<DownStore>> create(int64_t slabs, int64_t hidden,
                                                           int64_t inter, mlir::Type matrix,
                                                           mlir::Type bias);
  llvm::Error append(const Down &down);
  /// Ends writing; the literals get names that begin with `name`.
  llvm::Error close(llvm::StringRef name);
  Down read(size_t place) const;
  mlir::ElementsAttr matrices() const { return matrixLiteral; }
  mlir::ElementsAttr biases() const { return biasLiteral; } ///< null without
  /// Gives the disk space back; the literals must not be used any more.
  void discard();

private:
  DownStore() = default;
  int64_t hidden = 0, inter = 0;
  mlir::Type matrixType, biasType;
  std::optional<LiteralWriter> matrixWriter, biasWriter;
  mlir::ElementsAttr matrixLiteral, biasLiteral;
};

} // namespace moec::compress
