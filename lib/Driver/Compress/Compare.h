// moec compress --compare: every method at one size. Internal to Driver.
#pragma once

#include "Run.h"

namespace moec {

/// A method with as many experts a layer as the others; "random" has a result for each seed.
struct ComparedMethod : Baseline {
  Repair repair = Repair::none;
};

/// Measures the methods of --compare on the held-out data, without and (but for --repair none) with
/// the least squares repair. Methods that are unsupported for the model are left out, with a remark in
/// `skipped`. What is known from an earlier run in the same work folder is not measured again.
struct Comparison {
  std::vector<int64_t> keep;
  Compressor::Result before;
  std::vector<ComparedMethod> methods;
  std::vector<std::string> skipped;
};
llvm::Expected<Comparison> compareMethods(const CompressFlags &flags, Compressor &compressor,
                                          llvm::ArrayRef<int64_t> keep, Progress &progress);

nlohmann::json comparisonToJson(const Comparison &comparison);
std::string comparisonText(const Comparison &comparison);

} // namespace moec
