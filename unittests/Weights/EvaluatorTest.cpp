#include "Folder.h"
#include "moec/Dialect/MoE/MoE.h"
#include "moec/Weights/Weights.h"

#include "mlir/IR/Builders.h"
#include "mlir/Parser/Parser.h"
#include "gtest/gtest.h"
#include <cstring>
#include <fcntl.h>
#include <random>

using namespace moec;

namespace {

// A weights region written down as text, with the values that each step must have.
struct Plan {
  struct Value {
    std::string name, element;
    std::vector<int64_t> dims;
    std::vector<double> data;
    int64_t count() const {
      int64_t n = 1;
      for (int64_t d : dims)
        n *= d;
      return n;
    }
    std::string type() const {
      std::string text = "tensor<";
      for (int64_t d : dims)
        text += std::to_string(d) + "x";
      return text + element + ">";
    }
  };

  std::vector<Value> values;
  std::string text;
  std::string file; // contents of w.bin

  static std::string list(const std::vector<int64_t> &v) {
    std::string s = "array<i64";
    for (size_t i = 0; i < v.size(); ++i)
      s += (i ? ", " : ": ") + std::to_string(v[i]);
    return s + ">";
  }
  size_t add(Value value, const std::string &op, const std::vector<size_t> &operands,
             const std::string &attributes) {
    value.name = "%" + std::to_string(values.size());
    text += value.name + " = \"moe.weight." + op + "\"(";
    std::string types;
    for (size_t i = 0; i < operands.size(); ++i) {
      text += (i ? ", " : "") + values[operands[i]].name;
      types += (i ? ", " : "") + values[operands[i]].type();
    }
    text += ") {" + attributes + "} : (" + types + ") -> " + value.type() + "\n";
    values.push_back(std::move(value));
    return values.size() - 1;
  }

  size_t load(std::vector<int64_t> dims, const std::string &element, std::mt19937 &random) {
    Value v{"", element, std::move(dims), {}};
    while (file.size() % 8)
      file.push_back(0);
    size_t offset = file.size();
    for (int64_t i = 0; i < v.count(); ++i) {
      int number = int(random() % 17) - 8;
      v.data.push_back(number);
      if (element == "f32") {
        float f = float(number);
        file.append(reinterpret_cast<char *>(&f), 4);
      } else if (element == "f16") {
        _Float16 f = _Float16(number);
        file.append(reinterpret_cast<char *>(&f), 2);
      } else if (element == "i8") {
        file.push_back(char(number));
      } else { // i4: two a byte
        v.data.back() = number = number > 7 ? 7 : number;
        if (i % 2 == 0)
          file.push_back(char(number & 15));
        else
          file.back() = char(file.back() | (number & 15) << 4);
      }
    }
    return add(v, "load", {}, "file = \"w.bin\", offset = " + std::to_string(offset) + " : i64");
  }
  size_t cast(size_t from, const std::string &element) {
    Value v = values[from];
    v.element = element;
    return add(v, "cast", {from}, "");
  }
  size_t reshape(size_t from, std::vector<int64_t> dims) {
    Value v = values[from];
    v.dims = std::move(dims);
    return add(v, "reshape", {from}, "");
  }

  // Fills `v` by asking, for each index, where its value comes from.
  template <typename F> static void fill(Value &v, const F &from) {
    std::vector<int64_t> index(v.dims.size(), 0);
    v.data.clear();
    for (int64_t n = v.count(); n > 0; --n) {
      v.data.push_back(from(index));
      for (size_t i = index.size(); i-- > 0;) {
        if (++index[i] < v.dims[i])
          break;
        index[i] = 0;
      }
    }
  }
  static double at(const Value &v, const std::vector<int64_t> &index) {
    int64_t flat = 0;
    for (size_t i = 0; i < index.size(); ++i)
      flat = flat * v.dims[i] + index[i];
    return v.data[size_t(flat)];
  }

