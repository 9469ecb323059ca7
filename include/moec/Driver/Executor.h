// One interface over the ways to run a model: the reference interpreter and compiled code.
#pragma once

#include "moec/Driver/Tensor.h"

#include <map>
#include <memory>

namespace moec {

/// An input or output of a model. A dimension is a number in decimal, a symbol, or a sum of such
/// ("past_sequence + sequence"); "?" or "" when the model does not say.
struct ValueInfo {
  std::string name;
  DType type = DType::f32;
  std::vector<std::string> dims;
};

struct Signature {
  std::vector<ValueInfo> inputs, outputs;
};

class Executor {
public:
  virtual ~Executor() = default;

  virtual const Signature &signature() const = 0;

  /// Runs once. `inputs` are in the signature's order; so are the results, which own their data
  /// and carry the signature's names. One call at a time.
  virtual llvm::Expected<std::vector<Tensor>> run(llvm::ArrayRef<Tensor> inputs) = 0;
};

/// How inputs are made when a user gives none.
struct InputOptions {
  uint64_t seed = 0;
  std::map<std::string, int64_t> dims; // sizes of symbols; the others get small defaults
  int64_t integers = 8;                // integer inputs are below this
};

/// Inputs that look plausible: floats are normal, integers small, masks all ones, positions count
/// up. Equal options give equal inputs on every machine.
llvm::Expected<std::vector<Tensor>> makeInputs(const Signature &signature,
                                               const InputOptions &options);

/// Puts `given` into the signature's order (by name when every tensor has one that is known, else
/// by position) and checks types and shapes; one element counts as a scalar. Errors name the input.
llvm::Expected<std::vector<Tensor>> orderInputs(const Signature &signature,
                                                std::vector<Tensor> given);

/// "input_ids: i64[batch, sequence]"
std::string describe(const ValueInfo &value);

} // namespace moec
