// The tensor operators against naive references.
#include "Support.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <numeric>
#include <random>

namespace {

using Shape = std::vector<int64_t>;
enum Type { F32 = 1, U8 = 2, I8 = 3, I32 = 6, I64 = 7, Bool = 9, F16 = 10, F64 = 11, BF16 = 16 };

int64_t count(const Shape &shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t(1), std::multiplies<>());
}

template <typename T>
moert_view view(std::vector<T> &data, const Shape &shape, int type) {
  return {data.data(), shape.data(), int32_t(shape.size()), type};
}

template <typename T>
std::vector<T> randomValues(int64_t n, int low, int high, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::vector<T> values(static_cast<size_t>(n));
  for (T &v : values)
    v = T(std::uniform_int_distribution<int>(low, high)(random));
  return values;
}

// Row-major position of a flat index.
Shape position(int64_t flat, const Shape &shape) {
  Shape at(shape.size());
  for (size_t i = shape.size(); i-- > 0; flat /= shape[i])
    at[i] = flat % shape[i];
  return at;
}
int64_t flatten(const Shape &at, const Shape &shape) {
  int64_t flat = 0;
  for (size_t i = 0; i < shape.size(); ++i)
    flat = flat * shape[i] + at[i];
  return flat;
}

void expectFailure(const std::function<void(moert_ctx *)> &body, const char *message) {
  TestContext context;
  EXPECT_EQ(context.run(body), MOERT_ERROR_INPUT);
  EXPECT_STREQ(context.error.message, message);
}

} // namespace

TEST(Gather, AlongEachAxis) {
  Shape shape{3, 4, 5}, indexShape{2, 2};
  auto data = randomValues<float>(60, -9, 9);
  std::vector<int64_t> indices{0, -1, 2, 1};
  for (int axis = -3; axis < 3; ++axis) {
    int at = axis < 0 ? axis + 3 : axis;
    Shape outShape(shape.begin(), shape.begin() + at);
    outShape.insert(outShape.end(), {2, 2});
    outShape.insert(outShape.end(), shape.begin() + at + 1, shape.end());
    std::vector<float> out(static_cast<size_t>(count(outShape)));
    moert_view d = view(data, shape, F32), i = view(indices, indexShape, I64);
    TestContext context;
    ASSERT_EQ(context.run([&](moert_ctx *c) { moert_op_gather(c, &d, &i, axis, out.data(), "g"); }),
              MOERT_OK);
    for (int64_t n = 0; n < count(outShape); ++n) {
      Shape o = position(n, outShape), from(o.begin(), o.begin() + at);
      int64_t index = indices[size_t(o[size_t(at)] * 2 + o[size_t(at) + 1])];
      from.push_back(index < 0 ? index + shape[size_t(at)] : index);
      from.insert(from.end(), o.begin() + at + 2, o.end());
      ASSERT_EQ(out[size_t(n)], data[size_t(flatten(from, shape))]);
    }
  }
}

TEST(Gather, ManyRowsOnManyThreads) {
  Shape shape{100, 256}, indexShape{3000};
  auto data = randomValues<float>(25600, -100, 100);
  auto indices = randomValues<int32_t>(3000, -100, 99);
  std::vector<float> out(3000 * 256);
  moert_view d = view(data, shape, F32), i = view(indices, indexShape, I32);
  TestContext context(3);
  ASSERT_EQ(context.run([&](moert_ctx *c) { moert_op_gather(c, &d, &i, 0, out.data(), "g"); }),
            MOERT_OK);
  for (size_t r = 0; r < 3000; ++r)
    ASSERT_FALSE(std::memcmp(&out[r * 256], &data[size_t((indices[r] + 100) % 100) * 256], 1024));
  indices[2999] = 100;
  EXPECT_NE(context.run([&](moert_ctx *c) { moert_op_gather(c, &d, &i, 0, out.data(), "g"); }),
            MOERT_OK);
  EXPECT_STREQ(context.error.message, "node \"g\" (Gather): index 100 is out of range [-100, 100)");
}

TEST(Gather, SmallElementsAndScalars) {
  std::vector<uint8_t> data{5, 6, 7};
  std::vector<int64_t> index{-2};
  Shape shape{3}, scalar;
  moert_view d = view(data, shape, Bool), i = view(index, scalar, I64);
  uint8_t out = 0;
  TestContext context;
  context.run([&](moert_ctx *c) { moert_op_gather(c, &d, &i, 0, &out, "g"); });
  EXPECT_EQ(out, 6);
}