  size_t transpose(size_t from, const std::vector<int64_t> &perm) {
    const Value in = values[from];
    Value v = in;
    for (size_t i = 0; i < perm.size(); ++i)
      v.dims[i] = in.dims[size_t(perm[i])];
    fill(v, [&](const std::vector<int64_t> &index) {
      std::vector<int64_t> source(index.size());
      for (size_t i = 0; i < perm.size(); ++i)
        source[size_t(perm[i])] = index[i];
      return at(in, source);
    });
    return add(v, "transpose", {from}, "perm = " + list(perm));
  }
  size_t slice(size_t from, const std::vector<int64_t> &offsets, const std::vector<int64_t> &sizes,
               const std::vector<int64_t> &strides) {
    const Value in = values[from];
    Value v = in;
    v.dims = sizes;
    fill(v, [&](std::vector<int64_t> index) {
      for (size_t i = 0; i < index.size(); ++i)
        index[i] = offsets[i] + strides[i] * index[i];
      return at(in, index);
    });
    return add(v, "slice", {from}, "offsets = " + list(offsets) + ", sizes = " + list(sizes) +
                                       ", strides = " + list(strides));
  }
  size_t gather(size_t from, int64_t axis, const std::vector<int64_t> &indices) {
    const Value in = values[from];
    Value v = in;
    v.dims[size_t(axis)] = int64_t(indices.size());
    fill(v, [&](std::vector<int64_t> index) {
      index[size_t(axis)] = indices[size_t(index[size_t(axis)])];
      return at(in, index);
    });
    return add(v, "gather", {from},
               "axis = " + std::to_string(axis) + " : i64, indices = " + list(indices));
  }
  size_t concat(const std::vector<size_t> &parts, int64_t axis) {
    Value v = values[parts[0]];
    v.dims[size_t(axis)] = 0;
    for (size_t part : parts)
      v.dims[size_t(axis)] += values[part].dims[size_t(axis)];
    fill(v, [&](std::vector<int64_t> index) {
      for (size_t part : parts) {
        if (index[size_t(axis)] < values[part].dims[size_t(axis)])
          return at(values[part], index);
        index[size_t(axis)] -= values[part].dims[size_t(axis)];
      }
      return 0.0;
    });
    return add(v, "concat", parts, "axis = " + std::to_string(axis) + " : i64");
  }
  size_t combine(const std::vector<size_t> &parts, const std::vector<double> &coefficients) {
    Value v = values[parts[0]];
    std::fill(v.data.begin(), v.data.end(), 0.0);
    std::string text = "coefficients = array<f64";
    for (size_t p = 0; p < parts.size(); ++p) {
      for (size_t i = 0; i < v.data.size(); ++i)
        v.data[i] += coefficients[p] * values[parts[p]].data[i];
      text += (p ? ", " : ": ") + std::to_string(coefficients[p]);
    }
    return add(v, "combine", parts, text + ">");
  }
  size_t lowRank(size_t a, size_t b) {
    const Value left = values[a], right = values[b];
    Value v = left;
    v.dims.back() = right.dims.back();
    int64_t inner = left.dims.back();
    fill(v, [&](const std::vector<int64_t> &index) {
      double sum = 0;
      std::vector<int64_t> l = index, r = index;
      for (int64_t k = 0; k < inner; ++k) {
        l.back() = k;
        r[r.size() - 2] = k;
        sum += at(left, l) * at(right, r);
      }
      return sum;
    });
    return add(v, "low_rank", {a, b}, "");
  }

  std::string module() const {
    std::string binds;
    for (size_t i = 0; i < values.size(); ++i)
      binds += "\"moe.weight.bind\"(" + values[i].name + ") {sym_name = \"v" + std::to_string(i) +
               "\"} : (" + values[i].type() + ") -> ()\n";
    return "\"moe.weights\"() ({\n" + text + binds + "}) {sym_name = \"weights\"} : () -> ()\n";
  }
};

struct Evaluator : testing::Test {
  mlir::MLIRContext context{mlir::MLIRContext::Threading::DISABLED};
  Folder folder;
  Evaluator() { context.loadDialect<moe::MoEDialect>(); }

  mlir::OwningOpRef<mlir::ModuleOp> parse(const std::string &text) {
    return mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  }

