// Random programs of nested branches, loops and sequences, compiled and by the interpreter.
#include "Compiled.h"

using namespace moec::host::test;

namespace {

constexpr const char *kTensor = "tensor<?x4xf32>", *kInt = "tensor<i64>", *kBool = "tensor<i1>",
                     *kList = "!onnx.sequence<tensor<?x4xf32>>";

/// Writes ops over what is in scope: tensors of four columns, whose rows differ, and integers.
class Program {
public:
  explicit Program(unsigned seed) : random(seed) {}

  std::string write() {
    text = "func.func @main(%x: tensor<?x4xf32>, %y: tensor<?x4xf32>, %n: tensor<i64>) -> "
           "(tensor<?x4xf32>, tensor<?x4xf32>, tensor<i64>) {\n%none = onnx.none : () -> none\n";
    for (int64_t v : {0, 1, 2, 3, 6})
      text += "%c" + std::to_string(v) + " = onnx.Constant {value = dense<" + std::to_string(v) +
              "> : tensor<i64>} : () -> tensor<i64>\n%v" + std::to_string(v) +
              " = onnx.Constant {value = dense<" + std::to_string(v) +
              "> : tensor<1xi64>} : () -> tensor<1xi64>\n";
    Scope scope{{"%x", "%y"}, {"%n", "%c1"}, {}};
    block(scope, 0, 6);
    text += "return " + pick(scope.tensors) + ", " + pick(scope.tensors) + ", " + pick(scope.ints) +
            " : tensor<?x4xf32>, tensor<?x4xf32>, tensor<i64>\n}\n";
    return text;
  }

private:
  struct Scope {
    std::vector<std::string> tensors, ints, lists;
  };
  std::mt19937 random;
  std::string text;
  int count = 0;

  unsigned below(unsigned n) { return static_cast<unsigned>(random() % n); }
  /// A late value more often than an early one.
  std::string pick(const std::vector<std::string> &from) {
    size_t a = below(from.size()), b = below(from.size());
    return from[std::max(a, b)];
  }
  std::string fresh() { return "%r" + std::to_string(count++); }
  std::string op(const std::string &name, const std::string &operands, const std::string &types,
                 const std::string &result, const std::string &attributes = "") {
    std::string r = fresh();
    text += r + " = onnx." + name + "(" + operands + ") " + attributes + " : (" + types + ") -> " +
            result + "\n";
    return r;
  }
  std::string two(const std::string &type) { return type + ", " + type; }
  std::string small(Scope &s, int bound) {
    return op("Mod", pick(s.ints) + ", %c" + std::to_string(bound), two(kInt), kInt);
  }
  std::string flag(Scope &s) { return op("Equal", small(s, 2) + ", %c0", two(kInt), kBool); }
  std::string sum(const std::string &x, bool keep) {
    return op("ReduceSum", x + ", %v0", std::string(kTensor) + ", tensor<1xi64>",
              keep ? "tensor<1x4xf32>" : "tensor<4xf32>",
              "{keepdims = " + std::to_string(keep) + " : i64}");
  }
  /// At most six rows.
  std::string cut(const std::string &x) {
    return op("Slice", x + ", %v0, %v6, %v0, %v1",
              std::string(kTensor) + ", tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>",
              kTensor);
  }

  void tensor(Scope &s) {
    std::string x = pick(s.tensors);
    switch (below(6)) {
    case 0:
      s.tensors.push_back(op(below(2) ? "Neg" : "Tanh", x, kTensor, kTensor));
      break;
    case 1:
      s.tensors.push_back(
          op("Concat", x + ", " + pick(s.tensors), two(kTensor), kTensor, "{axis = 0 : i64}"));
      s.tensors.back() = cut(s.tensors.back());
      break;
    case 2: {
      std::string row = sum(pick(s.tensors), true);
      std::string t = op("Tanh", row, "tensor<1x4xf32>", "tensor<1x4xf32>");
      s.tensors.push_back(
          op("Add", x + ", " + t, std::string(kTensor) + ", tensor<1x4xf32>", kTensor));
      break;
    }
    case 3: // all but the first row
      s.tensors.push_back(
          op("Slice", x + ", %v1, %v6, %v0, %v1",
             std::string(kTensor) + ", tensor<1xi64>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>",
             kTensor));
      break;
    case 4:
      s.tensors.push_back(
          op("CumSum", x + ", %c0", std::string(kTensor) + ", tensor<i64>", kTensor));
      s.tensors.back() = op("Tanh", s.tensors.back(), kTensor, kTensor);
      break;
    default:
      s.ints.push_back(op("Add", pick(s.ints) + ", " + pick(s.ints), two(kInt), kInt));
    }
  }

