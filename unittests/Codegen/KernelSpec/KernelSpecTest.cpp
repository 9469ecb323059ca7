#include "moec/Codegen/KernelSpec/KernelSpec.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/FileSystem.h"
#include <gtest/gtest.h>
#include <limits>

using namespace moec;

namespace {

std::string messageOf(const char *text) {
  auto spec = parseKernelSpec(text);
  return spec ? "" : llvm::toString(spec.takeError());
}

TEST(KernelSpec, TextReadsBack) {
  std::vector<KernelSpec> specs = {
      gemmSpec(WeightType::BF16),
      bgemmSpec(),
      attentionSpec(),
      expertsUpSpec(WeightType::F16, true, Activation::Silu),
      expertsUpSpec(WeightType::F32, true, Activation::Swish, 1.702f, 7.0f, 1.0f),
      expertsUpSpec(WeightType::F32, false, Activation::GeluTanh, 1.0f, 0.1f),
      routeSpec(RouterScore::Sigmoid, RouterRenorm::Sum, 1e-20f, 6.1035156e-05f, 2.5f),
      routeSpec(RouterScore::Identity, RouterRenorm::Softmax)};
  for (const KernelSpec &spec : specs) {
    auto back = parseKernelSpec(spec.text());
    ASSERT_TRUE(bool(back)) << llvm::toString(back.takeError());
    EXPECT_TRUE(*back == spec) << spec.text();
    EXPECT_EQ(back->text(), spec.text());
    EXPECT_EQ(spec.hash().size(), 16u);
    EXPECT_EQ(spec.text().find('\n'), std::string::npos);
    for (const KernelSpec &other : specs)
      EXPECT_EQ(spec == other, spec.hash() == other.hash());
  }
}

TEST(KernelSpec, CanonicalWhateverTheOrder) {
  auto a = parseKernelSpec("experts_up  up_offset=0 activation=silu gated=1 weight=f16");
  ASSERT_TRUE(bool(a));
  EXPECT_EQ(a->text(), "experts_up weight=f16 quant=none gated=1 activation=silu alpha=1 limit=none "
                       "up_offset=0");
}

TEST(KernelSpec, FieldsThatDoNotMatterDoNotDistinguish) {
  EXPECT_EQ(expertsUpSpec(WeightType::F16, false, Activation::Relu, 3.0f, std::nullopt, 2.0f).text(),
            expertsUpSpec(WeightType::F16, false, Activation::Relu).text());
  EXPECT_EQ(routeSpec(RouterScore::Softmax, RouterRenorm::None, 0.5f, 0.5f).text(),
            routeSpec(RouterScore::Softmax, RouterRenorm::None).text());
}

TEST(KernelSpec, Layouts) {
  EXPECT_EQ(gemmSpec(WeightType::F32).layout(), "panel16");
  EXPECT_EQ(expertsUpSpec(WeightType::F32, true, Activation::Silu).layout(), "experts_gate_up16");
  EXPECT_EQ(expertsUpSpec(WeightType::F32, false, Activation::Silu).layout(), "experts_panel16_nk");
  EXPECT_EQ(bgemmSpec().layout(), "");
}

TEST(KernelSpec, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(messageOf(""), "kernel spec '': empty");
  EXPECT_EQ(messageOf("conv"), "kernel spec 'conv': unsupported operation 'conv'");
  EXPECT_EQ(messageOf("gemm weight=f8"), "kernel spec 'gemm weight=f8': unsupported value 'f8' of "
                                         "'weight'");
  EXPECT_EQ(messageOf("gemm gated=1"), "kernel spec 'gemm gated=1': operation gemm has no field "
                                       "'gated'");
  EXPECT_EQ(messageOf("gemm weight=f16 weight=f16"),
            "kernel spec 'gemm weight=f16 weight=f16': 'weight' is given twice");
  EXPECT_NE(messageOf("route scale=inf"), "");
  EXPECT_NE(messageOf("route scale=1x"), "");
  EXPECT_NE(messageOf("experts_up gated=0 up_offset=1"), "");
  EXPECT_NE(messageOf("experts_up activation=silu alpha=2"), "");
  EXPECT_NE(messageOf("experts_up limit=-1"), "");
  EXPECT_NE(messageOf("route renorm=none epsilon=1"), "");
  EXPECT_FALSE(parseActivation("softsign"));
  EXPECT_FALSE(parseWeightType("f64"));
}

TEST(KernelCache, KeepsEntriesApart) {
  llvm::SmallString<128> folder;
  ASSERT_FALSE(llvm::sys::fs::createUniqueDirectory("moec-cache", folder));
  auto remove = llvm::scope_exit([&] { llvm::sys::fs::remove_directories(folder); });
  KernelCache cache(folder);
  KernelSpec spec = bgemmSpec();
  EXPECT_FALSE(cache.load(spec, "avx2", "1"));
  cache.store(spec, "avx2", "1", std::string("a\0b\nc", 5));
  EXPECT_EQ(cache.load(spec, "avx2", "1"), std::string("a\0b\nc", 5));
  EXPECT_FALSE(cache.load(spec, "avx512", "1"));
  EXPECT_FALSE(cache.load(spec, "avx2", "2"));
  EXPECT_FALSE(cache.load(attentionSpec(), "avx2", "1"));
}

TEST(KernelCache, OffAndUnwritableAreMisses) {
  KernelCache off("-");
  off.store(bgemmSpec(), "avx2", "1", "x");
  EXPECT_FALSE(off.load(bgemmSpec(), "avx2", "1"));
  KernelCache unwritable("/proc/nowhere");
  unwritable.store(bgemmSpec(), "avx2", "1", "x");
  EXPECT_FALSE(unwritable.load(bgemmSpec(), "avx2", "1"));
}

} // namespace