  // Every value of the plan: the whole, and ranges of rows.
  void check(const Plan &plan, std::mt19937 &random) {
    folder.write("w.bin", plan.file);
    auto module = parse(plan.module());
    ASSERT_TRUE(!!module) << plan.module();
    WeightEvaluator evaluator(*module, folder.path.string());
    for (size_t i = 0; i < plan.values.size(); ++i) {
      const Plan::Value &want = plan.values[i];
      SCOPED_TRACE(want.name + " of\n" + plan.text);
      std::string bind = "v" + std::to_string(i);
      llvm::SmallVector<char> out;
      if (llvm::Error error = evaluator.all(bind, out))
        FAIL() << llvm::toString(std::move(error));
      expectEqual(want, 0, want.count(), out);
      int64_t rows = want.dims.empty() ? 1 : want.dims[0];
      for (int repeat = 0; repeat < 3; ++repeat) {
        int64_t first = int64_t(random() % uint64_t(rows));
        int64_t count = 1 + int64_t(random() % uint64_t(rows - first));
        if (llvm::Error error = evaluator.rows(bind, first, count, out))
          FAIL() << llvm::toString(std::move(error));
        expectEqual(want, first * (want.count() / rows), count * (want.count() / rows), out);
        first = int64_t(random() % uint64_t(want.count()));
        count = int64_t(random() % uint64_t(want.count() - first + 1));
        if (llvm::Error error = evaluator.elements(bind, first, count, out))
          FAIL() << llvm::toString(std::move(error));
        expectEqual(want, first, count, out);
      }
    }
  }

  void expectEqual(const Plan::Value &want, int64_t first, int64_t count,
                   llvm::ArrayRef<char> bytes) {
    mlir::Type f64 = mlir::Float64Type::get(&context);
    mlir::Type element = want.element == "f32"   ? mlir::Type(mlir::Float32Type::get(&context))
                         : want.element == "f16" ? mlir::Type(mlir::Float16Type::get(&context))
                         : want.element == "f64"
                             ? f64
                             : mlir::Type(mlir::IntegerType::get(
                                   &context, unsigned(std::stoi(want.element.substr(1)))));
    ASSERT_EQ(int64_t(bytes.size()), count * elementBytes(element));
    std::vector<double> got(static_cast<size_t>(count));
    convertElements(element, bytes.data(), f64, reinterpret_cast<char *>(got.data()), count);
    for (int64_t i = 0; i < count; ++i)
      ASSERT_EQ(got[size_t(i)], want.data[size_t(first + i)]) << "element " << first + i;
  }

  std::string errorOf(const std::string &steps, const std::string &bind = "w") {
    auto module = parse("\"moe.weights\"() ({\n" + steps + "}) {sym_name = \"weights\"} : () -> ()");
    if (!module)
      return "did not parse";
    WeightEvaluator evaluator(*module, folder.path.string());
    llvm::SmallVector<char> out;
    return llvm::toString(evaluator.all(bind, out));
  }
};

TEST_F(Evaluator, EachStep) {
  std::mt19937 random(1);
  Plan plan;
  size_t a = plan.load({4, 3, 5}, "f32", random), h = plan.load({4, 3, 5}, "f16", random);
  size_t scalar = plan.load({}, "f32", random), nibbles = plan.load({3, 5}, "i4", random);
  plan.cast(nibbles, "f32");
  plan.cast(nibbles, "i8");
  plan.reshape(scalar, {1, 1});
  size_t wide = plan.cast(h, "f32");
  for (std::vector<int64_t> perm : {std::vector<int64_t>{0, 2, 1}, {1, 0, 2}, {2, 1, 0}, {1, 2, 0},
                                    {2, 0, 1}, {0, 1, 2}})
    plan.transpose(wide, perm);
  plan.reshape(wide, {2, 30});
  plan.reshape(plan.transpose(a, {2, 0, 1}), {4, 15});
  plan.slice(a, {1, 0, 0}, {2, 3, 5}, {1, 1, 1});
  plan.slice(a, {0, 1, 1}, {4, 2, 2}, {1, 1, 2});
  plan.slice(a, {1, 0, 4}, {2, 2, 1}, {2, 2, 1});
  plan.slice(a, {0, 0, 0}, {4, 3, 3}, {1, 1, 2});
  plan.gather(a, 0, {3, 0, 3});
  plan.gather(a, 1, {2, 1});
  plan.gather(a, 2, {4, 4, 0});
  plan.concat({a, wide, a}, 0);
  plan.concat({a, wide}, 1);
  plan.concat({a, plan.slice(a, {0, 0, 1}, {4, 3, 1}, {1, 1, 1}), wide}, 2);
  plan.combine({a, wide, a}, {0.5, -1, 2});
  plan.combine({h, h}, {1, 1});
  size_t b = plan.load({4, 5, 2}, "f32", random);
  plan.lowRank(a, b);
  check(plan, random);
}

TEST_F(Evaluator, LiteralsOfAllForms) {
  std::string text = R"("moe.weights"() ({
    %a = "moe.weight.literal"() {value = dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
    %s = "moe.weight.literal"() {value = dense<7> : tensor<3xi32>} : () -> tensor<3xi32>
    %t = "moe.weight.literal"() {value = dense<[true, false, true]> : tensor<3xi1>} : () -> tensor<3xi1>
    %u = "moe.weight.literal"() {value = dense<true> : tensor<2xi1>} : () -> tensor<2xi1>
    "moe.weight.bind"(%a) {sym_name = "a"} : (tensor<2x2xf32>) -> ()
    "moe.weight.bind"(%s) {sym_name = "s"} : (tensor<3xi32>) -> ()
    "moe.weight.bind"(%t) {sym_name = "t"} : (tensor<3xi1>) -> ()
    "moe.weight.bind"(%u) {sym_name = "u"} : (tensor<2xi1>) -> ()
  }) {sym_name = "weights"} : () -> ())";
  auto module = parse(text);
  ASSERT_TRUE(!!module);
  WeightEvaluator evaluator(*module, ".");
  llvm::SmallVector<char> out;
  ASSERT_FALSE(!!evaluator.rows("a", 1, 1, out));
  float row[2];
  std::memcpy(row, out.data(), 8);
  EXPECT_EQ(row[0], 3);
  EXPECT_EQ(row[1], 4);
  ASSERT_FALSE(!!evaluator.rows("s", 1, 2, out));
  EXPECT_EQ(std::vector<char>(out.begin(), out.end()),
            (std::vector<char>{7, 0, 0, 0, 7, 0, 0, 0}));
  ASSERT_FALSE(!!evaluator.rows("t", 1, 2, out));
  EXPECT_EQ(std::vector<char>(out.begin(), out.end()), (std::vector<char>{0, 1}));
  ASSERT_FALSE(!!evaluator.all("u", out));
  EXPECT_EQ(std::vector<char>(out.begin(), out.end()), (std::vector<char>{1, 1}));
}