  void list(Scope &s) {
    std::string type = kList;
    if (s.lists.empty() || below(4) == 0)
      s.lists.push_back(
          op("SequenceConstruct", pick(s.tensors) + ", " + pick(s.tensors), two(kTensor), type));
    std::string l = pick(s.lists);
    if (below(2)) {
      bool end = below(2);
      s.lists.push_back(op("SequenceInsert",
                           l + ", " + pick(s.tensors) + ", " + (end ? "%none" : "%c1"),
                           type + ", " + kTensor + ", " + (end ? "none" : kInt), type));
      return;
    }
    s.tensors.push_back(op("SequenceAt", l + ", " + small(s, 2), type + ", " + kInt, kTensor));
  }

  std::string yield(Scope &s, const std::string &first, const std::string &firstType, bool scan) {
    std::string values = first + pick(s.tensors) + ", " + pick(s.tensors) + ", " + pick(s.ints);
    std::string types = firstType + two(kTensor) + ", " + kInt;
    if (scan) {
      values += ", " + sum(pick(s.tensors), false);
      types += ", tensor<4xf32>";
    }
    return "onnx.yield(" + values + ") : (" + types + ") -> ()\n";
  }

  void results(Scope &s, const std::string &r) {
    s.tensors.insert(s.tensors.end(), {r + "#0", r + "#1"});
    s.ints.push_back(r + "#2");
  }

  void branch(Scope &s, int depth) {
    std::string c = flag(s), r = fresh(), types = two(kTensor) + ", " + kInt;
    text += r + ":3 = onnx.If(" + c + ") ({\n";
    for (int i = 0; i < 2; ++i) {
      Scope inner = s;
      block(inner, depth + 1, 3);
      text += yield(inner, "", "", false);
      text += i ? "})" : "}, {\n";
    }
    text += " : (tensor<i1>) -> (" + types + ")\n";
    results(s, r);
  }

  void loop(Scope &s, int depth) {
    std::string trips = small(s, 3), r = fresh(), i = fresh(), go = fresh();
    std::string a = fresh(), b = fresh(), n = fresh(), carried = two(kTensor) + ", " + kInt;
    text += r + ":4 = onnx.Loop(" + trips + ", %none, " + pick(s.tensors) + ", " + pick(s.tensors) +
            ", " + pick(s.ints) + ") ({\n^bb0(" + i + ": tensor<i64>, " + go + ": tensor<i1>, " +
            a + ": " + kTensor + ", " + b + ": " + kTensor + ", " + n + ": tensor<i64>):\n";
    Scope inner = s;
    inner.tensors.insert(inner.tensors.end(), {a, b});
    inner.ints.insert(inner.ints.end(), {i, n});
    block(inner, depth + 1, 3);
    std::string on = below(3) ? go : flag(inner);
    text += yield(inner, on + ", ", "tensor<i1>, ", true);
    text += "}) : (tensor<i64>, none, " + carried + ") -> (" + carried + ", tensor<?x4xf32>)\n";
    results(s, r);
    s.tensors.push_back(r + "#3");
  }

  void block(Scope &s, int depth, unsigned ops) {
    for (unsigned i = 0; i < ops; ++i) {
      unsigned kind = below(10);
      if (kind < 2 && depth < 3)
        branch(s, depth);
      else if (kind < 4 && depth < 3)
        loop(s, depth);
      else if (kind < 6)
        list(s);
      else
        tensor(s);
    }
  }
};

TEST(RandomPrograms, AreCompiledAsInterpreted) {
  // Others by --gtest_shuffle --gtest_random_seed=N.
  unsigned first = 25 * static_cast<unsigned>(testing::UnitTest::GetInstance()->random_seed());
  for (unsigned seed = first + 1; seed <= first + 25; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::string ir = Program(seed).write();
    Numbers x = f32({2, 4}, {1, -2, 0.5, 3, 0.25, 1, -1, 2}), y = f32({1, 4}, {0.5, 1, 1.5, -2});
    Numbers n = i64({}, {static_cast<double>(seed % 5)});
    expectSameModule(ir, {x, y, n}, 1e-5);
    if (HasFailure()) {
      ADD_FAILURE() << ir;
      return;
    }
  }
}

} // namespace
