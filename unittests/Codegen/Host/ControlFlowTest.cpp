// If, Loop and Scan, compiled and by the interpreter.
#include "Compiled.h"

using namespace moec::host::test;

namespace {

Numbers iota(std::vector<int64_t> shape, double start = 0, double step = 1) {
  Numbers n{"f32", std::move(shape), {}};
  int64_t count = 1;
  for (int64_t d : n.shape)
    count *= d;
  for (int64_t i = 0; i < count; ++i)
    n.values.push_back(start + step * static_cast<double>(i));
  return n;
}
Numbers flag(bool value) { return boolean({}, {value ? 1.0 : 0.0}); }
Numbers count(int64_t value) { return i64({}, {static_cast<double>(value)}); }

// --- If ---

TEST(If, BranchesReadOuterValues) {
  // %e is lazy and read by both branches and after; %x passes through one branch unchanged.
  std::string ir = R"(
    func.func @main(%c: tensor<i1>, %x: tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>) {
      %e = onnx.Exp(%x) : (tensor<?x4xf32>) -> tensor<?x4xf32>
      %0:2 = onnx.If(%c) ({
        %a = onnx.Add(%e, %x) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
        onnx.yield(%a, %x) : (tensor<?x4xf32>, tensor<?x4xf32>) -> ()
      }, {
        %s = onnx.Neg(%e) : (tensor<?x4xf32>) -> tensor<?x4xf32>
        onnx.yield(%e, %s) : (tensor<?x4xf32>, tensor<?x4xf32>) -> ()
      }) : (tensor<i1>) -> (tensor<?x4xf32>, tensor<?x4xf32>)
      %1 = onnx.Mul(%e, %0#0) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
      return %0#0, %0#1, %1 : tensor<?x4xf32>, tensor<?x4xf32>, tensor<?x4xf32>
    })";
  for (bool c : {false, true})
    expectSameModule(ir, {flag(c), iota({3, 4}, -1, 0.25)});
}

TEST(If, ResultsOfDifferentSizes) {
  std::string ir = R"(
    func.func @main(%x: tensor<?x4xf32>) -> (tensor<?x?xf32>, tensor<?xi64>) {
      %k = onnx.Constant {value = dense<3> : tensor<i64>} : () -> tensor<i64>
      %s = onnx.Shape(%x) : (tensor<?x4xf32>) -> tensor<2xi64>
      %z = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
      %n = onnx.Gather(%s, %z) : (tensor<2xi64>, tensor<i64>) -> tensor<i64>
      %c = onnx.Less(%n, %k) : (tensor<i64>, tensor<i64>) -> tensor<i1>
      %0:2 = onnx.If(%c) ({
        %t = onnx.Transpose(%x) : (tensor<?x4xf32>) -> tensor<4x?xf32>
        onnx.yield(%t, %s) : (tensor<4x?xf32>, tensor<2xi64>) -> ()
      }, {
        %w = onnx.Constant {value = dense<7.0> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
        %i = onnx.Constant {value = dense<[5, 6, 7]> : tensor<3xi64>} : () -> tensor<3xi64>
        onnx.yield(%w, %i) : (tensor<2x2xf32>, tensor<3xi64>) -> ()
      }) : (tensor<i1>) -> (tensor<?x?xf32>, tensor<?xi64>)
      return %0#0, %0#1 : tensor<?x?xf32>, tensor<?xi64>
    })";
  for (int64_t n : {0, 2, 3, 5})
    expectSameModule(ir, {iota({n, 4})});
}

TEST(If, SizesComeOutOfBranches) {
  // The shape operand of a Reshape is chosen by an If, in a nested one too.
  std::string ir = R"(
    func.func @main(%c: tensor<i1>, %d: tensor<i1>, %x: tensor<12xf32>) -> tensor<?x?xf32> {
      %0 = onnx.If(%c) ({
        %1 = onnx.If(%d) ({
          %a = onnx.Constant {value = dense<[2, 6]> : tensor<2xi64>} : () -> tensor<2xi64>
          onnx.yield(%a) : (tensor<2xi64>) -> ()
        }, {
          %b = onnx.Constant {value = dense<[6, 2]> : tensor<2xi64>} : () -> tensor<2xi64>
          onnx.yield(%b) : (tensor<2xi64>) -> ()
        }) : (tensor<i1>) -> tensor<2xi64>
        onnx.yield(%1) : (tensor<2xi64>) -> ()
      }, {
        %b = onnx.Constant {value = dense<[-1, 4]> : tensor<2xi64>} : () -> tensor<2xi64>
        onnx.yield(%b) : (tensor<2xi64>) -> ()
      }) : (tensor<i1>) -> tensor<2xi64>
      %r = onnx.Reshape(%x, %0) : (tensor<12xf32>, tensor<2xi64>) -> tensor<?x?xf32>
      return %r : tensor<?x?xf32>
    })";
  for (int i = 0; i < 4; ++i)
    expectSameModule(ir, {flag(i & 1), flag(i & 2), iota({12})});
}

