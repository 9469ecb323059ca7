#include "Folder.h"
#include "moec/Weights/Weights.h"

#include "gtest/gtest.h"
#include <sys/stat.h>

using namespace moec;

namespace {

std::string errorOf(WeightReader &reader, llvm::StringRef file, uint64_t offset = 0,
                    uint64_t length = 1) {
  auto range = reader.map(file, offset, length);
  return range ? "" : llvm::toString(range.takeError());
}

void expectRefused(const std::string &error, llvm::StringRef why) {
  EXPECT_NE(error.find(why.str()), std::string::npos) << error;
  EXPECT_EQ(error.find('\n'), std::string::npos) << error;
}

struct Reader : testing::Test {
  Folder folder;
  void SetUp() override {
    folder.write("model/w.bin", "0123456789");
    folder.write("model/sub/deep.bin", "abc");
    folder.write("secret.bin", "secret");
  }
  WeightReader reader{folder.file("model")};
};

TEST_F(Reader, MapsRanges) {
  auto all = reader.map("w.bin", 0, 10);
  ASSERT_TRUE(!!all);
  EXPECT_EQ(llvm::StringRef(all->data(), all->size()), "0123456789");
  auto part = llvm::cantFail(reader.map("./sub//deep.bin", 1, 2));
  EXPECT_EQ(llvm::StringRef(part.data(), part.size()), "bc");
  EXPECT_EQ(llvm::cantFail(reader.size("w.bin")), 10u);
  EXPECT_TRUE(llvm::cantFail(reader.map("w.bin", 10, 0)).empty());
}

TEST_F(Reader, ReleasedRangesStayReadable) {
  auto all = llvm::cantFail(reader.map("w.bin", 0, 10));
  reader.release(all);
  reader.releaseAll();
  EXPECT_EQ(llvm::StringRef(all.data(), all.size()), "0123456789");
}

TEST_F(Reader, RefusesNames) {
  expectRefused(errorOf(reader, ""), "empty name");
  expectRefused(errorOf(reader, "."), "is no file");
  expectRefused(errorOf(reader, "../secret.bin"), "\"..\"");
  expectRefused(errorOf(reader, "sub/../w.bin"), "\"..\"");
  expectRefused(errorOf(reader, "sub/.."), "\"..\"");
  expectRefused(errorOf(reader, folder.file("model/w.bin")), "absolute path");
  expectRefused(errorOf(reader, llvm::StringRef("w.bin\0x", 7)), "NUL");
  expectRefused(errorOf(reader, "nothing.bin"), "does not exist");
  expectRefused(errorOf(reader, "nothing/w.bin"), "does not exist");
  expectRefused(errorOf(reader, "w.bin/x"), "no folder");
  expectRefused(errorOf(reader, "sub"), "no regular file");
  expectRefused(errorOf(reader, std::string(5000, 'x')), "cannot be opened");
}

TEST_F(Reader, RefusesLinks) {
  std::filesystem::create_symlink("../secret.bin", folder.path / "model/link.bin");
  std::filesystem::create_symlink("w.bin", folder.path / "model/inside.bin");
  std::filesystem::create_directory_symlink("..", folder.path / "model/up");
  std::filesystem::create_hard_link(folder.path / "secret.bin", folder.path / "model/hard.bin");
  expectRefused(errorOf(reader, "link.bin"), "symbolic link");
  expectRefused(errorOf(reader, "inside.bin"), "symbolic link");
  expectRefused(errorOf(reader, "up/secret.bin"), "symbolic link \"up\"");
  expectRefused(errorOf(reader, "hard.bin"), "hard link");
}

TEST_F(Reader, RefusesOtherKindsOfFiles) {
  ASSERT_EQ(mkfifo(folder.file("model/pipe").c_str(), 0600), 0);
  expectRefused(errorOf(reader, "pipe"), "no regular file"); // and does not wait for a writer
}

TEST_F(Reader, RefusesRanges) {
  expectRefused(errorOf(reader, "w.bin", 0, 11), "too short");
  expectRefused(errorOf(reader, "w.bin", 11, 0), "too short");
  expectRefused(errorOf(reader, "w.bin", ~uint64_t(0), 2), "too short");
  expectRefused(errorOf(reader, "w.bin", 2, ~uint64_t(0)), "too short");
  folder.write("model/empty.bin", "");
  EXPECT_EQ(errorOf(reader, "empty.bin", 0, 0), "");
  expectRefused(errorOf(reader, "empty.bin"), "too short");
}

TEST_F(Reader, RecognisesGitLfsPointers) {
  folder.write("model/lfs.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n");
  expectRefused(errorOf(reader, "lfs.bin"), "is a Git LFS pointer, not the data: run git lfs pull");
}

TEST_F(Reader, TheFolderItselfMayBeALink) {
  std::filesystem::create_directory_symlink("model", folder.path / "alias");
  WeightReader other(folder.file("alias"));
  EXPECT_EQ(errorOf(other, "w.bin"), "");
  WeightReader none(folder.file("none"));
  expectRefused(errorOf(none, "w.bin"), "does not exist");
}

} // namespace
