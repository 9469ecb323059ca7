// Runs tests in ONNX's layout one after the other in one process.
//
//   run-node-tests compiled[LEVEL]|interpreter FOLDER < names
//
// LEVEL is that of moec's -O: 0, 1 (as without it) or 2.
// FOLDER/<name> holds model.onnx, tolerance ("atol rtol") and test_data_set_N. Prints "<name>" when
// a test begins, so that a crash can be told apart, and then, behind tabs, on the same line its
// outcome (pass, fail or unsupported), the seconds it took and, unless it passed, one line of why.
#include "moec/Driver/Error.h"
#include "moec/Driver/Session.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"
#include <chrono>
#include <cstdio>
#include <iostream>

using namespace moec;

namespace {

struct Outcome {
  const char *state = "pass";
  std::string why;
};

Outcome failure(llvm::Error error) {
  Outcome outcome{"fail", ""};
  llvm::handleAllErrors(
      std::move(error),
      [&](const CommandError &e) {
        outcome.why = e.text;
        if (e.code == Exit::unsupported || llvm::StringRef(e.text).contains("unsupported"))
          outcome.state = "unsupported";
      },
      [&](const llvm::ErrorInfoBase &e) { outcome.why = e.message(); });
  return outcome;
}

// NumPy, with which the expected values were made, rounds 16-bit floats inside operators.
Tolerance toleranceOf(const std::string &folder, const TestSet &set) {
  Tolerance tolerance{1e-7, 1e-3};
  if (auto buffer = llvm::MemoryBuffer::getFile(folder + "/tolerance"))
    std::sscanf((*buffer)->getBuffer().str().c_str(), "%lf %lf", &tolerance.absolute,
                &tolerance.relative);
  for (const Tensor &output : set.outputs)
    if (output.type == DType::f16 || output.type == DType::bf16) {
      bool half = output.type == DType::f16;
      tolerance.absolute = std::max(tolerance.absolute, half ? 1e-3 : 4e-3);
      tolerance.relative = std::max(tolerance.relative, half ? 2e-3 : 1e-2);
    }
  return tolerance;
}

// Data written with NumPy often hold a scalar with one axis.
void fitScalar(const Signature &signature, std::vector<Tensor> &inputs) {
  for (auto [info, input] : llvm::zip(signature.inputs, inputs))
    if (info.dims.empty() && input.shape == std::vector<int64_t>{1})
      input.shape.clear();
}

Outcome runSet(Executor &executor, const std::string &folder, const std::string &data) {
  auto set = readTestSet(data);
  if (!set)
    return failure(set.takeError());
  fitScalar(executor.signature(), set->inputs);
  auto results = executor.run(set->inputs);
  if (!results)
    return failure(results.takeError());
  if (results->size() != set->outputs.size())
    return {"fail", std::to_string(results->size()) + " outputs"};
  for (auto [got, want] : llvm::zip(*results, set->outputs)) {
    if (got.shape.empty() && want.shape == std::vector<int64_t>{1})
      want.shape.clear();
    Difference d = compare(got, want, toleranceOf(folder, *set));
    if (!d.equal)
      return {"fail", "output \"" + got.name + "\": " + describe(d)};
  }
  return {};
}

Outcome runCase(const std::string &folder, const OpenOptions &options) {
  auto executor = openModel(folder + "/model.onnx", options);
  if (!executor)
    return failure(executor.takeError());
  std::vector<std::string> sets = findTestSets(folder);
  if (sets.empty())
    return {"fail", "no data"};
  for (const std::string &set : sets)
    if (Outcome outcome = runSet(**executor, folder, set); !outcome.why.empty())
      return outcome;
  return {};
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 3) {
    llvm::errs() << "usage: run-node-tests compiled[LEVEL]|interpreter FOLDER < names\n";
    return 2;
  }
  OpenOptions options;
  llvm::StringRef engine = argv[1];
  options.reference = engine == "interpreter";
  options.optimisation = options.reference || engine.ends_with("0") ? 0 : engine.ends_with("2") ? 2 : 1;
  options.threads = 1;
  for (std::string name; std::getline(std::cin, name);) {
    std::cout << name << std::flush;
    auto start = std::chrono::steady_clock::now();
    Outcome outcome = runCase(std::string(argv[2]) + "/" + name, options);
    std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    std::string why = outcome.why.substr(0, outcome.why.find('\n'));
    std::replace(why.begin(), why.end(), '\t', ' ');
    std::cout << "\t" << outcome.state << "\t" << taken.count() << "\t" << why << std::endl;
  }
  return 0;
}