TEST(GatherND, BatchDimensions) {
  Shape shape{2, 3, 4, 2}, indexShape{2, 5, 2};
  auto data = randomValues<int64_t>(48, 0, 1000);
  std::vector<int64_t> indices(20);
  for (size_t i = 0; i < 20; i += 2)
    indices[i] = int64_t(i) % 3 - (i % 4 ? 3 : 0), indices[i + 1] = int64_t(i * 7) % 4;
  std::vector<int64_t> out(2 * 5 * 2);
  moert_view d = view(data, shape, I64), i = view(indices, indexShape, I64);
  TestContext context;
  ASSERT_EQ(context.run([&](moert_ctx *c) { moert_op_gather_nd(c, &d, &i, 1, out.data(), "g"); }),
            MOERT_OK)
      << context.error.message;
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t r = 0; r < 5; ++r)
      for (int64_t k = 0; k < 2; ++k) {
        int64_t row = indices[size_t((b * 5 + r) * 2)],
                column = indices[size_t((b * 5 + r) * 2 + 1)];
        ASSERT_EQ(out[size_t((b * 5 + r) * 2 + k)],
                  data[size_t(flatten({b, row < 0 ? row + 3 : row, column, k}, shape))]);
      }
  indices[0] = 3;
  expectFailure([&](moert_ctx *c) { moert_op_gather_nd(c, &d, &i, 1, out.data(), "g"); },
                "node \"g\" (GatherND): index 3 is out of range [-3, 3)");
  indexShape = {2, 2, 5};
  i = view(indices, indexShape, I64);
  expectFailure([&](moert_ctx *c) { moert_op_gather_nd(c, &d, &i, 1, out.data(), "g"); },
                "node \"g\" (GatherND): index tuples of 5 do not fit rank 4");
  indexShape = {1, 10, 2};
  i = view(indices, indexShape, I64);
  expectFailure([&](moert_ctx *c) { moert_op_gather_nd(c, &d, &i, 1, out.data(), "g"); },
                "node \"g\" (GatherND): batch dimension 0 is 2 in data, 1 in indices");
}

TEST(GatherElements, AlongEachAxis) {
  Shape shape{3, 4, 5}, indexShape{2, 4, 3};
  auto data = randomValues<float>(60, -99, 99);
  for (int axis = 0; axis < 3; ++axis) {
    auto indices =
        randomValues<int64_t>(24, -int(shape[size_t(axis)]), int(shape[size_t(axis)]) - 1);
    std::vector<float> out(24);
    moert_view d = view(data, shape, F32), i = view(indices, indexShape, I64);
    TestContext context;
    ASSERT_EQ(context.run([&](moert_ctx *c) {
      moert_op_gather_elements(c, &d, &i, axis, out.data(), "g");
    }),
              MOERT_OK);
    for (int64_t n = 0; n < 24; ++n) {
      Shape at = position(n, indexShape);
      int64_t index = indices[size_t(n)], size = shape[size_t(axis)];
      at[size_t(axis)] = index < 0 ? index + size : index;
      ASSERT_EQ(out[size_t(n)], data[size_t(flatten(at, shape))]);
    }
  }
  std::vector<int64_t> indices(24, 0);
  indexShape = {2, 2, 6};
  moert_view d = view(data, shape, F32), i = view(indices, indexShape, I64);
  std::vector<float> out(24);
  expectFailure([&](moert_ctx *c) { moert_op_gather_elements(c, &d, &i, 0, out.data(), "g"); },
                "node \"g\" (GatherElements): dimension 2 of indices is 6, of data 5");
}

// Values that all types hold exactly, joined in order.
template <typename T>
double fromBits(T x, int type) {
  if (type == F16)
    return test_f16_to_float(uint16_t(x));
  if (type == BF16) {
    uint32_t bits = uint32_t(x) << 16;
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
  }
  return double(x);
}
template <typename T>
T toBits(double x, int type) {
  if (type == F16)
    return T(test_float_to_f16(float(x)));
  if (type == BF16)
    return T(test_float_to_bf16(float(x)));
  return T(x);
}

