// A folder of its own for each test, removed afterwards.
#pragma once
#include "llvm/ADT/StringRef.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>

class Folder {
public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "moec-test-XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  void write(const std::string &name, llvm::StringRef bytes) const {
    std::filesystem::create_directories((path / name).parent_path());
    std::ofstream(path / name, std::ios::binary).write(bytes.data(), std::streamsize(bytes.size()));
  }
  std::string file(const std::string &name) const { return (path / name).string(); }

  std::filesystem::path path;
};
