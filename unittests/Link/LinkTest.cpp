// Whole links: the library runs, and failures leave nothing behind.
#include "Fixture.h"
#include "moert/moert.h"

#include "llvm/Object/ELFObjectFile.h"
#include <csignal>

namespace {

struct Link : LinkTest {
  void SetUp() override {
    host = compile("host", R"(
      float expf(float);
      void moe_main(moert_ctx *ctx, moert_buffer *args) {
        struct moert_ctx_head *head = (void *)ctx;
        const float *w = head->weights[0], *x = args[0].data;
        float *y = head->api->alloc(ctx, args[0].dims[0] * 4);
        for (int64_t i = 0; i < args[0].dims[0]; ++i)
          y[i] = expf(x[i]) + w[1] + head->kernels[0]();
        args[1].data = y;
        args[1].dims[0] = args[0].dims[0];
      })");
    avx2 = compile("avx2", "int kernel_avx2(void) { return 1000; }");
    avx512 = compile("avx512", "int kernel_avx512(void) { return 1000; }");
    setWeights(64, {{"w", "8x8xf32"}});
    program.weights = {{"w", "plain", "f32", {8, 8}, ""}};
    program.kernels = {"gemm weight=f32"};
    program.inputs = {{"x", "f32", {"n"}}};
    program.outputs = {{"y", "f32", {"n"}}};
    kernels = {{0, "avx2", "kernel_avx2", bytes(avx2)},
               {0, "avx512", "kernel_avx512", bytes(avx512)}};
  }
  static llvm::ArrayRef<char> bytes(const std::string &s) { return {s.data(), s.size()}; }

  // An error that holds `why`, while old outputs stay and no other file comes.
  void refused(const std::string &why) {
    write(path("model.so"), "old library");
    write(path("model.moew"), "old weights");
    auto before = files();
    std::string text = link();
    EXPECT_NE(text.find(why), std::string::npos) << "error: " << text;
    EXPECT_EQ(files(), before);
    EXPECT_EQ(read(path("model.so")), "old library");
    EXPECT_EQ(read(path("model.moew")), "old weights");
  }

  std::string avx2, avx512;
};

} // namespace

TEST_F(Link, MakesALibraryThatRuns) {
  ASSERT_EQ(link(), "");
  EXPECT_EQ(files(), (std::set<std::string>{"model.so", "model.moew", "w.bin"}));
  EXPECT_EQ(report.weightsPath, path("model.moew"));
  EXPECT_EQ(report.libraryBytes, fs::file_size(path("model.so")));
  EXPECT_EQ(report.weightBytes, fs::file_size(path("model.moew")));
  EXPECT_EQ(packed, 256u);

  moert_model *model;
  moert_session *session;
  moert_error error;
  moert_model_options options = {.verify_weights = 1};
  ASSERT_EQ(moert_model_open(path("model.so").c_str(), &options, &model, &error), MOERT_OK)
      << error.message;
  moert_model_info info;
  moert_model_get_info(model, &info);
  EXPECT_STREQ(info.compiler_version, "moec test");
  EXPECT_STREQ(moert_model_input(model, 0)->dim_names[0], "n");
  ASSERT_EQ(moert_session_create(model, nullptr, &session, &error), MOERT_OK) << error.message;
  float x[3] = {0, 0, 0};
  int64_t shape[] = {3};
  DLTensor in = {x, {kDLCPU, 0}, 1, {kDLFloat, 32, 1}, shape, nullptr, 0};
  DLManagedTensor *out;
  ASSERT_EQ(moert_session_run(session, &in, 1, &out, 1, &error), MOERT_OK) << error.message;
  EXPECT_EQ(static_cast<float *>(out->dl_tensor.data)[2], 1 + value(1) + 1000);
  out->deleter(out);
  moert_session_release(session);
  moert_model_release(model);
}

TEST_F(Link, ReplacesOldOutputAndIsDeterministic) {
  write(path("model.so"), "old");
  write(path("model.moew"), "old");
  ASSERT_EQ(link(), "");
  std::string library = read(path("model.so")), weights = read(path("model.moew"));
  ASSERT_EQ(link(), "");
  EXPECT_EQ(read(path("model.so")), library);
  EXPECT_EQ(read(path("model.moew")), weights);
  EXPECT_EQ(files().size(), 3u);
}

TEST_F(Link, LibraryExportsItsTablesOnly) {
  ASSERT_EQ(link(), "");
  auto library = llvm::object::ObjectFile::createObjectFile(path("model.so"));
  ASSERT_TRUE(bool(library));
  std::set<std::string> symbols;
  for (auto symbol : llvm::cast<llvm::object::ELFObjectFileBase>(library->getBinary())
                         ->getDynamicSymbolIterators())
    if (!(llvm::cantFail(symbol.getFlags()) & llvm::object::SymbolRef::SF_Undefined))
      symbols.insert(llvm::cantFail(symbol.getName()).str());
  EXPECT_EQ(symbols, (std::set<std::string>{"moert_code", "moert_descriptor"}));
}