TEST(If, OneBufferInTwoResults) {
  std::string ir = R"(
    func.func @main(%c: tensor<i1>, %x: tensor<4xf32>) -> (tensor<4xf32>, tensor<2x2xf32>, tensor<4xf32>) {
      %s = onnx.Constant {value = dense<2> : tensor<2xi64>} : () -> tensor<2xi64>
      %0:3 = onnx.If(%c) ({
        %a = onnx.CumSum(%x, %k) : (tensor<4xf32>, tensor<i64>) -> tensor<4xf32>
        %b = onnx.Reshape(%a, %s) : (tensor<4xf32>, tensor<2xi64>) -> tensor<2x2xf32>
        onnx.yield(%a, %b, %a) : (tensor<4xf32>, tensor<2x2xf32>, tensor<4xf32>) -> ()
      }, {
        %b = onnx.Reshape(%x, %s) : (tensor<4xf32>, tensor<2xi64>) -> tensor<2x2xf32>
        onnx.yield(%x, %b, %x) : (tensor<4xf32>, tensor<2x2xf32>, tensor<4xf32>) -> ()
      }) : (tensor<i1>) -> (tensor<4xf32>, tensor<2x2xf32>, tensor<4xf32>)
      return %0#0, %0#1, %0#2 : tensor<4xf32>, tensor<2x2xf32>, tensor<4xf32>
    })";
  ir.replace(ir.find("%s = onnx"), 0,
             "%k = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>\n");
  for (bool c : {false, true})
    expectSameModule(ir, {flag(c), iota({4}, 1)});
}

TEST(If, UnknownOperators) {
  std::string head = "func.func @main(%c: tensor<i1>, %x: tensor<4xf32>, %y: tensor<2x2xf32>) -> "
                     "tensor<4xf32> {\n";
  // Unknown operators in branches are reported by name.
  Lowered l = lower(head + R"(
      %0 = onnx.If(%c) ({
        %1 = onnx.custom(%y) {domain = "d", op_type = "Ca"} : (tensor<2x2xf32>) -> tensor<4xf32> loc("a")
        onnx.yield(%1) : (tensor<4xf32>) -> ()
      }, {
        %1 = onnx.custom(%y) {domain = "d", op_type = "Cb"} : (tensor<2x2xf32>) -> tensor<4xf32> loc("b")
        onnx.yield(%1) : (tensor<4xf32>) -> ()
      }) : (tensor<i1>) -> tensor<4xf32>
      return %0 : tensor<4xf32>
    })");
  EXPECT_NE(l.error.find("d::Ca"), std::string::npos) << l.error;
  EXPECT_NE(l.error.find("d::Cb"), std::string::npos) << l.error;
}