// Random chains of steps against their definitions. A failure prints its seed.
TEST_F(Evaluator, RandomChains) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    auto below = [&](int64_t n) { return int64_t(random() % uint64_t(n)); };
    Plan plan;
    std::vector<int64_t> dims;
    for (int64_t i = 0, rank = 1 + below(4); i < rank; ++i)
      dims.push_back(1 + below(6));
    size_t v = plan.load(dims, random() % 2 ? "f32" : "f16", random);
    v = plan.cast(v, "f64");
    bool multiplied = false;
    for (int step = 0; step < 7; ++step) {
      dims = plan.values[v].dims;
      int64_t rank = int64_t(dims.size()), axis = below(rank);
      switch (below(7)) {
      case 0: {
        std::vector<int64_t> perm;
        for (int64_t i = 0; i < rank; ++i)
          perm.push_back(i);
        std::shuffle(perm.begin(), perm.end(), random);
        v = plan.transpose(v, perm);
        break;
      }
      case 1: { // join two axes, or split one
        std::vector<int64_t> next = dims;
        if (rank > 1 && axis + 1 < rank) {
          next[size_t(axis)] *= next[size_t(axis) + 1];
          next.erase(next.begin() + axis + 1);
        } else if (rank < 5) {
          int64_t d = next[size_t(axis)], divisor = d % 2 == 0 ? 2 : d % 3 == 0 ? 3 : 1;
          next[size_t(axis)] = d / divisor;
          next.insert(next.begin() + axis, divisor);
        }
        v = plan.reshape(v, next);
        break;
      }
      case 2: {
        std::vector<int64_t> offsets, sizes, strides;
        for (int64_t d : dims) {
          offsets.push_back(below(2) ? 0 : below(d));
          strides.push_back(1 + below(2));
          sizes.push_back(1 + below((d - 1 - offsets.back()) / strides.back() + 1));
        }
        v = plan.slice(v, offsets, sizes, strides);
        break;
      }
      case 3: {
        std::vector<int64_t> indices;
        for (int64_t i = 0, n = 1 + below(4); i < n; ++i)
          indices.push_back(below(dims[size_t(axis)]));
        v = plan.gather(v, axis, indices);
        break;
      }
      case 4:
        if (plan.values[v].count() < 2000)
          v = plan.concat({v, plan.slice(v, std::vector<int64_t>(dims.size(), 0), dims,
                                         std::vector<int64_t>(dims.size(), 1)), v}, axis);
        break;
      case 5:
        v = plan.combine({v, v}, {2, -1});
        break;
      case 6:
        if (rank >= 2 && !multiplied) {
          std::vector<int64_t> other = dims;
          other[size_t(rank) - 2] = dims.back();
          other.back() = 1 + below(4);
          v = plan.lowRank(v, plan.cast(plan.load(other, "f32", random), "f64"));
          multiplied = true;
        }
        break;
      }
    }
    check(plan, random);
    if (HasFatalFailure())
      return;
  }
}

