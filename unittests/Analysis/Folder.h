// A folder for a test's files.
#pragma once
#include "llvm/Support/Error.h"

#include "gtest/gtest.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <unistd.h>

namespace moec {

struct Folder {
  std::filesystem::path path;

  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "moec-XXXXXX").string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    path = name;
  }
  Folder(const Folder &) = delete;
  ~Folder() { std::filesystem::remove_all(path); }

  std::string file(const std::string &name) const { return (path / name).string(); }
  std::string write(const std::string &name, const std::string &content) const {
    std::filesystem::create_directories((path / name).parent_path());
    std::ofstream(path / name, std::ios::binary) << content;
    return file(name);
  }
  std::string read(const std::string &name) const {
    std::ostringstream content;
    content << std::ifstream(path / name, std::ios::binary).rdbuf();
    return content.str();
  }
};

/// The error's text; fails the test when there is none, when it has several lines, or when it lacks
/// `why`.
template <typename T>
void expectRefused(llvm::Expected<T> value, const std::string &why) {
  ASSERT_FALSE(!!value) << "nothing was refused; expected: " << why;
  std::string error = llvm::toString(value.takeError());
  EXPECT_NE(error.find(why), std::string::npos) << error;
  EXPECT_EQ(error.find('\n'), std::string::npos) << error;
}

} // namespace moec