TEST(If, RanksThatBranchesDecide) {
  // As exporters write squeeze of a dimension of unknown size. What follows has its own form on
  // each path; two of them make four.
  auto squeezed = [](const std::string &x, const std::string &r) {
    return "%c" + r + " = onnx.Equal(%d, %one) : (tensor<i64>, tensor<i64>) -> tensor<i1>\n%" + r +
           " = onnx.If(%c" + r + ") ({\n%s = onnx.Squeeze(%" + x +
           ", %axis) : (tensor<*xf32>, tensor<1xi64>) -> tensor<*xf32>\n" +
           "onnx.yield(%s) : (tensor<*xf32>) -> ()\n}, {\nonnx.yield(%" + x +
           ") : (tensor<*xf32>) -> ()\n}) : (tensor<i1>) -> tensor<*xf32>\n";
  };
  std::string ir = R"(
    func.func @main(%a: tensor<3x?x2xf32>, %n: tensor<1xi64>) -> (tensor<?xf32>, tensor<3x?x2xf32>, tensor<?xi64>) {
      %one = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
      %axis = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
      %sh = onnx.Shape(%a) : (tensor<3x?x2xf32>) -> tensor<3xi64>
      %d = onnx.Gather(%sh, %one) : (tensor<3xi64>, tensor<i64>) -> tensor<i64>
      %e = onnx.Exp(%a) : (tensor<3x?x2xf32>) -> tensor<3x?x2xf32>
      %b = onnx.Identity(%e) : (tensor<3x?x2xf32>) -> tensor<*xf32>
)" + squeezed("b", "p") +
                   R"(
      %q = onnx.Neg(%p) : (tensor<*xf32>) -> tensor<*xf32>
      %u = onnx.Unsqueeze(%q, %axis) : (tensor<*xf32>, tensor<1xi64>) -> tensor<*xf32>
)" + squeezed("u", "v") +
                   R"(
      %w = onnx.Reshape(%v, %n) : (tensor<*xf32>, tensor<1xi64>) -> tensor<?xf32>
      %l = onnx.Shape(%v) : (tensor<*xf32>) -> tensor<?xi64>
      return %w, %e, %l : tensor<?xf32>, tensor<3x?x2xf32>, tensor<?xi64>
    })";
  for (int64_t n : {1, 4})
    expectSameModule(ir, {iota({3, n, 2}, -1, 0.25), i64({static_cast<double>(6 * n)})});
}

// --- Loop ---

TEST(Loop, CountsAndCarries) {
  std::string ir = R"(
    func.func @main(%m: tensor<i64>, %x: tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<i64>, tensor<?x?x4xf32>) {
      %none = onnx.none : () -> none
      %zero = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
      %0:3 = onnx.Loop(%m, %none, %x, %zero) ({
      ^bb0(%i: tensor<i64>, %go: tensor<i1>, %v: tensor<?x4xf32>, %n: tensor<i64>):
        %y = onnx.Add(%v, %x) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
        %k = onnx.Add(%n, %i) : (tensor<i64>, tensor<i64>) -> tensor<i64>
        onnx.yield(%go, %y, %k, %v) : (tensor<i1>, tensor<?x4xf32>, tensor<i64>, tensor<?x4xf32>) -> ()
      }) : (tensor<i64>, none, tensor<?x4xf32>, tensor<i64>) -> (tensor<?x4xf32>, tensor<i64>, tensor<?x?x4xf32>)
      return %0#0, %0#1, %0#2 : tensor<?x4xf32>, tensor<i64>, tensor<?x?x4xf32>
    })";
  for (int64_t m : {1, 2, 7})
    expectSameModule(ir, {count(m), iota({3, 4})});
  // No trip: the sizes that the declared type leaves open are 0.
  expectSameModule(ir, {count(0), iota({3, 4})});
}

TEST(Loop, EndsByItsCondition) {
  std::string ir = R"(
    func.func @main(%m: tensor<i64>, %c: tensor<i1>, %x: tensor<4xf32>) -> (tensor<4xf32>, tensor<?xf32>) {
      %limit = onnx.Constant {value = dense<100.0> : tensor<f32>} : () -> tensor<f32>
      %none = onnx.none : () -> none
      %0:2 = onnx.Loop(%m, %c, %x) ({
      ^bb0(%i: tensor<i64>, %go: tensor<i1>, %v: tensor<4xf32>):
        %y = onnx.Add(%v, %v) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
        %s = onnx.ReduceSum(%y, %none) {keepdims = 0 : i64} : (tensor<4xf32>, none) -> tensor<f32>
        %l = onnx.Less(%s, %limit) : (tensor<f32>, tensor<f32>) -> tensor<i1>
        onnx.yield(%l, %y, %s) : (tensor<i1>, tensor<4xf32>, tensor<f32>) -> ()
      }) : (tensor<i64>, tensor<i1>, tensor<4xf32>) -> (tensor<4xf32>, tensor<?xf32>)
      return %0#0, %0#1 : tensor<4xf32>, tensor<?xf32>
    })";
  for (int64_t m : {0, 1, 3, 50})
    for (bool c : {false, true})
      expectSameModule(ir, {count(m), flag(c), iota({4}, 1)});
}

