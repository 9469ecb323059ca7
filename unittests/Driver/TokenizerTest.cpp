#include "moec/Driver/Tokenizer.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"

#include <gtest/gtest.h>

using moec::Tokenizer;

namespace {

// A tokenizer.json of single letters, the space (written as U+0120) and the given merges.
std::string writeFile(const std::string &merges, const std::string &extra = "") {
  std::string vocabulary;
  int id = 1;
  for (std::string token : {"a", "b", "c", "\\u0120", "1", "ab", "abc", "\\u0120a"})
    vocabulary += (id > 1 ? "," : "") + ("\"" + token + "\":" + std::to_string(id)), ++id;
  llvm::SmallString<128> path;
  int fd = -1;
  EXPECT_FALSE(llvm::sys::fs::createTemporaryFile("tokenizer", "json", fd, path));
  llvm::raw_fd_ostream out(fd, true);
  out << R"({"model":{"type":"BPE","vocab":{)" << vocabulary << R"(},"merges":)" << merges
      << R"(},"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},)"
      << extra << R"("added_tokens":[{"id":0,"content":"<|end|>","special":true}]})";
  return path.str().str();
}

TEST(Tokenizer, MergesByRankWithinPieces) {
  auto tokenizer = Tokenizer::load(writeFile(R"([["a","b"],["ab","c"],["\u0120","a"]])"));
  ASSERT_TRUE(bool(tokenizer)) << toString(tokenizer.takeError());
  EXPECT_EQ(tokenizer->encode("abc a1ab"), (std::vector<int64_t>{7, 8, 5, 6}));
  EXPECT_EQ(tokenizer->decode({7, 8, 5, 6}), "abc a1ab");
}

TEST(Tokenizer, SpecialTokensInText) {
  auto tokenizer = Tokenizer::load(writeFile(R"(["a b"])"));
  ASSERT_TRUE(bool(tokenizer)) << toString(tokenizer.takeError());
  EXPECT_EQ(tokenizer->encode("ab<|end|>b"), (std::vector<int64_t>{6, 0, 2}));
  EXPECT_TRUE(tokenizer->isSpecial(0));
  EXPECT_EQ(tokenizer->bytes(99), "");
}

TEST(Tokenizer, RefusesWhatItDoesNotKnow) {
  auto message = [](std::string path) {
    auto tokenizer = Tokenizer::load(path);
    return tokenizer ? std::string() : toString(tokenizer.takeError());
  };
  EXPECT_NE(message("/nonexistent").find("cannot read"), std::string::npos);
  EXPECT_NE(message(writeFile(R"([["a","1"]])")).find("not in the vocabulary"), std::string::npos);
  EXPECT_NE(message(writeFile("[]", R"("normalizer":{"type":"Lowercase"},)"))
                .find("unsupported normalizer 'Lowercase'"),
            std::string::npos);
}

} // namespace
