// What a session changes in the logits of routers.
#include "Support.h"
#include "moert/moert.hpp"
#include <cmath>
#include <thread>

namespace {

/// y = the hooked x of layer "a" (4 experts, k = 2), then a row of zeros through the mask of "b"
/// (k = 1).
TestModel hookedModel() {
  TestModel m;
  m.inputs = {{"x", 1, {"n", "4"}}};
  m.outputs = {{"y", 1, {"m", "4"}}};
  m.hooks = {{"a", 4, 2}, {"b", 4, 1}};
  m.code = R"(
    void moe_main(moert_ctx *ctx, moert_buffer *args) {
      const moert_api *api = ((struct moert_ctx_head *)ctx)->api;
      int64_t n = args[0].dims[0];
      const float *x = args[0].data, zero[4] = {0};
      float *a = api->logit_hook(ctx, 0, n, 4, 0, x), *b = api->logit_hook(ctx, 1, 1, 4, 1, zero);
      float *y = api->alloc(ctx, (n + 1) * 16);
      for (int64_t i = 0; i < n * 4; ++i)
        y[i] = (a ? a : x)[i];
      for (int64_t i = 0; i < 4; ++i)
        y[n * 4 + i] = (b ? b : zero)[i];
      api->free(ctx, a);
      api->free(ctx, b);
      args[1].data = y;
      args[1].dims[0] = n + 1;
      args[1].dims[1] = 4;
    })";
  return m;
}

std::vector<float> run(moert::Session &session, std::vector<float> x = {1, 2, 3, 4}) {
  auto outputs = session.run({moert::TensorView(std::span(x), {int64_t(x.size()) / 4, 4})});
  auto y = outputs[0].as<float>();
  return {y.begin(), y.end()};
}

const std::vector<float> kPlain = {1, 2, 3, 4, 0, 0, 0, 0};

std::string refusal(const std::function<void()> &call) {
  try {
    call();
  } catch (const moert::Error &error) {
    EXPECT_EQ(error.status, MOERT_ERROR_USAGE);
    return error.what();
  }
  return "not refused";
}

} // namespace

TEST(Routing, SettingsComeAndGo) {
  moert::Model model(hookedModel().build("hooked"));
  ASSERT_EQ(model.info().hooks, 2u);
  EXPECT_STREQ(model.hook(0).layer, "a");
  EXPECT_EQ(model.hook(0).experts, 4u);
  EXPECT_EQ(model.hook(0).k, 2u);
  EXPECT_EQ(moert_model_hook(model.get(), 2), nullptr);
  moert::Session session(model, {.threads = 1}), other(model, {.threads = 1});
  EXPECT_EQ(run(session), kPlain);
  session.setRouting("a", {.scale = {1, 2, 3, 0}, .bias = {0.5, 0, 0, 7}, .keep = {1, 0, 1, 1}});
  EXPECT_EQ(run(session), (std::vector<float>{1.5, -INFINITY, 9, 7, 0, 0, 0, 0}));
  EXPECT_EQ(run(session, {NAN, NAN, INFINITY, 0})[1], -INFINITY);
  EXPECT_EQ(run(other), kPlain) << "settings are a session's";
  other.setRouting("b", {.bias = {1, 1, 1, 1}, .keep = {0, 0, 1, 0}});
  EXPECT_EQ(run(other), (std::vector<float>{1, 2, 3, 4, -INFINITY, -INFINITY, 0, -INFINITY}));
  session.setRouting("a", {.keep = {0, 0, 1, 1}}); // in place of the earlier ones
  session.setRouting("b", {.keep = {0, 1, 1, 1}});
  EXPECT_EQ(run(session), (std::vector<float>{-INFINITY, -INFINITY, 3, 4, -INFINITY, 0, 0, 0}));
  session.clearRouting("a");
  EXPECT_EQ(run(session), (std::vector<float>{1, 2, 3, 4, -INFINITY, 0, 0, 0}));
  session.clearRouting();
  EXPECT_EQ(run(session), kPlain);
}

TEST(Routing, WrongSettingsAreRefused) {
  moert::Model model(hookedModel().build("hooked"));
  moert::Session session(model);
  moert::Routing mask{.keep = {1, 1, 0, 0}};
  session.setRouting("a", mask);
  EXPECT_CONTAINS(refusal([&] { session.setRouting("c", mask); }),
                  "layer \"c\" has no routing hook; layers with one: \"a\", \"b\"");
  EXPECT_CONTAINS(refusal([&] { session.setRouting("a", {.keep = {1, 1, 1}}); }),
                  "layer \"a\": settings for 3 experts, its router has 4");
  EXPECT_CONTAINS(refusal([&] { session.setRouting("a", {.keep = {0, 0, 0, 1}}); }),
                  "layer \"a\": the mask keeps 1 experts, its router chooses 2");
  EXPECT_CONTAINS(refusal([&] { session.setRouting("a", {.scale = {1, 1, NAN, 1}}); }),
                  "layer \"a\": the scale or bias of expert 2 is not finite");
  EXPECT_CONTAINS(refusal([&] { session.setRouting("a", {.bias = {-INFINITY, 1, 1, 1}}); }),
                  "expert 0 is not finite");
  EXPECT_CONTAINS(refusal([&] { session.setRouting("a", {.scale = {1, 1}, .keep = {1, 1, 1}}); }),
                  "differ in length");
  EXPECT_CONTAINS(refusal([&] { session.clearRouting("c"); }), "layer \"c\"");
  moert_error error;
  EXPECT_EQ(moert_session_set_routing(session.get(), nullptr, nullptr, 4, &error),
            MOERT_ERROR_USAGE);
  EXPECT_EQ(moert_session_set_routing(session.get(), "a", nullptr, 4, &error), MOERT_ERROR_USAGE);
  EXPECT_EQ(moert_session_set_routing(nullptr, "a", nullptr, 4, &error), MOERT_ERROR_USAGE);
  EXPECT_EQ(run(session)[0], 1) << "what was refused changes nothing";
  EXPECT_EQ(run(session)[2], -INFINITY);

  moert::Model plain(addModel().build("add"));
  moert::Session without(plain);
  EXPECT_CONTAINS(refusal([&] { without.setRouting("a", mask); }),
                  "the model was compiled without routing hooks");
}

TEST(Routing, SessionsAtOnceHaveTheirOwn) {
  moert::Model model(hookedModel().build("hooked"));
  std::vector<std::thread> threads;
  for (int which = 0; which < 4; ++which)
    threads.emplace_back([&model, which] {
      moert::Session session(model, {.threads = 1});
      for (int i = 0; i < 200; ++i) {
        std::vector<uint8_t> keep(4, 1);
        keep[size_t(which + i) % 4] = 0;
        session.setRouting("a", {.keep = keep});
        std::vector<float> y = run(session);
        for (size_t e = 0; e < 4; ++e)
          ASSERT_EQ(y[e], keep[e] ? float(e + 1) : -INFINITY);
      }
    });
  for (std::thread &t : threads)
    t.join();
}

TEST(Routing, ADescriptorWithImpossibleHooksIsDamaged) {
  for (TestModel::Hook bad : {TestModel::Hook{"a", 4, 5}, TestModel::Hook{"a", 4, 0}}) {
    TestModel model = hookedModel();
    model.hooks[0] = bad;
    moert_error error;
    EXPECT_EQ(test_check_library(model.build("bad").c_str(), &error), MOERT_ERROR_INPUT);
    EXPECT_CONTAINS(error.message, "descriptor is damaged");
  }
}
