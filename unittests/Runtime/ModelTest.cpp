// Opening models: what is checked before code is loaded, and which kernels are chosen.
#include "Support.h"
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>

namespace {

moert_status open(const std::string &path, std::string &message, moert_model_options options = {}) {
  moert_model *model;
  moert_error error = {};
  moert_status status = moert_model_open(path.c_str(), &options, &model, &error);
  message = error.message;
  if (status == MOERT_OK)
    moert_model_release(model);
  else
    EXPECT_EQ(model, nullptr);
  return status;
}

void refused(const std::string &path, moert_status status, const std::string &why,
             moert_model_options options = {}) {
  std::string message;
  EXPECT_EQ(open(path, message, options), status) << message;
  EXPECT_CONTAINS(message, why);
}

} // namespace

TEST(Model, RefusesOtherFiles) {
  std::string folder = testFolder();
  refused(folder + "/missing.so", MOERT_ERROR_INPUT, "No such file");
  refused(folder, MOERT_ERROR_INPUT, "not a regular file");
  writeFile(folder + "/empty.so", "");
  refused(folder + "/empty.so", MOERT_ERROR_INPUT, "the file is empty");
  writeFile(folder + "/text.so", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
  refused(folder + "/text.so", MOERT_ERROR_INPUT, "not a shared library");
  refused(MOEC_TEST_CC, MOERT_ERROR_INPUT, "");
}

TEST(Model, RefusesLibrariesWithoutAModel) {
  std::string base = testFolder() + "/plain";
  writeFile(base + ".c", "int x;");
  ASSERT_EQ(
      std::system(
          (std::string(MOEC_TEST_CC) + " -shared -fPIC " + base + ".c -o " + base + ".so").c_str()),
      0);
  refused(base + ".so", MOERT_ERROR_INPUT, "no model");
}

TEST(Model, RefusesOtherAbisAndCpus) {
  TestModel model = addModel();
  model.abi = 99;
  refused(model.build("abi"), MOERT_ERROR_UNSUPPORTED, "unsupported ABI 99");
  model = addModel();
  model.cpu = 1u << 30;
  refused(model.build("cpu"), MOERT_ERROR_UNSUPPORTED, "unsupported CPU: the model needs");
}

TEST(Model, NeedsItsWeights) {
  std::string path = addModel().build("add");
  std::string weights = testFolder() + "/add.moew", bytes = readFile(weights);
  std::filesystem::remove(weights);
  refused(path, MOERT_ERROR_INPUT, "add.moew: No such file");
  writeFile(weights, "");
  refused(path, MOERT_ERROR_INPUT, "add.moew: the file is empty");
  TestModel other = addModel();
  other.weights[0].push_back(4);
  writeFile(weights, other.weightsFile());
  refused(path, MOERT_ERROR_INPUT, "do not belong to this library");
  writeFile(weights, bytes);
  std::string message;
  EXPECT_EQ(open(path, message), MOERT_OK) << message;
  std::string elsewhere = testFolder() + "/elsewhere.bin";
  std::filesystem::rename(weights, elsewhere);
  EXPECT_EQ(open(path, message, {.weights_path = elsewhere.c_str(), .copy_weights = 1}), MOERT_OK)
      << message;
}

TEST(Model, VerifiesChecksumsOnRequest) {
  std::string path = addModel().build("add"), weights = testFolder() + "/add.moew";
  std::string bytes = readFile(weights), message;
  EXPECT_EQ(open(path, message, {.verify_weights = 1}), MOERT_OK) << message;
  bytes[bytes.size() - MOEW_ALIGNMENT] ^= 1; // in the second slab
  writeFile(weights, bytes);
  EXPECT_EQ(open(path, message), MOERT_OK) << message;
  refused(path, MOERT_ERROR_INPUT, "weight \"w1\" is damaged (checksum)", {.verify_weights = 1});
}

// Any single damaged bit of header or manifest is found.
TEST(Model, FindsFlippedBitsInTheManifest) {
  std::string path = addModel().build("add"), weights = testFolder() + "/add.moew";
  const std::string good = readFile(weights);
  size_t used = sizeof(moew_header) + 2 * sizeof(moew_entry);
  for (size_t bit = 0; bit < used * 8; bit += 3) {
    std::string bad = good;
    bad[bit / 8] ^= char(1 << bit % 8);
    writeFile(weights, bad);
    std::string message;
    ASSERT_NE(open(path, message), MOERT_OK) << "bit " << bit;
    ASSERT_FALSE(message.empty());
  }
}

TEST(Model, FindsTruncatedWeights) {
  std::string path = addModel().build("add"), weights = testFolder() + "/add.moew";
  const std::string good = readFile(weights);
  for (size_t length = 0; length < good.size(); length += length < 600 ? 7 : 997) {
    writeFile(weights, good.substr(0, length));
    std::string message;
    ASSERT_NE(open(path, message), MOERT_OK) << "length " << length;
  }
}

// What is checked before the system's loader sees the file.
TEST(Model, FindsTruncatedLibraries) {
  std::string path = addModel().build("add"), good = readFile(path), cut = testFolder() + "/cut.so";
  for (size_t length = 0; length < good.size(); length += 61) {
    writeFile(cut, good.substr(0, length));
    moert_error error = {};
    ASSERT_NE(test_check_library(cut.c_str(), &error), MOERT_OK) << "length " << length;
  }
}

TEST(Model, FindsFlippedBitsInTheDescriptor) {
  TestModel model = addModel();
  model.kernels = {{"gemm", {{"avx2", "moe_main"}}}};
  std::string path = model.build("add"), good = readFile(path), bad = testFolder() + "/bad.so";
  std::string descriptor = model.descriptor(model.weightsFile());
  size_t at = good.find(descriptor);
  ASSERT_NE(at, std::string::npos);
  moert_error error = {};
  ASSERT_EQ(test_check_library(path.c_str(), &error), MOERT_OK) << error.message;
  for (size_t bit = 0; bit < descriptor.size() * 8; bit += 5) {
    std::string flipped = good;
    flipped[at + bit / 8] ^= char(1 << bit % 8);
    writeFile(bad, flipped);
    ASSERT_NE(test_check_library(bad.c_str(), &error), MOERT_OK) << "bit " << bit;
  }
}

// Damaged ELF headers and section tables: an answer, whichever, but no crash.
TEST(Model, SurvivesFlippedBitsInElfHeaders) {
  std::string path = addModel().build("add"), good = readFile(path), bad = testFolder() + "/bad.so";
  uint64_t sections;
  std::memcpy(&sections, good.data() + 40, 8);
  auto flip = [&](size_t bit) {
    std::string flipped = good;
    flipped[bit / 8] ^= char(1 << bit % 8);
    writeFile(bad, flipped);
    moert_error error = {};
    test_check_library(bad.c_str(), &error);
  };
  for (size_t bit = 0; bit < 64 * 8; ++bit)
    flip(bit);
  for (size_t bit = sections * 8; bit < good.size() * 8; bit += 13)
    flip(bit);
}

TEST(Model, RefusesManifestsThatPointOutside) {
  TestModel model = addModel();
  std::string path = model.build("add"), weights = testFolder() + "/add.moew";
  std::string file = readFile(weights);
  auto damage = [&](auto change) {
    std::string bad = file;
    change(reinterpret_cast<moew_header *>(bad.data()),
           reinterpret_cast<moew_entry *>(bad.data() + sizeof(moew_header)));
    // The library agrees with the damaged manifest.
    TestModel liar = model;
    std::string c = readFile(testFolder() + "/add.c");
    std::string old = liar.descriptor(file), made = liar.descriptor(bad);
    std::string so = readFile(path);
    size_t at = so.find(old);
    ASSERT_NE(at, std::string::npos);
    writeFile(testFolder() + "/liar.so", so.replace(at, made.size(), made));
    writeFile(testFolder() + "/liar.moew", bad);
    refused(testFolder() + "/liar.so", MOERT_ERROR_INPUT, "liar.moew");
  };
  damage([](moew_header *, moew_entry *e) { e->offset = uint64_t(1) << 40; });
  damage([](moew_header *, moew_entry *e) { e->offset += 64; });
  damage([](moew_header *, moew_entry *e) { e->length = ~uint64_t(0); });
  damage([](moew_header *, moew_entry *e) { e->name = 1 << 30; });
  damage([](moew_header *, moew_entry *e) { e->rank = 9; });
  damage([](moew_header *, moew_entry *e) { e->dtype = 77; });
  damage([](moew_header *h, moew_entry *) { h->entries = 1; });
  damage([](moew_header *h, moew_entry *) { h->file_bytes = 1; });
}

// Two variants: the better one that the CPU has, unless a lower one is asked for.
TEST(Model, ChoosesKernels) {
  TestModel model = addModel();
  model.kernels = {{"gemm f32", {{"avx2", "two"}, {"avx512", "five"}, {"future", "never"}}}};
  model.code = R"(
    static int two(void) { return 2; }
    static int five(void) { return 512; }
    static int never(void) { return 0; }
    void moe_main(moert_ctx *ctx, moert_buffer *args) {
      struct moert_ctx_head *head = (void *)ctx;
      float *y = head->api->alloc(ctx, 8);
      y[0] = head->kernels[0]();
      args[1] = (moert_buffer){y, {1, 2}};
    })";
  std::string path = model.build("kernels");
  auto best = [&](const char *isa, std::string &name) {
    moert_model *m;
    moert_session *session;
    moert_error error;
    moert_model_options options = {.isa = isa};
    if (moert_model_open(path.c_str(), &options, &m, &error) ||
        moert_session_create(m, nullptr, &session, &error)) {
      ADD_FAILURE() << error.message;
      return 0;
    }
    const char *used;
    EXPECT_STREQ(moert_model_kernel(m, 0, &used), "gemm f32");
    EXPECT_EQ(moert_model_kernel(m, 1, &used), nullptr);
    name = used;
    float x[] = {0, 0};
    std::vector<int64_t> shape{1, 2};
    DLTensor in = tensorOf(x, shape);
    DLManagedTensor *out;
    EXPECT_EQ(moert_session_run(session, &in, 1, &out, 1, &error), MOERT_OK);
    int result = int(static_cast<float *>(out->dl_tensor.data)[0]);
    out->deleter(out);
    moert_session_release(session);
    moert_model_release(m);
    return result;
  };
  std::string isa;
  EXPECT_EQ(best("avx2", isa), 2);
  EXPECT_EQ(isa, "avx2");
  bool has512 = __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  EXPECT_EQ(best(nullptr, isa), has512 ? 512 : 2);
  setenv("MOERT_ISA", "avx2", 1);
  EXPECT_EQ(best(nullptr, isa), 2);
  EXPECT_EQ(best("avx512", isa), has512 ? 512 : 2); // the option goes first
  setenv("MOERT_ISA", "sse9", 1);
  refused(path, MOERT_ERROR_USAGE, "MOERT_ISA is \"sse9\", which is none of avx2, avx512");
  unsetenv("MOERT_ISA");
  refused(path, MOERT_ERROR_USAGE, "the option isa is \"mmx\"", {.isa = "mmx"});
}

TEST(Model, RefusesKernelsWithoutAVariant) {
  TestModel model = addModel();
  model.kernels = {{"gemm f32", {{"future", "moe_main"}}}};
  refused(model.build("future"), MOERT_ERROR_UNSUPPORTED, "kernel \"gemm f32\" has no variant");
}

TEST(Model, ReportsNullArguments) {
  moert_error error;
  EXPECT_EQ(moert_model_open(nullptr, nullptr, nullptr, &error), MOERT_ERROR_USAGE);
  EXPECT_EQ(moert_session_create(nullptr, nullptr, nullptr, &error), MOERT_ERROR_USAGE);
  moert_model_release(nullptr);
  moert_session_release(nullptr);
}