TEST(Loop, ShapesChange) {
  // Grows along axis 0; a second value follows with its size, a third one as integers.
  std::string ir = R"(
    func.func @main(%m: tensor<i64>, %x: tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<?xi64>, tensor<?xi64>) {
      %none = onnx.none : () -> none
      %s0 = onnx.Shape(%x) : (tensor<?x4xf32>) -> tensor<2xi64>
      %e = onnx.Constant {value = dense<> : tensor<0xi64>} : () -> tensor<0xi64>
      %one = onnx.Constant {value = dense<[1]> : tensor<1xi64>} : () -> tensor<1xi64>
      %0:3 = onnx.Loop(%m, %none, %x, %s0, %e) ({
      ^bb0(%i: tensor<i64>, %go: tensor<i1>, %v: tensor<?x4xf32>, %s: tensor<?xi64>, %l: tensor<?xi64>):
        %y = onnx.Concat(%v, %x) {axis = 0 : i64} : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
        %z = onnx.Shape(%y) : (tensor<?x4xf32>) -> tensor<2xi64>
        %j = onnx.Reshape(%i, %one) : (tensor<i64>, tensor<1xi64>) -> tensor<1xi64>
        %w = onnx.Concat(%l, %j) {axis = 0 : i64} : (tensor<?xi64>, tensor<1xi64>) -> tensor<?xi64>
        onnx.yield(%go, %y, %z, %w) : (tensor<i1>, tensor<?x4xf32>, tensor<2xi64>, tensor<?xi64>) -> ()
      }) : (tensor<i64>, none, tensor<?x4xf32>, tensor<2xi64>, tensor<0xi64>) -> (tensor<?x4xf32>, tensor<?xi64>, tensor<?xi64>)
      return %0#0, %0#1, %0#2 : tensor<?x4xf32>, tensor<?xi64>, tensor<?xi64>
    })";
  for (int64_t m : {0, 1, 4})
    for (int64_t n : {0, 2})
      expectSameModule(ir, {count(m), iota({n, 4})});
}

TEST(Loop, SwapsAndPassesThrough) {
  // Carried values change places, so that each iteration owns what the other one made.
  std::string ir = R"(
    func.func @main(%m: tensor<i64>, %x: tensor<?xf32>, %y: tensor<?xf32>) -> (tensor<?xf32>, tensor<?xf32>, tensor<?xf32>) {
      %none = onnx.none : () -> none
      %n = onnx.Neg(%x) : (tensor<?xf32>) -> tensor<?xf32>
      %0:3 = onnx.Loop(%m, %none, %n, %y, %y) ({
      ^bb0(%i: tensor<i64>, %go: tensor<i1>, %a: tensor<?xf32>, %b: tensor<?xf32>, %c: tensor<?xf32>):
        onnx.yield(%go, %b, %a, %x) : (tensor<i1>, tensor<?xf32>, tensor<?xf32>, tensor<?xf32>) -> ()
      }) : (tensor<i64>, none, tensor<?xf32>, tensor<?xf32>, tensor<?xf32>) -> (tensor<?xf32>, tensor<?xf32>, tensor<?xf32>)
      return %0#0, %0#1, %0#2 : tensor<?xf32>, tensor<?xf32>, tensor<?xf32>
    })";
  for (int64_t m : {0, 1, 2, 5})
    expectSameModule(ir, {count(m), iota({3}), iota({2}, 10)});
}