template <typename T>
void scatterElements(int type) {
  Shape shape{3, 4}, indexShape{3, 6};
  for (int reduction = 0; reduction < 5; ++reduction) {
    if (type == Bool && reduction)
      continue;
    std::vector<T> data(12), updates(18);
    for (size_t i = 0; i < 12; ++i)
      data[i] = toBits<T>(double(i % 3), type);
    for (size_t i = 0; i < 18; ++i)
      updates[i] = toBits<T>(double(i % 4), type);
    auto indices = randomValues<int64_t>(18, -4, 3, unsigned(reduction));
    std::vector<T> want = data;
    for (int64_t n = 0; n < 18; ++n) {
      int64_t at = n / 6 * 4 + (indices[size_t(n)] + 4) % 4;
      double a = fromBits(want[size_t(at)], type), b = fromBits(updates[size_t(n)], type);
      double joined[] = {b, a + b, a * b, std::max(a, b), std::min(a, b)};
      want[size_t(at)] = toBits<T>(joined[reduction], type);
    }
    moert_view o = view(data, shape, type), i = view(indices, indexShape, I64),
               u = view(updates, indexShape, type);
    TestContext context;
    ASSERT_EQ(context.run([&](moert_ctx *c) {
      moert_op_scatter_elements(c, &o, &i, &u, -1, reduction, "s");
    }),
              MOERT_OK)
        << context.error.message;
    EXPECT_EQ(data, want) << "type " << type << " reduction " << reduction;
  }
}

TEST(ScatterElements, EveryTypeAndReduction) {
  scatterElements<float>(F32);
  scatterElements<double>(F64);
  scatterElements<uint16_t>(F16);
  scatterElements<uint16_t>(BF16);
  scatterElements<int8_t>(I8);
  scatterElements<uint8_t>(U8);
  scatterElements<int32_t>(I32);
  scatterElements<int64_t>(I64);
  scatterElements<uint8_t>(Bool);
}

TEST(ScatterElements, Errors) {
  Shape shape{4}, indexShape{1}, two{2};
  std::vector<float> data(4), updates{1, 2};
  std::vector<int64_t> index{-5};
  moert_view o = view(data, shape, F32), i = view(index, indexShape, I64),
             u = view(updates, indexShape, F32);
  expectFailure([&](moert_ctx *c) { moert_op_scatter_elements(c, &o, &i, &u, 0, 0, "a/b"); },
                "node \"a/b\" (ScatterElements): index -5 is out of range [-4, 4)");
  u = view(updates, two, F32);
  expectFailure([&](moert_ctx *c) { moert_op_scatter_elements(c, &o, &i, &u, 0, 0, "a/b"); },
                "node \"a/b\" (ScatterElements): dimension 0 is 4 in data, 1 in indices, 2 in "
                "updates");
  o.dtype = Bool;
  TestContext context;
  EXPECT_EQ(context.run([&](moert_ctx *c) {
    moert_op_scatter_elements(c, &o, &i, &u, 0, MOERT_SCATTER_ADD, "s");
  }),
            MOERT_ERROR_UNSUPPORTED);
}

TEST(ScatterElements, NanWinsMaxAndMin) {
  Shape shape{2};
  for (int reduction : {int(MOERT_SCATTER_MAX), int(MOERT_SCATTER_MIN)}) {
    std::vector<float> data{NAN, 1}, updates{2, NAN};
    std::vector<int64_t> index{0, 1};
    moert_view o = view(data, shape, F32), i = view(index, shape, I64),
               u = view(updates, shape, F32);
    TestContext context;
    context.run([&](moert_ctx *c) { moert_op_scatter_elements(c, &o, &i, &u, 0, reduction, "s"); });
    EXPECT_TRUE(std::isnan(data[0]) && std::isnan(data[1]));
  }
}

TEST(ScatterND, SlicesAndReductions) {
  Shape shape{4, 3}, indexShape{3, 1}, updateShape{3, 3};
  std::vector<int64_t> index{1, -1, 1};
  std::vector<float> updates{1, 2, 3, 4, 5, 6, 7, 8, 9};
  std::vector<float> data(12, 1);
  moert_view o = view(data, shape, F32), i = view(index, indexShape, I64),
             u = view(updates, updateShape, F32);
  TestContext context;
  context.run([&](moert_ctx *c) { moert_op_scatter_nd(c, &o, &i, &u, MOERT_SCATTER_ADD, "s"); });
  EXPECT_EQ(data, (std::vector<float>{1, 1, 1, 9, 11, 13, 1, 1, 1, 5, 6, 7}));
  context.run([&](moert_ctx *c) { moert_op_scatter_nd(c, &o, &i, &u, MOERT_SCATTER_SET, "s"); });
  EXPECT_EQ(data, (std::vector<float>{1, 1, 1, 7, 8, 9, 1, 1, 1, 4, 5, 6}));
  index[2] = 4;
  expectFailure([&](moert_ctx *c) { moert_op_scatter_nd(c, &o, &i, &u, 0, "s"); },
                "node \"s\" (ScatterND): index 4 is out of range [-4, 4)");
  updateShape = {2, 3};
  u = view(updates, updateShape, F32);
  expectFailure([&](moert_ctx *c) { moert_op_scatter_nd(c, &o, &i, &u, 0, "s"); },
                "node \"s\" (ScatterND): 6 updates, but the indices need 9");
  indexShape = {1, 3};
  i = view(index, indexShape, I64);
  expectFailure([&](moert_ctx *c) { moert_op_scatter_nd(c, &o, &i, &u, 0, "s"); },
                "node \"s\" (ScatterND): index tuples of 3 do not fit rank 2");
}

