#include "Support.h"
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

std::string testFolder() {
  const testing::TestInfo *info = testing::UnitTest::GetInstance()->current_test_info();
  std::string folder = testing::TempDir() + "moert-tests-" + std::to_string(getpid()) + "/" +
                       info->test_suite_name() + "." + info->name();
  std::filesystem::create_directories(folder);
  return folder;
}

std::string readFile(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

void writeFile(const std::string &path, const std::string &bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), std::streamsize(bytes.size()));
}

namespace {

// A block with tables and strings, as format.h describes both.
struct Block {
  std::string bytes;
  uint32_t string(const std::string &text) {
    uint32_t at = uint32_t(bytes.size());
    bytes += text + '\0';
    return at;
  }
  template <typename T>
  uint32_t table(const std::vector<T> &rows) {
    bytes.resize((bytes.size() + 7) / 8 * 8);
    uint32_t at = uint32_t(bytes.size());
    bytes.append(reinterpret_cast<const char *>(rows.data()), rows.size() * sizeof(T));
    return at;
  }
};

uint64_t roundUp(uint64_t n) { return (n + MOEW_ALIGNMENT - 1) / MOEW_ALIGNMENT * MOEW_ALIGNMENT; }

struct RemoveFolder : testing::Environment {
  void TearDown() override {
    std::filesystem::remove_all(testing::TempDir() + "moert-tests-" + std::to_string(getpid()));
  }
};
const auto *const kCleanUp = testing::AddGlobalTestEnvironment(new RemoveFolder);

} // namespace

std::string TestModel::weightsFile() const {
  std::vector<moew_entry> entries(weights.size());
  std::string strings, slabs;
  uint64_t manifest = entries.size() * sizeof(moew_entry);
  for (size_t i = 0; i < weights.size(); ++i)
    strings += "w" + std::to_string(i) + '\0';
  strings += std::string("plain") + '\0';
  uint64_t at = roundUp(sizeof(moew_header) + manifest + strings.size());
  std::string file(at, '\0');
  for (size_t i = 0, name = 0; i < weights.size(); ++i) {
    moew_entry &e = entries[i];
    std::memset(&e, 0, sizeof e);
    e.offset = file.size();
    e.length = weights[i].size() * sizeof(float);
    e.shape[0] = int64_t(weights[i].size());
    e.rank = 1;
    e.dtype = 1;
    e.crc = test_crc32(weights[i].data(), e.length);
    e.name = uint32_t(manifest + name);
    e.layout = uint32_t(manifest + strings.size() - 6);
    name += std::to_string(i).size() + 2;
    file.append(reinterpret_cast<const char *>(weights[i].data()), e.length);
    file.resize(roundUp(file.size()));
  }
  moew_header header = {};
  std::memcpy(header.magic, MOEW_MAGIC, 8);
  header.version = MOEW_VERSION;
  header.header_bytes = sizeof header;
  header.file_bytes = file.size();
  header.manifest_bytes = manifest + strings.size();
  header.entries = uint32_t(entries.size());
  std::memcpy(file.data(), &header, sizeof header);
  std::memcpy(file.data() + sizeof header, entries.data(), manifest);
  std::memcpy(file.data() + sizeof header + manifest, strings.data(), strings.size());
  return file;
}