// Data that is read in several pieces.
TEST_F(Evaluator, LargerThanOnePiece) {
  std::mt19937 random(5);
  Plan plan;
  size_t a = plan.cast(plan.load({3, 700, 900}, "f16", random), "f64"); // 15 MiB
  plan.transpose(a, {2, 1, 0});
  plan.transpose(a, {1, 0, 2});
  plan.slice(a, {0, 1, 2}, {3, 600, 300}, {1, 1, 2});
  plan.concat({a, plan.slice(a, {0, 0, 0}, {3, 5, 900}, {1, 1, 1})}, 1);
  plan.gather(a, 1, {699, 0, 350});
  plan.combine({a, a}, {1, 2});
  check(plan, random);
}

TEST_F(Evaluator, Errors) {
  folder.write("w.bin", std::string(64, '\0'));
  auto bind = [](const std::string &type) {
    return "\"moe.weight.bind\"(%w) {sym_name = \"w\"} : (" + type + ") -> ()\n";
  };
  std::string load = "%l = \"moe.weight.load\"() {file = \"w.bin\", offset = 0 : i64} : () -> "
                     "tensor<4x4xf32>\n";
  EXPECT_EQ(errorOf(load, "nothing"), "there is no weight \"nothing\"");
  std::string tooLong = errorOf("%w = \"moe.weight.load\"() {file = \"w.bin\", offset = 4 : i64} : "
                                "() -> tensor<4x4xf32>\n" + bind("tensor<4x4xf32>"));
  EXPECT_NE(tooLong.find("weight \"w\": external data \"w.bin\" is too short"), std::string::npos)
      << tooLong;
  std::string outside = errorOf("%w = \"moe.weight.load\"() {file = \"../w.bin\", offset = 0 : i64} "
                                ": () -> tensor<4xf32>\n" + bind("tensor<4xf32>"));
  EXPECT_NE(outside.find("\"..\""), std::string::npos) << outside;
  std::string huge = errorOf("%w = \"moe.weight.load\"() {file = \"w.bin\", offset = 0 : i64} : () "
                             "-> tensor<4611686018427387904x4xf32>\n" +
                             bind("tensor<4611686018427387904x4xf32>"));
  EXPECT_NE(huge.find("unsupported"), std::string::npos) << huge;
}

TEST_F(Evaluator, RowsAreChecked) {
  std::mt19937 random(3);
  Plan plan;
  plan.load({4, 2}, "f32", random);
  folder.write("w.bin", plan.file);
  auto module = parse(plan.module());
  WeightEvaluator evaluator(*module, folder.path.string());
  llvm::SmallVector<char> out;
  for (auto [first, count] : {std::pair<int64_t, int64_t>{-1, 1}, {0, 5}, {4, 1}, {1, -1},
                              {1, INT64_MAX}})
    EXPECT_TRUE(llvm::errorToBool(evaluator.rows("v0", first, count, out))) << first << " " << count;
  EXPECT_FALSE(llvm::errorToBool(evaluator.rows("v0", 4, 0, out)));
  EXPECT_TRUE(out.empty());
  for (auto [first, count] : {std::pair<int64_t, int64_t>{-1, 1}, {0, 9}, {8, 1}, {1, -1},
                              {1, INT64_MAX}})
    EXPECT_TRUE(llvm::errorToBool(evaluator.elements("v0", first, count, out)))
        << first << " " << count;
}

