// What `moec compress` remembers between runs. Internal to Driver.
#pragma once

#include "llvm/Support/Error.h"

#include <nlohmann/json.hpp>

#include <map>
#include <string>

namespace moec {

/// Values by key: a file of one JSON object a line, which only grows. A last line that was cut is
/// left out.
class Journal {
public:
  /// A file that is not there is empty.
  void load(std::string path);
  /// Null when it is not known; valid until the next `add`.
  const nlohmann::json *find(const std::string &key) const;
  /// Written at once; an error names the file.
  llvm::Error add(const std::string &key, const nlohmann::json &value);

private:
  std::string path;
  std::map<std::string, nlohmann::json> values;
};

} // namespace moec