TEST(Loop, Nested) {
  // An If in a Loop in a Loop, with values of both around; the inner count is the outer index.
  std::string ir = R"(
    func.func @main(%m: tensor<i64>, %x: tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
      %none = onnx.none : () -> none
      %two = onnx.Constant {value = dense<2> : tensor<i64>} : () -> tensor<i64>
      %zero = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
      %0:2 = onnx.Loop(%m, %none, %x) ({
      ^bb0(%i: tensor<i64>, %go: tensor<i1>, %v: tensor<?x4xf32>):
        %1:2 = onnx.Loop(%i, %none, %v) ({
        ^bb0(%j: tensor<i64>, %go2: tensor<i1>, %w: tensor<?x4xf32>):
          %r = onnx.Mod(%j, %two) : (tensor<i64>, tensor<i64>) -> tensor<i64>
          %c = onnx.Equal(%r, %zero) : (tensor<i64>, tensor<i64>) -> tensor<i1>
          %2 = onnx.If(%c) ({
            %a = onnx.Add(%w, %v) : (tensor<?x4xf32>, tensor<?x4xf32>) -> tensor<?x4xf32>
            onnx.yield(%a) : (tensor<?x4xf32>) -> ()
          }, {
            onnx.yield(%w) : (tensor<?x4xf32>) -> ()
          }) : (tensor<i1>) -> tensor<?x4xf32>
          %d = onnx.Gather(%2, %zero) {axis = 0 : i64} : (tensor<?x4xf32>, tensor<i64>) -> tensor<4xf32>
          onnx.yield(%go2, %2, %d) : (tensor<i1>, tensor<?x4xf32>, tensor<4xf32>) -> ()
        }) : (tensor<i64>, none, tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>)
        %s = onnx.ReduceSum(%1#1, %zero) {keepdims = 0 : i64} : (tensor<?x4xf32>, tensor<i64>) -> tensor<4xf32>
        onnx.yield(%go, %1#0, %s) : (tensor<i1>, tensor<?x4xf32>, tensor<4xf32>) -> ()
      }) : (tensor<i64>, none, tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>)
      return %0#0, %0#1 : tensor<?x4xf32>, tensor<?x4xf32>
    })";
  for (int64_t m : {0, 1, 5})
    expectSameModule(ir, {count(m), iota({2, 4}, 1)});
}

TEST(Loop, WeightsInTheBody) {
  // A constant and a large constant tensor as first values and inside.
  std::string ir = R"(
    func.func @main(%m: tensor<i64>, %x: tensor<2x2xf32>) -> (tensor<2x2xf32>, tensor<2x2xf32>) {
      %none = onnx.none : () -> none
      %w = onnx.Constant {value = dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
      %o = onnx.Constant {value = dense<1.0> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
      %0:2 = onnx.Loop(%m, %none, %w, %o) ({
      ^bb0(%i: tensor<i64>, %go: tensor<i1>, %v: tensor<2x2xf32>, %u: tensor<2x2xf32>):
        %y = onnx.MatMul(%x, %v) : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
        %z = onnx.Sub(%y, %w) : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
        onnx.yield(%go, %z, %v) : (tensor<i1>, tensor<2x2xf32>, tensor<2x2xf32>) -> ()
      }) : (tensor<i64>, none, tensor<2x2xf32>, tensor<2x2xf32>) -> (tensor<2x2xf32>, tensor<2x2xf32>)
      return %0#0, %0#1 : tensor<2x2xf32>, tensor<2x2xf32>
    })";
  for (int64_t m : {0, 1, 3})
    expectSameModule(ir, {count(m), iota({2, 2}, 0.5, 0.25)});
}

TEST(Loop, MemoryDoesNotGrow) {
  // An If inside frees what each of its branches made; sequences are built and dropped.
  std::string ir = R"(
    func.func @main(%m: tensor<i64>, %x: tensor<256x4xf32>) -> tensor<256x4xf32> {
      %none = onnx.none : () -> none
      %two = onnx.Constant {value = dense<2> : tensor<i64>} : () -> tensor<i64>
      %zero = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
      %0 = onnx.Loop(%m, %none, %x) ({
      ^bb0(%i: tensor<i64>, %go: tensor<i1>, %v: tensor<256x4xf32>):
        %r = onnx.Mod(%i, %two) : (tensor<i64>, tensor<i64>) -> tensor<i64>
        %c = onnx.Equal(%r, %zero) : (tensor<i64>, tensor<i64>) -> tensor<i1>
        %1 = onnx.If(%c) ({
          %a = onnx.CumSum(%v, %zero) : (tensor<256x4xf32>, tensor<i64>) -> tensor<256x4xf32>
          %b = onnx.Softmax(%a) {axis = 1 : i64} : (tensor<256x4xf32>) -> tensor<256x4xf32>
          onnx.yield(%b) : (tensor<256x4xf32>) -> ()
        }, {
          onnx.yield(%v) : (tensor<256x4xf32>) -> ()
        }) : (tensor<i1>) -> tensor<256x4xf32>
        %s = onnx.SequenceConstruct(%1, %v) : (tensor<256x4xf32>, tensor<256x4xf32>) -> !onnx.sequence<tensor<256x4xf32>>
        %t = onnx.SequenceAt(%s, %r) : (!onnx.sequence<tensor<256x4xf32>>, tensor<i64>) -> tensor<256x4xf32>
        onnx.yield(%go, %t) : (tensor<i1>, tensor<256x4xf32>) -> ()
      }) : (tensor<i64>, none, tensor<256x4xf32>) -> tensor<256x4xf32>
      return %0 : tensor<256x4xf32>
    })";
  uint64_t few = 0, many = 0;
  ASSERT_EQ(runCompiled(ir, {count(4), iota({256, 4}, 0, 1e-3)}, &few).error, "");
  ASSERT_EQ(runCompiled(ir, {count(400), iota({256, 4}, 0, 1e-3)}, &many).error, "");
  EXPECT_EQ(few, many);
  expectSameModule(ir, {count(5), iota({256, 4}, 0, 1e-3)}, 1e-5);
}

// --- Scan ---

TEST(Scan, AxesAndDirections) {
  std::string ir = R"(
    func.func @main(%s: tensor<?xf32>, %x: tensor<?x3x?xf32>, %y: tensor<?x?xf32>)
        -> (tensor<?xf32>, tensor<?x?xf32>, tensor<?x?xf32>) {
      %axis = onnx.Constant {value = dense<0> : tensor<1xi64>} : () -> tensor<1xi64>
      %0:3 = onnx.Scan(%s, %x, %y) ({
      ^bb0(%v: tensor<?xf32>, %a: tensor<3x?xf32>, %b: tensor<?xf32>):
        %r = onnx.ReduceSum(%a, %axis) {keepdims = 0 : i64} : (tensor<3x?xf32>, tensor<1xi64>) -> tensor<?xf32>
        %t = onnx.Add(%v, %r) : (tensor<?xf32>, tensor<?xf32>) -> tensor<?xf32>
        %u = onnx.Mul(%t, %b) : (tensor<?xf32>, tensor<?xf32>) -> tensor<?xf32>
        onnx.yield(%t, %u, %b) : (tensor<?xf32>, tensor<?xf32>, tensor<?xf32>) -> ()
      }) {num_scan_inputs = 2 : i64, scan_input_axes = array<i64: 0, -1>, scan_input_directions = array<i64: 0, 1>,
          scan_output_axes = array<i64: 1, 0>, scan_output_directions = array<i64: 0, 1>}
        : (tensor<?xf32>, tensor<?x3x?xf32>, tensor<?x?xf32>) -> (tensor<?xf32>, tensor<?x?xf32>, tensor<?x?xf32>)
      return %0#0, %0#1, %0#2 : tensor<?xf32>, tensor<?x?xf32>, tensor<?x?xf32>
    })";
  expectSameModule(ir, {iota({2}), iota({4, 3, 2}), iota({2, 4}, 5)});
  expectSameModule(ir, {iota({2}), iota({1, 3, 2}), iota({2, 1}, 5)});
  Outcome out = runCompiled(ir, {iota({2}), iota({4, 3, 2}), iota({2, 3}, 5)});
  EXPECT_NE(out.error.find("scanned inputs differ in length"), std::string::npos) << out.error;
}

} // namespace