TEST_F(Evaluator, ColumnsOfTransposed) {
  std::mt19937 random(4);
  Plan plan;
  size_t a = plan.load({5, 3}, "f16", random);
  size_t t = plan.cast(plan.transpose(a, {1, 0}), "f32");
  folder.write("w.bin", plan.file);
  auto module = parse(plan.module());
  WeightEvaluator evaluator(*module, folder.path.string());
  EXPECT_FALSE(evaluator.isTransposed("v0"));
  std::string name = "v" + std::to_string(t);
  ASSERT_TRUE(evaluator.isTransposed(name));
  llvm::SmallVector<char> out;
  ASSERT_FALSE(llvm::errorToBool(evaluator.columns(name, 1, 3, out)));
  ASSERT_EQ(out.size(), 3u * 3 * 4);
  for (size_t i = 0; i < 9; ++i) {
    float f;
    std::memcpy(&f, out.data() + 4 * i, 4);
    EXPECT_EQ(f, plan.values[a].data[3 + i]);
  }
  EXPECT_TRUE(llvm::errorToBool(evaluator.columns(name, 4, 2, out)));
  EXPECT_TRUE(llvm::errorToBool(evaluator.columns("v0", 0, 1, out)));
}

int64_t peakKiB() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:"))
      return std::stoll(line.substr(6));
  return -1;
}

// Reading a file expert by expert must not keep it in memory.
TEST_F(Evaluator, MemoryStaysSmall) {
  constexpr int64_t kExperts = 64, kRows = 1024, kColumns = 2048; // 512 MiB of f32
  int fd = open(folder.file("w.bin").c_str(), O_CREAT | O_RDWR, 0600);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(ftruncate(fd, kExperts * kRows * kColumns * 4), 0);
  close(fd);
  auto module = parse(R"("moe.weights"() ({
    %a = "moe.weight.load"() {file = "w.bin", offset = 0 : i64} : () -> tensor<1x64x1024x2048xf32>
    %b = "moe.weight.reshape"(%a) : (tensor<1x64x1024x2048xf32>) -> tensor<64x1024x2048xf32>
    %c = "moe.weight.cast"(%b) : (tensor<64x1024x2048xf32>) -> tensor<64x1024x2048xf16>
    %d = "moe.weight.transpose"(%c) {perm = array<i64: 0, 2, 1>} : (tensor<64x1024x2048xf16>) -> tensor<64x2048x1024xf16>
    "moe.weight.bind"(%d) {sym_name = "w"} : (tensor<64x2048x1024xf16>) -> ()
  }) {sym_name = "weights"} : () -> ())");
  ASSERT_TRUE(!!module);
  WeightEvaluator evaluator(*module, folder.path.string());
  llvm::SmallVector<char> out;
  int64_t before = peakKiB();
  for (int64_t expert = 0; expert < kExperts; expert += 4) {
    ASSERT_FALSE(llvm::errorToBool(evaluator.rows("w", expert, 1, out)));
    ASSERT_EQ(int64_t(out.size()), kRows * kColumns * 2);
  }
  EXPECT_LT(peakKiB() - before, 100 << 10);
}

// The system may map 2 MiB for a page that is touched.
TEST_F(Evaluator, FewElementsOfManyRowsTakeLittleMemory) {
  constexpr int64_t kRows = 512, kRow = 1 << 20; // 512 MiB of i8
  int fd = open(folder.file("w.bin").c_str(), O_CREAT | O_RDWR, 0600);
  ASSERT_GE(fd, 0);
  std::vector<char> row(kRow, 1);
  for (int64_t i = 0; i < kRows; ++i)
    ASSERT_EQ(write(fd, row.data(), row.size()), kRow);
  close(fd);
  auto module = parse(R"("moe.weights"() ({
    %a = "moe.weight.load"() {file = "w.bin", offset = 0 : i64} : () -> tensor<512x1048576xi8>
    "moe.weight.bind"(%a) {sym_name = "w"} : (tensor<512x1048576xi8>) -> ()
  }) {sym_name = "weights"} : () -> ())");
  ASSERT_TRUE(!!module);
  WeightEvaluator evaluator(*module, folder.path.string());
  llvm::SmallVector<char> out;
  int64_t before = peakKiB();
  for (int64_t i = 0; i < kRows; ++i)
    ASSERT_FALSE(llvm::errorToBool(evaluator.elements("w", i * kRow, 4096, out)));
  EXPECT_LT(peakKiB() - before, 100 << 10);
}

} // namespace