// Ctrl-C while weights are packed.
// Background jobs of a shell start with it ignored; before anything handles it.
[[maybe_unused]] const auto heeded = signal(SIGINT, SIG_DFL);

TEST_F(Link, InterruptionsLeaveNothingBehind) {
  write(path("model.so"), "old library");
  write(path("model.moew"), "old weights");
  auto before = files();
  auto interrupted = [&] {
    auto result =
        moec::link::linkLibrary(input(), path("model.so"), [](uint64_t) { raise(SIGINT); });
    llvm::consumeError(result.takeError());
  };
  EXPECT_EXIT(interrupted(), testing::KilledBySignal(SIGINT), "");
  EXPECT_EQ(files(), before);
  EXPECT_EQ(read(path("model.so")), "old library");
  EXPECT_EQ(read(path("model.moew")), "old weights");
}

TEST_F(Link, RefusesFaultyPrograms) {
  program.weights[0].layout = "panel99";
  refused("internal: weight @w (panel99): unknown layout");
  program.weights[0].layout = "experts_gate_up16";
  refused("internal: weight @w (experts_gate_up16): one weight where two are joined");
  program.weights[0] = {"w", "plain", "f32", {8, 9}, ""};
  refused("the shape of @w is another one than the program's");
  program.weights[0] = {"w", "plain", "i64", {8, 8}, ""};
  refused("internal: weight @w (plain): cannot be stored as i64");
  program.weights[0] = {"w", "plain", "f7", {8, 8}, ""};
  refused("unknown element type f7");
  program.weights[0] = {"nothing", "plain", "f32", {8, 8}, ""};
  refused("nothing");
  program.weights[0] = {"w", "plain", "f32", {8, 8}, ""};
  program.kernels.push_back("route");
  refused("internal: kernel \"route\" has no object");
  program.kernels.pop_back();
  kernels[1].isa = "avx1024";
  refused("is for the unknown instruction set avx1024");
  kernels[1].isa = "avx512";
  program.inputs[0].dtype = "complex<f32>";
  refused("\"x\" has element type complex<f32>");
  program.inputs[0] = {"x", "f32", std::vector<std::string>(9, "1")};
  refused("\"x\": unsupported: rank 9 (at most 8)");
}

TEST_F(Link, RefusesUndefinedSymbols) {
  avx2 = compile("bad", "void *malloc(long); int halide_error(int);"
                        "int kernel_avx2(void) { return halide_error((long)malloc(9)); }");
  kernels[0].object = bytes(avx2);
  refused("internal: generated code refers to undefined symbols: ");
}

TEST_F(Link, RefusesMissingAndDoubleSymbols) {
  kernels[0].symbol = "no_such_kernel";
  refused("internal: generated code refers to undefined symbols: no_such_kernel");
  kernels[0].symbol = "kernel_avx2";
  avx512 =
      compile("twice", "int kernel_avx2(void) { return 2; } int kernel_avx512(void) { return 1; }");
  kernels[1].object = bytes(avx512);
  refused("internal: lld: ");
}

TEST_F(Link, RefusesDamagedObjects) {
  host.resize(host.size() / 2);
  refused("internal: object 1 ");
  host = "not an object";
  refused("internal: object 1 is damaged");
}

// Weight files are data from outside.
TEST_F(Link, ReportsBrokenWeightFiles) {
  fs::resize_file(path("w.bin"), 100);
  refused("w.bin");
  fs::remove(path("w.bin"));
  refused("w.bin");
}

TEST_F(Link, ReportsOutputsThatCannotBeWritten) {
  std::string text = link("missing/model.so");
  EXPECT_NE(text.find("missing/model.moew: No such file"), std::string::npos) << text;
  fs::create_directory(path("model.so"));
  text = link();
  EXPECT_NE(text.find("model.so: Is a directory"), std::string::npos) << text;
  fs::remove(path("model.so"));
  EXPECT_EQ(files(), (std::set<std::string>{"w.bin"}));
  text = link("model.moew");
  EXPECT_NE(text.find("must not end in .moew"), std::string::npos) << text;
}

// After a failure in one process lld must still work.
TEST_F(Link, WorksAfterAFailure) {
  std::string good = avx512;
  avx512 =
      compile("twice", "int kernel_avx2(void) { return 2; } int kernel_avx512(void) { return 1; }");
  kernels[1].object = bytes(avx512);
  EXPECT_NE(link(), "");
  avx512 = good;
  kernels[1].object = bytes(avx512);
  EXPECT_EQ(link(), "");
}