// Against a full sort: few distinct values, so that ties decide.
template <typename T>
void topk(int type, int low, int high) {
  Shape shape{7, 50, 3};
  std::vector<T> x(1050);
  auto values = randomValues<int32_t>(1050, low, high, unsigned(type));
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = toBits<T>(values[i], type);
  for (int largest = 0; largest < 2; ++largest)
    for (int64_t k : {0, 1, 2, 7, 49, 50}) {
      std::vector<T> top(static_cast<size_t>(21 * k));
      std::vector<int64_t> indices(static_cast<size_t>(21 * k));
      moert_view v = view(x, shape, type);
      TestContext context(2);
      ASSERT_EQ(context.run([&](moert_ctx *c) {
        moert_op_topk(c, &v, 1, k, largest, top.data(), indices.data(), "t");
      }),
                MOERT_OK);
      for (int64_t row = 0; row < 21; ++row) {
        auto at = [&](int64_t i) { return size_t((row / 3 * 50 + i) * 3 + row % 3); };
        std::vector<int64_t> order(50);
        std::iota(order.begin(), order.end(), 0);
        std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
          double p = fromBits(x[at(a)], type), q = fromBits(x[at(b)], type);
          return p != q ? (largest ? p > q : p < q) : a < b;
        });
        for (int64_t i = 0; i < k; ++i) {
          size_t out = size_t((row / 3 * k + i) * 3 + row % 3);
          ASSERT_EQ(indices[out], order[size_t(i)]);
          ASSERT_EQ(top[out], x[at(order[size_t(i)])]);
        }
      }
    }
}

TEST(TopK, TiesGoToTheLowerIndex) {
  topk<float>(F32, -5, 5);
  topk<double>(F64, -5, 5);
  topk<uint16_t>(F16, -5, 5);
  topk<uint16_t>(BF16, -5, 5);
  topk<int8_t>(I8, -128, 127);
  topk<uint8_t>(U8, 0, 255);
  topk<int32_t>(I32, -5, 5);
  topk<int64_t>(I64, -1000000, 1000000);
}

TEST(TopK, SpecialFloats) {
  std::vector<float> x{1, NAN, -0.0f, 0.0f, -INFINITY, INFINITY, NAN}, top(7);
  std::vector<int64_t> indices(7);
  Shape shape{7};
  moert_view v = view(x, shape, F32);
  TestContext context;
  context.run(
      [&](moert_ctx *c) { moert_op_topk(c, &v, 0, 7, 1, top.data(), indices.data(), "t"); });
  EXPECT_EQ(indices, (std::vector<int64_t>{1, 6, 5, 0, 2, 3, 4}));
  context.run(
      [&](moert_ctx *c) { moert_op_topk(c, &v, 0, 7, 0, top.data(), indices.data(), "t"); });
  EXPECT_EQ(indices, (std::vector<int64_t>{4, 2, 3, 0, 5, 1, 6}));
  expectFailure(
      [&](moert_ctx *c) {
        moert_op_topk(c, &v, 0, 9, 1, top.data(), indices.data(), "layers.3/TopK");
      },
      "node \"layers.3/TopK\" (TopK): k = 9 is not in [0, 7]");
}

TEST(NonZero, PositionsByDimension) {
  std::vector<float> x{0, 1, -0.0f, 2, NAN, 0};
  Shape shape{2, 3}, scalar;
  moert_view v = view(x, shape, F32);
  TestContext context;
  context.run([&](moert_ctx *c) {
    void *out;
    ASSERT_EQ(moert_op_nonzero(c, &v, &out), 3);
    auto *at = static_cast<int64_t *>(out);
    EXPECT_EQ(std::vector<int64_t>(at, at + 6), (std::vector<int64_t>{0, 1, 1, 1, 0, 1}));
    v = view(x, scalar, F32);
    EXPECT_EQ(moert_op_nonzero(c, &v, &out), 0);
  });
}

