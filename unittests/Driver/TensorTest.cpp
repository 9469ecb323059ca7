#include "moec/Driver/Error.h"
#include "moec/Driver/Tensor.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/raw_ostream.h"

#include <gtest/gtest.h>

#include <cmath>

using namespace moec;

namespace {

struct TensorFiles : testing::Test {
  void SetUp() override {
    ASSERT_FALSE(llvm::sys::fs::createUniqueDirectory("moec-test", folder));
  }
  void TearDown() override { llvm::sys::fs::remove_directories(folder); }
  std::string file(llvm::StringRef name) { return (folder + "/" + name).str(); }
  void write(llvm::StringRef name, llvm::StringRef content) {
    std::error_code error;
    llvm::raw_fd_ostream(file(name), error) << content;
  }
  // The error of reading a file, "" when it can be read.
  std::string npyError(llvm::StringRef name) {
    auto t = readNpy(file(name));
    return t ? "" : llvm::toString(t.takeError());
  }
  llvm::SmallString<128> folder;
};

TEST_F(TensorFiles, NpyRoundTripOfEveryType) {
  for (DType type : {DType::f32, DType::f64, DType::f16, DType::u8, DType::i8, DType::boolean,
                     DType::u16, DType::i16, DType::u32, DType::i32, DType::u64, DType::i64}) {
    Tensor t(type, {2, 1, 3});
    for (int64_t i = 0; i < 6; ++i)
      t.set(i, type == DType::boolean ? i % 2 : i);
    ASSERT_FALSE(writeNpy(file("t.npy"), t));
    auto back = readNpy(file("t.npy"));
    ASSERT_TRUE(bool(back)) << llvm::toString(back.takeError());
    EXPECT_EQ(back->type, type);
    EXPECT_EQ(back->shape, t.shape);
    EXPECT_EQ(back->data, t.data);
  }
}

TEST_F(TensorFiles, NpyScalarsAndEmptyTensors) {
  for (std::vector<int64_t> shape : {std::vector<int64_t>{}, {0, 4}, {5}}) {
    ASSERT_FALSE(writeNpy(file("t.npy"), Tensor(DType::f32, shape)));
    auto back = readNpy(file("t.npy"));
    ASSERT_TRUE(bool(back)) << llvm::toString(back.takeError());
    EXPECT_EQ(back->shape, shape);
  }
}

TEST_F(TensorFiles, RefusesDamagedNpy) {
  write("short.npy", "\x93NUMPY");
  EXPECT_NE(npyError("short.npy").find("not a .npy file"), std::string::npos);
  ASSERT_FALSE(writeNpy(file("t.npy"), Tensor(DType::f32, {4})));
  auto whole = llvm::MemoryBuffer::getFile(file("t.npy"));
  ASSERT_TRUE(bool(whole));
  write("cut.npy", (*whole)->getBuffer().drop_back(1));
  EXPECT_NE(npyError("cut.npy").find("15 bytes of data do not fill f32[4]"), std::string::npos);
  write("header.npy", (*whole)->getBuffer().take_front(40));
  EXPECT_NE(npyError("header.npy").find("truncated .npy header"), std::string::npos);
  EXPECT_NE(npyError("missing.npy").find("cannot read"), std::string::npos);
}

TEST_F(TensorFiles, RefusesDamagedTensorProto) {
  write("t.pb", "\xff\xff\xff");
  auto t = readTensorProto(file("t.pb"));
  ASSERT_FALSE(bool(t));
  EXPECT_NE(llvm::toString(t.takeError()).find("not a serialized ONNX tensor"), std::string::npos);
  // dims: 1 << 40, data_type: float, no data
  write("t.pb", llvm::StringRef("\x08\x80\x80\x80\x80\x80\x20\x10\x01", 9));
  t = readTensorProto(file("t.pb"));
  ASSERT_FALSE(bool(t));
  EXPECT_NE(llvm::toString(t.takeError()).find("the data do not fill"), std::string::npos);
}

TEST_F(TensorFiles, TestSetsInNumericalOrder) {
  for (llvm::StringRef set : {"test_data_set_10", "test_data_set_2"})
    ASSERT_FALSE(llvm::sys::fs::create_directories(file(set)));
  auto sets = findTestSets(folder);
  ASSERT_EQ(sets.size(), 2u);
  EXPECT_TRUE(llvm::StringRef(sets[0]).ends_with("_2"));
  auto empty = readTestSet(sets[0]);
  ASSERT_FALSE(bool(empty));
  EXPECT_NE(llvm::toString(empty.takeError()).find("holds no input_0.pb"), std::string::npos);
  ASSERT_FALSE(writeNpy(sets[0] + "/input_0.npy", Tensor(DType::i64, {3})));
  auto set = readTestSet(sets[0]);
  ASSERT_TRUE(bool(set)) << llvm::toString(set.takeError());
  EXPECT_EQ(set->inputs.size(), 1u);
}

TEST(Tensor, RoundsToHalfTypes) {
  Tensor t(DType::bf16, {3});
  t.set(0, 1.0 + 1.0 / 256); // a tie: to even
  t.set(1, NAN);
  t.set(2, -3);
  EXPECT_EQ(t.at(0), 1.0);
  EXPECT_TRUE(std::isnan(t.at(1)));
  EXPECT_EQ(t.at(2), -3);
}

Tensor floats(std::vector<double> values) {
  Tensor t(DType::f32, {int64_t(values.size())});
  for (size_t i = 0; i < values.size(); ++i)
    t.set(int64_t(i), values[i]);
  return t;
}

TEST(Compare, AllCloseWithNan) {
  EXPECT_TRUE(compare(floats({1, NAN, INFINITY}), floats({1, NAN, INFINITY}), {}).equal);
  EXPECT_TRUE(compare(floats({100.05}), floats({100}), {0, 1e-3}).equal);
  Difference d = compare(floats({1, 2, 5}), floats({1, 2.5, 4}), {0.1, 0});
  EXPECT_FALSE(d.equal);
  EXPECT_EQ(d.outside, 2);
  EXPECT_EQ(d.worst, 2);
  EXPECT_EQ(d.maxAbsolute, 1);
  EXPECT_FALSE(compare(floats({NAN}), floats({1}), {}).equal);
}

TEST(Compare, IntegersMustBeIdenticalAndShapesEqual) {
  Tensor a(DType::i64, {1}), b(DType::i64, {1});
  b.set(0, 1);
  EXPECT_FALSE(compare(a, b, {10, 10}).equal);
  EXPECT_EQ(compare(floats({1}), floats({1, 2}), {}).shapes, "f32[1] instead of f32[2]");
}

TEST(Error, CodesAndOneLineEach) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(report(fail(Exit::unsupported, "a.onnx: x\na.onnx: y")), 3);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "moec: a.onnx: x\nmoec: a.onnx: y\n");
  EXPECT_EQ(report(llvm::Error::success()), 0);
}

} // namespace
