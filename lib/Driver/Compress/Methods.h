// The compression methods that `moec compress` knows, and recipes made of them. Internal to Driver.
#pragma once

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <string>
#include <vector>

namespace moec {

/// One method: a pass with options that choose it among its family.
struct CompressMethod {
  /// `given`: what goes is listed by a file that is made first (CompressElimination.h).
  enum class Family { prune, given, replace, merge, recombine, narrow };

  llvm::StringLiteral name, summary;
  Family family;
  llvm::StringLiteral pass, options; // the pass and the options that are the method's own
  int tier;                          // of the profile that it reads (moec/Analysis/Profile.h)
  bool tokens = false;               // whether it reads the tokens that the profile keeps
};

llvm::ArrayRef<CompressMethod> compressMethods();
/// Null when there is none of that name.
const CompressMethod *findMethod(llvm::StringRef name);

/// What is done after the structure has changed.
enum class Repair { none, down, sequential };
llvm::StringRef nameOf(Repair repair);

/// A compression, exactly: equal recipes over one profile give equal models.
struct Recipe {
  std::string method; // empty: no experts go
  /// Slabs that each routed layer keeps, in the order of the profile's layers.
  std::vector<int64_t> keep;
  Repair repair = Repair::none;
  uint64_t seed = 0;  // of random choices
  std::string labels; // weights of labels, "github:1,c4:0.5"; empty: all alike
  bool protect = true;
  std::string more = "";   // further options of the method's pass

  /// A text that tells recipes apart.
  std::string key() const;
};

/// The passes of a recipe, without its sequential repair, which needs runs in between, for layers of
/// so many `experts`. `profile` and `folder` are given to the passes that read them.
std::string pipelineOf(const Recipe &recipe, llvm::ArrayRef<int64_t> experts,
                       llvm::StringRef profile, llvm::StringRef folder);

/// The repair of one layer (-1: of all) from the tokens of `profile`; `current`, when not empty, is a
/// profile of the compressed model over the same tokens.
std::string repairPipeline(const Recipe &recipe, int64_t layer, llvm::StringRef profile,
                           llvm::StringRef current, llvm::StringRef folder);

} // namespace moec
