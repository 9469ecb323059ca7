// Whole models against expected outputs: the example model, and the exports in ../shared.
#include "TestSets.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include <gtest/gtest.h>

using namespace moec::reference::test;

namespace {

const std::string source = MOEC_SOURCE_DIR;

std::pair<double, double> tolerances(const std::string &meta) {
  auto buffer = llvm::MemoryBuffer::getFile(meta);
  if (!buffer)
    return {1e-5, 1e-5};
  auto json = llvm::json::parse((*buffer)->getBuffer());
  const llvm::json::Object *object = json ? json->getAsObject() : nullptr;
  if (!object)
    return {1e-5, 1e-5};
  return {object->getNumber("atol").value_or(1e-5), object->getNumber("rtol").value_or(1e-5)};
}

void expectModel(const std::string &model, const std::string &data, const std::string &meta) {
  auto [atol, rtol] = tolerances(meta);
  auto sets = readSets(data);
  ASSERT_FALSE(sets.empty()) << data;
  auto context = makeContext();
  Report report = check(*context, model, sets, atol, rtol);
  EXPECT_EQ(report.error, "");
  std::printf("  %d sets, largest difference %.2g, %.2f s\n", report.sets, report.largest,
              report.seconds);
}

class ExampleModel : public testing::TestWithParam<const char *> {};

TEST_P(ExampleModel, GivesTheExpectedOutputs) {
  std::string folder = source + "/examples/moe-lm/", form = GetParam();
  expectModel(folder + form + ".onnx", folder + "testdata/" + form, folder + "meta.json");
}
INSTANTIATE_TEST_SUITE_P(Forms, ExampleModel, testing::Values("prefill", "decode", "loop"),
                         [](const auto &info) { return std::string(info.param); });

class Transformers : public testing::TestWithParam<const char *> {};

TEST_P(Transformers, GivesTheExpectedOutputs) {
  std::string folder = source + "/../shared/models/transformers/" + GetParam();
  if (!llvm::sys::fs::exists(folder + "/model.onnx"))
    GTEST_SKIP() << "no " << folder;
  expectModel(folder + "/model.onnx", folder, folder + "/meta.json");
}
INSTANTIATE_TEST_SUITE_P(
    Cases, Transformers,
    testing::Values("mixtral-dyn-batched", "mixtral-dyn-dense", "mixtral-dyn-dense-op23",
                    "mixtral-dyn-loop", "mixtral-dyn-maskloop", "mixtral-hf-batched",
                    "mixtral-hf-batched-bf16", "mixtral-hf-batched-ortcuda", "mixtral-hf-decode",
                    "mixtral-hf-grouped", "mixtral-hf-grouped-f16", "mixtral-hf-grouped-ortcpu",
                    "olmoe-hf-batched", "olmoe-hf-batched-ortcuda", "qwen2_moe-dyn-maskloop",
                    "qwen2_moe-hf-batched", "qwen2_moe-hf-batched-ortcuda", "qwen2_moe-hf-grouped",
                    "qwen3_moe-dyn-batched-op24", "qwen3_moe-hf-batched",
                    "qwen3_moe-hf-batched-f16", "qwen3_moe-hf-decode", "qwen3_moe-hf-grouped"),
    [](const auto &info) {
      std::string name = info.param;
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

} // namespace
