// The C++ wrapper.
#include "Support.h"
#include "moert/moert.hpp"
#include <gtest/gtest.h>

TEST(Wrapper, RunsAModel) {
  moert::Model model(addModel().build("add"));
  EXPECT_STREQ(model.input(0).name, "x");
  EXPECT_THROW(model.input(1), moert::Error);
  moert::Session session(model, {.threads = 2});
  EXPECT_EQ(session.threads(), 2);
  std::vector<float> x{1, 2, 3, 4};
  auto outputs = session.run({moert::TensorView(std::span(x), {2, 2})});
  ASSERT_EQ(outputs.size(), 1u);
  EXPECT_EQ(outputs[0].shape()[1], 2);
  EXPECT_EQ(outputs[0].as<float>()[3], 15);
  EXPECT_THROW(outputs[0].as<int64_t>(), moert::Error);
  auto again = session.run({outputs[0].view()}); // an output as an input
  EXPECT_EQ(again[0].as<float>()[0], 23);
  EXPECT_EQ(session.counters().runs, 2u);
  DLManagedTensor *handed = again[0].release();
  handed->deleter(handed);
}

TEST(Wrapper, Throws) {
  try {
    moert::Model model("/nowhere/model.so");
    FAIL();
  } catch (const moert::Error &error) {
    EXPECT_EQ(error.status, MOERT_ERROR_INPUT);
    EXPECT_CONTAINS(error.what(), "/nowhere/model.so: No such file");
  }
  moert::Model model(addModel().build("add"));
  moert::Session session(model);
  std::vector<int64_t> x{1, 2};
  EXPECT_THROW(session.run({moert::TensorView(std::span(x), {1, 2})}), moert::Error);
  EXPECT_THROW(moert::TensorView(std::span(x), {3}), moert::Error);
}