std::string TestModel::descriptor(const std::string &file) const {
  moew_header moew;
  std::memcpy(&moew, file.data(), sizeof moew);
  moert_descriptor head = {};
  Block block;
  block.bytes.resize(sizeof head);
  std::memcpy(head.magic, MOERT_DESCRIPTOR_MAGIC, 8);
  head.abi = abi;
  head.header_bytes = sizeof head;
  head.cpu = cpu;
  test_sha256(file.data(), sizeof moew + moew.manifest_bytes, head.manifest_hash);
  head.compiler_version = block.string("test 1.0");
  std::vector<moert_descriptor_tensor> tensors;
  for (auto *list : {&inputs, &outputs})
    for (const Port &port : *list) {
      moert_descriptor_tensor t = {};
      t.name = block.string(port.name);
      t.dtype = port.dtype;
      t.rank = uint32_t(port.dims.size());
      for (size_t i = 0; i < port.dims.size(); ++i)
        t.dims[i] = block.string(port.dims[i]);
      tensors.push_back(t);
    }
  std::vector<moert_descriptor_kernel> slots;
  std::vector<moert_descriptor_variant> variants;
  for (const Kernel &k : kernels) {
    slots.push_back({block.string(k.spec), uint32_t(variants.size()), uint32_t(k.variants.size())});
    for (auto &[isa, symbol] : k.variants)
      variants.push_back({block.string(isa), isa == "avx512"   ? 3u
                                             : isa == "future" ? 1u << 31
                                                               : 1u});
  }
  std::vector<moert_descriptor_hook> layers;
  for (const Hook &hook : hooks)
    layers.push_back({block.string(hook.layer), hook.experts, hook.k});
  head.hooks = uint32_t(layers.size());
  head.hooks_offset = block.table(layers);
  head.inputs = uint32_t(inputs.size());
  head.outputs = uint32_t(outputs.size());
  head.kernels = uint32_t(slots.size());
  head.variants = uint32_t(variants.size());
  head.weights = uint32_t(weights.size());
  head.tensors_offset = block.table(tensors);
  head.kernels_offset = block.table(slots);
  head.variants_offset = block.table(variants);
  head.total_bytes = block.bytes.size();
  std::memcpy(block.bytes.data(), &head, sizeof head);
  head.crc = test_crc32(block.bytes.data(), block.bytes.size());
  std::memcpy(block.bytes.data(), &head, sizeof head);
  return block.bytes;
}

std::string TestModel::build(const std::string &name) const {
  std::string base = testFolder() + "/" + name, file = weightsFile();
  writeFile(base + ".moew", file);
  std::ostringstream c;
  c << "#include <moert/abi.h>\n"
    << code
    << "\n__attribute__((section(\".moert\"), aligned(8))) const unsigned char "
       "moert_descriptor[] = {";
  for (unsigned char byte : descriptor(file))
    c << int(byte) << ',';
  c << "};\nconst struct { moert_entry entry; const void *variants[8]; } moert_code = {moe_main, {";
  for (const Kernel &k : kernels)
    for (auto &[isa, symbol] : k.variants)
      c << "(const void *)" << symbol << ',';
  c << "0}};\n";
  writeFile(base + ".c", c.str());
  std::string command = std::string(MOEC_TEST_CC) + " -shared -fPIC -O1 -w -I" MOEC_TEST_INCLUDE +
                        " '" + base + ".c' -o '" + base + ".so'";
  if (std::system(command.c_str()))
    ADD_FAILURE() << "cannot compile " << base << ".c";
  return base + ".so";
}

TestModel addModel() {
  TestModel m;
  m.inputs = {{"x", 1, {"n", "2"}}};
  m.outputs = {{"y", 1, {"n", "2"}}};
  m.weights = {{1, 2, 3}, {10}};
  m.code = R"(
    void moe_main(moert_ctx *ctx, moert_buffer *args) {
      const struct moert_ctx_head *head = (void *)ctx;
      const float *x = args[0].data, *w0 = head->weights[0], *w1 = head->weights[1];
      int64_t n = args[0].dims[0] * 2;
      float *t = head->api->alloc(ctx, n * 4);
      float *y = head->api->alloc(ctx, n * 4);
      for (int64_t i = 0; i < n; ++i)
        t[i] = x[i] + w0[0];
      for (int64_t i = 0; i < n; ++i)
        y[i] = t[i] + w1[0];
      head->api->free(ctx, t);
      args[1].data = y;
      args[1].dims[0] = args[0].dims[0];
      args[1].dims[1] = 2;
    })";
  return m;
}

static DLTensor tensorOf(void *data, DLDataType type, std::vector<int64_t> &shape) {
  return {data, {kDLCPU, 0}, int32_t(shape.size()), type, shape.data(), nullptr, 0};
}
DLTensor tensorOf(float *data, std::vector<int64_t> &shape) {
  return tensorOf(data, {kDLFloat, 32, 1}, shape);
}
DLTensor tensorOf(int64_t *data, std::vector<int64_t> &shape) {
  return tensorOf(data, {kDLInt, 64, 1}, shape);
}
