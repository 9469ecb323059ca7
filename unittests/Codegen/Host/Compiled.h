// Lowers IR to the host program, runs it in this process and compares with the reference.
#pragma once
#include "Reference/Run.h"
#include "moec/Codegen/Host/Host.h"

namespace moec::host::test {

using reference::test::absent;
using reference::test::boolean;
using reference::test::expectNear;
using reference::test::f32;
using reference::test::i64;
using reference::test::Numbers;
using reference::test::Outcome;

/// Compiles @main and runs it. Errors of the compiler and of the run are `error`; `peakBytes` gets
/// the most memory that the run had.
Outcome runCompiled(const std::string &ir, const std::vector<Numbers> &inputs,
                    uint64_t *peakBytes = nullptr);

/// One op, as in Reference/Run.h, but with results of known rank.
struct OpCase {
  std::string name = "", attributes = "";
  std::vector<Numbers> inputs = {};
  std::vector<std::string> results = {"f32"};
  std::vector<size_t> constants = {}; ///< inputs given as onnx.Constant
  double tolerance = 2e-6;
  bool onlyStatic = false; ///< the op needs sizes that dynamic shapes do not tell
};

/// Runs the op by the interpreter and compiled, with static and with dynamic shapes.
void expectSame(const OpCase &op);
/// @main of the module, both ways.
void expectSameModule(const std::string &ir, const std::vector<Numbers> &inputs,
                      double tolerance = 2e-6);

struct Lowered {
  std::string error; ///< all diagnostics
  HostResult result;
  std::string attributes; ///< moec.weights and moec.kernels
};
Lowered lower(const std::string &ir, const HostOptions &options = {});

} // namespace moec::host::test
