#include "Compare.h"
#include "moec/Codegen/CPU/CPU.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace moec;
namespace fs = llvm::sys::fs;

namespace {

std::string messageOf(const std::string &spec, std::vector<std::string> isas = {"avx2"}) {
  cpu::CpuOptions options;
  options.isas = std::move(isas);
  options.cacheFolder = "-";
  auto result = cpu::compileKernels({spec}, options);
  return result ? "" : llvm::toString(result.takeError());
}

bool contains(const std::string &text, const char *part) {
  return text.find(part) != std::string::npos;
}

TEST(Compile, RefusesWhatItCannotMake) {
  EXPECT_TRUE(contains(messageOf("gemm weight=f32 quant=int8"), "unsupported"));
  EXPECT_TRUE(contains(messageOf("gemm weight=f32 quant=int4"), "unsupported"));
  EXPECT_TRUE(contains(messageOf("gemm weight=f64"), "unsupported value 'f64'"));
  EXPECT_TRUE(contains(messageOf("conv"), "unsupported operation 'conv'"));
  EXPECT_TRUE(contains(messageOf("bgemm", {"amx"}), "unsupported instruction set 'amx'"));
}

TEST(Compile, EqualSpecsShareOneKernel) {
  cpu::CpuOptions options;
  options.cacheFolder = "-";
  auto result = cpu::compileKernels({"bgemm", "gemm weight=f32", "bgemm"}, options);
  ASSERT_TRUE(bool(result)) << llvm::toString(result.takeError());
  ASSERT_EQ(result->size(), 6u);
  EXPECT_EQ((*result)[0].symbol, (*result)[4].symbol);
  EXPECT_NE((*result)[0].symbol, (*result)[1].symbol); // avx2, avx512
  EXPECT_NE((*result)[0].symbol, (*result)[2].symbol);
  EXPECT_EQ((*result)[5].slot, 2u);
  EXPECT_EQ((*result)[5].isa, "avx512");
}

/// One exported symbol, and nothing undefined but the C library.
TEST(Compile, ObjectsStandAlone) {
  cpu::CpuOptions options;
  options.cacheFolder = "-";
  std::vector<std::string> specs = {"experts_up gated=1 activation=gelu", "attention",
                                    "gemm weight=bf16", "route score=sigmoid"};
  auto result = cpu::compileKernels(specs, options);
  ASSERT_TRUE(bool(result)) << llvm::toString(result.takeError());
  for (const auto &kernel : *result) {
    auto file = llvm::object::ObjectFile::createELFObjectFile(
        llvm::MemoryBufferRef(kernel.object, kernel.symbol));
    ASSERT_TRUE(bool(file)) << llvm::toString(file.takeError());
    for (const auto &symbol : (*file)->symbols()) {
      uint32_t flags = llvm::cantFail(symbol.getFlags());
      std::string name = llvm::cantFail(symbol.getName()).str();
      if (flags & llvm::object::SymbolRef::SF_Undefined)
        EXPECT_TRUE(name.empty() || name == "memset" || name == "memcpy") << name;
      else if (flags & llvm::object::SymbolRef::SF_Global)
        EXPECT_EQ(name, kernel.symbol);
    }
  }
}

TEST(Compile, CacheGivesTheSameObjectAndSurvivesDamage) {
  llvm::SmallString<128> folder;
  ASSERT_FALSE(fs::createUniqueDirectory("moec-cache", folder));
  auto remove = llvm::scope_exit([&] { fs::remove_directories(folder); });
  cpu::CpuOptions options;
  options.isas = {"avx2"};
  options.cacheFolder = folder.str().str();
  auto first = cpu::compileKernels({"route"}, options);
  ASSERT_TRUE(bool(first));
  std::error_code error;
  std::string entry;
  int entries = 0;
  for (fs::directory_iterator it(folder, error), end; it != end; it.increment(error), ++entries)
    entry = it->path();
  ASSERT_EQ(entries, 1);
  auto second = cpu::compileKernels({"route"}, options);
  ASSERT_TRUE(bool(second));
  EXPECT_EQ((*first)[0].object, (*second)[0].object);

  uint64_t size = 0;
  ASSERT_FALSE(fs::file_size(entry, size));
  int fd;
  ASSERT_FALSE(fs::openFileForReadWrite(entry, fd, fs::CD_OpenExisting, fs::OF_None));
  ASSERT_FALSE(fs::resize_file(fd, size / 2));
  fs::file_t handle = fs::convertFDToNativeFile(fd);
  fs::closeFile(handle);
  auto third = cpu::compileKernels({"route"}, options);
  ASSERT_TRUE(bool(third));
  EXPECT_EQ((*first)[0].object, (*third)[0].object);
}

} // namespace