TEST(Operators, RefuseRanksAbove8) {
  std::vector<float> x(1);
  Shape shape(9, 1);
  moert_view v = view(x, shape, F32);
  std::vector<int64_t> index(1);
  moert_view i = view(index, shape, I64);
  std::vector<std::function<void(moert_ctx *)>> calls = {
      [&](moert_ctx *c) {
        void *out;
        moert_op_nonzero(c, &v, &out);
      },
      [&](moert_ctx *c) { moert_op_gather_nd(c, &v, &i, 0, x.data(), "n"); },
      [&](moert_ctx *c) { moert_op_gather_elements(c, &v, &i, 0, x.data(), "n"); },
      [&](moert_ctx *c) { moert_op_scatter_elements(c, &v, &i, &v, 0, 0, "n"); }};
  for (auto &call : calls) {
    TestContext context;
    EXPECT_EQ(context.run(call), MOERT_ERROR_UNSUPPORTED);
    EXPECT_CONTAINS(context.error.message, "of rank 9 (at most 8)");
  }
}

TEST(CumSum, ExclusiveAndReverse) {
  std::vector<int32_t> x{1, 2, 3, 4, 5, 6}, out(6);
  Shape shape{2, 3};
  moert_view v = view(x, shape, I32);
  TestContext context;
  auto run = [&](int axis, int exclusive, int reverse) {
    context.run(
        [&](moert_ctx *c) { moert_op_cumsum(c, &v, axis, exclusive, reverse, out.data()); });
    return out;
  };
  EXPECT_EQ(run(1, 0, 0), (std::vector<int32_t>{1, 3, 6, 4, 9, 15}));
  EXPECT_EQ(run(-1, 1, 0), (std::vector<int32_t>{0, 1, 3, 0, 4, 9}));
  EXPECT_EQ(run(1, 0, 1), (std::vector<int32_t>{6, 5, 3, 15, 11, 6}));
  EXPECT_EQ(run(1, 1, 1), (std::vector<int32_t>{5, 3, 0, 11, 6, 0}));
  EXPECT_EQ(run(0, 0, 0), (std::vector<int32_t>{1, 2, 3, 5, 7, 9}));
}

TEST(Arg, MaxAndMin) {
  std::vector<float> x{1, 3, 3, -2, -2, 0, 5, NAN, NAN, 7};
  Shape shape{2, 5};
  moert_view v = view(x, shape, F32);
  TestContext context;
  auto run = [&](int axis, int isMax, int last, size_t n) {
    std::vector<int64_t> out(n);
    context.run([&](moert_ctx *c) { moert_op_arg(c, &v, axis, isMax, last, out.data()); });
    return out;
  };
  EXPECT_EQ(run(1, 1, 0, 2), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(run(1, 1, 1, 2), (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(run(1, 0, 0, 2), (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(run(-1, 0, 1, 2), (std::vector<int64_t>{4, 3}));
  EXPECT_EQ(run(0, 1, 0, 5), (std::vector<int64_t>{0, 1, 1, 1, 1}));
  Shape empty{2, 0};
  v = view(x, empty, F32);
  int64_t out[2];
  expectFailure([&](moert_ctx *c) { moert_op_arg(c, &v, 1, 1, 0, out); },
                "ArgMax over an axis of size 0");
}

TEST(OneHot, IndicesOutsideHaveNone) {
  std::vector<int64_t> indices{0, 2, -1, 3, -4};
  std::vector<float> values{0.5f, 2}, out(15);
  Shape shape{5}, two{2};
  moert_view i = view(indices, shape, I64), v = view(values, two, F32);
  TestContext context;
  context.run([&](moert_ctx *c) { moert_op_onehot(c, &i, -1, 3, &v, out.data()); });
  const float o = 0.5f;
  EXPECT_EQ(out, (std::vector<float>{2, o, o, o, o, 2, o, o, 2, o, o, o, o, o, o}));
  context.run([&](moert_ctx *c) { moert_op_onehot(c, &i, 0, 3, &v, out.data()); });
  EXPECT_EQ(out, (std::vector<float>{2, o, o, o, o, o, o, o, o, o, o, 2, 2, o, o}));
  std::vector<float> floats{1, NAN, 1e30f, -2, 0};
  i = view(floats, shape, F32);
  context.run([&](moert_ctx *c) { moert_op_onehot(c, &i, -1, 3, &v, out.data()); });
  EXPECT_EQ(out, (std::vector<float>{o, 2, o, o, o, o, o, o, o, o, 2, o, 2, o, o}));
}
