// RUN: moe-opt %s --canonicalize --cse | FileCheck %s

// CHECK-LABEL: func.func @same
// CHECK-SAME: (%[[X:.*]]: tensor<?x8xf32>)
// CHECK-NEXT: return %[[X]]
func.func @same(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %one = onnx.Constant {value = dense<1.0> : tensor<1x1xf32>} : () -> tensor<1x1xf32>
  %zero = onnx.Constant {value = dense<0.0> : tensor<f32>} : () -> tensor<f32>
  %0 = onnx.Identity(%x) : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %1 = onnx.Cast(%0) {to = 1 : i64} : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %2 = onnx.Mul(%one, %1) : (tensor<1x1xf32>, tensor<?x8xf32>) -> tensor<?x8xf32>
  %3 = onnx.Div(%2, %one) : (tensor<?x8xf32>, tensor<1x1xf32>) -> tensor<?x8xf32>
  %4 = onnx.Sub(%3, %zero) : (tensor<?x8xf32>, tensor<f32>) -> tensor<?x8xf32>
  %5 = onnx.Transpose(%4) {perm = array<i64: 0, 1>} : (tensor<?x8xf32>) -> tensor<?x8xf32>
  %6 = onnx.Concat(%5) {axis = 0 : i64} : (tensor<?x8xf32>) -> tensor<?x8xf32>
  return %6 : tensor<?x8xf32>
}

// -0.0 + 0.0 is 0.0, and a constant may broadcast: both stay.
// CHECK-LABEL: func.func @not_the_same
// CHECK: onnx.Add
// CHECK: onnx.Mul
func.func @not_the_same(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %zero = onnx.Constant {value = dense<0.0> : tensor<f32>} : () -> tensor<f32>
  %ones = onnx.Constant {value = dense<1.0> : tensor<3x1xf32>} : () -> tensor<3x1xf32>
  %0 = onnx.Add(%x, %zero) : (tensor<?x8xf32>, tensor<f32>) -> tensor<?x8xf32>
  %1 = onnx.Mul(%0, %ones) : (tensor<?x8xf32>, tensor<3x1xf32>) -> tensor<?x8xf32>
  return %1 : tensor<?x8xf32>
}

// CHECK-LABEL: func.func @reshape_to_itself
// CHECK-NEXT: return %{{.*}} : tensor<2x4xf32>
func.func @reshape_to_itself(%x: tensor<2x4xf32>, %s: tensor<2xi64>) -> tensor<2x4xf32> {
  %0 = onnx.Reshape(%x, %s) {allowzero = 0 : i64} : (tensor<2x4xf32>, tensor<2xi64>) -> tensor<2x4xf32>
  return %0 : tensor<2x4xf32>
}

// The last dimension is known although the first is not.
// CHECK-LABEL: func.func @shape_arithmetic
// CHECK-NEXT: %[[C:.*]] = onnx.Constant {value = dense<[-1, 32]> : tensor<2xi64>}
// CHECK-NEXT: onnx.Reshape(%{{.*}}, %[[C]])
func.func @shape_arithmetic(%x: tensor<?x4x8xf32>) -> tensor<?x32xf32> {
  %minus = onnx.Constant {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
  %two = onnx.Constant {value = dense<2> : tensor<i64>} : () -> tensor<i64>
  %one = onnx.Constant {value = dense<1> : tensor<1xi64>} : () -> tensor<1xi64>
  %axis = onnx.Constant {value = dense<0> : tensor<1xi64>} : () -> tensor<1xi64>
  %shape = onnx.Shape(%x) {start = 0 : i64} : (tensor<?x4x8xf32>) -> tensor<3xi64>
  %last = onnx.Gather(%shape, %two) {axis = 0 : i64} : (tensor<3xi64>, tensor<i64>) -> tensor<i64>
  %lasts = onnx.Unsqueeze(%last, %axis) : (tensor<i64>, tensor<1xi64>) -> tensor<1xi64>
  %none = onnx.none : () -> none
  %ends = onnx.Add(%one, %one) : (tensor<1xi64>, tensor<1xi64>) -> tensor<1xi64>
  %middle = onnx.Slice(%shape, %one, %ends, %none, %none)
      : (tensor<3xi64>, tensor<1xi64>, tensor<1xi64>, none, none) -> tensor<1xi64>
  %size = onnx.Mul(%middle, %lasts) : (tensor<1xi64>, tensor<1xi64>) -> tensor<1xi64>
  %to = onnx.Concat(%minus, %size) {axis = 0 : i64} : (tensor<1xi64>, tensor<1xi64>) -> tensor<2xi64>
  %0 = onnx.Reshape(%x, %to) {allowzero = 0 : i64} : (tensor<?x4x8xf32>, tensor<2xi64>) -> tensor<?x32xf32>
  return %0 : tensor<?x32xf32>
}

// A dynamic dimension stays unknown.
// CHECK-LABEL: func.func @unknown_dimension
// CHECK: onnx.Shape
// CHECK: onnx.Gather
func.func @unknown_dimension(%x: tensor<?x8xf32>) -> tensor<i64> {
  %zero = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
  %shape = onnx.Shape(%x) {start = 0 : i64} : (tensor<?x8xf32>) -> tensor<2xi64>
  %0 = onnx.Gather(%shape, %zero) {axis = 0 : i64} : (tensor<2xi64>, tensor<i64>) -> tensor<i64>
  return %0 : tensor<i64>
}

// CHECK-LABEL: func.func @attention_scale
// CHECK-NEXT: %[[C:.*]] = onnx.Constant {value = dense<1.250000e-01> : tensor<f32>}
// CHECK-NEXT: return %[[C]]
func.func @attention_scale() -> tensor<f32> {
  %d = onnx.Constant {value = dense<64> : tensor<i64>} : () -> tensor<i64>
  %one = onnx.Constant {value = dense<1.0> : tensor<f32>} : () -> tensor<f32>
  %f = onnx.Cast(%d) {to = 1 : i64} : (tensor<i64>) -> tensor<f32>
  %root = onnx.Sqrt(%f) : (tensor<f32>) -> tensor<f32>
  %0 = onnx.Div(%one, %root) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// Integer quotients are cut toward zero, sums wrap, f32 quotients are rounded to f32.
// CHECK-LABEL: func.func @arithmetic
// CHECK-DAG: dense<[-3, 3]> : tensor<2xi64>
// CHECK-DAG: dense<-2147483648> : tensor<i32>
// CHECK-DAG: dense<0.333333343> : tensor<f32>
func.func @arithmetic() -> (tensor<2xi64>, tensor<i32>, tensor<f32>) {
  %a = onnx.Constant {value = dense<[-7, 7]> : tensor<2xi64>} : () -> tensor<2xi64>
  %b = onnx.Constant {value = dense<2> : tensor<1xi64>} : () -> tensor<1xi64>
  %m = onnx.Constant {value = dense<2147483647> : tensor<i32>} : () -> tensor<i32>
  %i = onnx.Constant {value = dense<1> : tensor<i32>} : () -> tensor<i32>
  %f = onnx.Constant {value = dense<1.0> : tensor<f32>} : () -> tensor<f32>
  %g = onnx.Constant {value = dense<3.0> : tensor<f32>} : () -> tensor<f32>
  %0 = onnx.Div(%a, %b) : (tensor<2xi64>, tensor<1xi64>) -> tensor<2xi64>
  %1 = onnx.Add(%m, %i) : (tensor<i32>, tensor<i32>) -> tensor<i32>
  %2 = onnx.Div(%f, %g) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0, %1, %2 : tensor<2xi64>, tensor<i32>, tensor<f32>
}

// CHECK-LABEL: func.func @division_by_zero
// CHECK: onnx.Div
func.func @division_by_zero() -> tensor<i64> {
  %a = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
  %b = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
  %0 = onnx.Div(%a, %b) : (tensor<i64>, tensor<i64>) -> tensor<i64>
  return %0 : tensor<i64>
}

// CHECK-LABEL: func.func @where_range_expand
// CHECK-DAG: dense<[0, 1, 2, 3]> : tensor<4xi64>
// CHECK-DAG: dense<[9, 5]> : tensor<2xi64>
// CHECK-DAG: dense<{{\[\[}}7, 7], [8, 8]]> : tensor<2x2xi64>
// CHECK-DAG: dense<true> : tensor<3xi1>
func.func @where_range_expand() -> (tensor<4xi64>, tensor<2xi64>, tensor<2x2xi64>, tensor<3xi1>) {
  %0 = onnx.Constant {value = dense<0> : tensor<i64>} : () -> tensor<i64>
  %1 = onnx.Constant {value = dense<1> : tensor<i64>} : () -> tensor<i64>
  %4 = onnx.Constant {value = dense<4> : tensor<i64>} : () -> tensor<i64>
  %range = onnx.Range(%0, %4, %1) : (tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<4xi64>
  %a = onnx.Constant {value = dense<[-1, 5]> : tensor<2xi64>} : () -> tensor<2xi64>
  %nine = onnx.Constant {value = dense<9> : tensor<i64>} : () -> tensor<i64>
  %c = onnx.Less(%a, %0) : (tensor<2xi64>, tensor<i64>) -> tensor<2xi1>
  %where = onnx.Where(%c, %nine, %a) : (tensor<2xi1>, tensor<i64>, tensor<2xi64>) -> tensor<2xi64>
  %column = onnx.Constant {value = dense<[[7], [8]]> : tensor<2x1xi64>} : () -> tensor<2x1xi64>
  %s = onnx.Constant {value = dense<[2, 2]> : tensor<2xi64>} : () -> tensor<2xi64>
  %expand = onnx.Expand(%column, %s) : (tensor<2x1xi64>, tensor<2xi64>) -> tensor<2x2xi64>
  %three = onnx.Constant {value = dense<3> : tensor<1xi64>} : () -> tensor<1xi64>
  %fill = onnx.ConstantOfShape(%three) {value = dense<true> : tensor<1xi1>} : (tensor<1xi64>) -> tensor<3xi1>
  return %range, %where, %expand, %fill : tensor<4xi64>, tensor<2xi64>, tensor<2x2xi64>, tensor<3xi1>
}

// CHECK-LABEL: func.func @split_and_reduce
// CHECK-DAG: dense<[3, 4]> : tensor<2xi64>
// CHECK-DAG: dense<24> : tensor<i64>
func.func @split_and_reduce() -> (tensor<2xi64>, tensor<i64>) {
  %a = onnx.Constant {value = dense<[1, 2, 3, 4]> : tensor<4xi64>} : () -> tensor<4xi64>
  %axis = onnx.Constant {value = dense<0> : tensor<1xi64>} : () -> tensor<1xi64>
  %none = onnx.none : () -> none
  %0, %1 = onnx.Split(%a, %none) {axis = 0 : i64, num_outputs = 2 : i64}
      : (tensor<4xi64>, none) -> (tensor<2xi64>, tensor<2xi64>)
  %2 = onnx.ReduceProd(%a, %axis) {keepdims = 0 : i64, noop_with_empty_axes = 0 : i64}
      : (tensor<4xi64>, tensor<1xi64>) -> tensor<i64>
  return %1, %2 : tensor<2xi64>, tensor<i64>
}

// CHECK-LABEL: func.func @constant_condition
// CHECK-SAME: (%[[X:.*]]: tensor<?xf32>)
// CHECK-NEXT: %[[N:.*]] = onnx.Neg(%[[X]])
// CHECK-NEXT: return %[[N]]
func.func @constant_condition(%x: tensor<?xf32>) -> tensor<?xf32> {
  %c = onnx.Constant {value = dense<true> : tensor<1xi1>} : () -> tensor<1xi1>
  %0 = onnx.If(%c) ({
    %1 = onnx.Neg(%x) : (tensor<?xf32>) -> tensor<?xf32>
    onnx.yield(%1) : (tensor<?xf32>) -> ()
  }, {
    onnx.yield(%x) : (tensor<?xf32>) -> ()
  }) : (tensor<1xi1>) -> tensor<?xf32>
  return %0 : tensor<?xf32>
}

// The branch knows less of its result than the op does.
// CHECK-LABEL: func.func @constant_condition_types
// CHECK: onnx.Identity(%{{.*}}) : (tensor<?xf32>) -> tensor<4xf32>
func.func @constant_condition_types(%x: tensor<?xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
  %c = onnx.Constant {value = dense<false> : tensor<i1>} : () -> tensor<i1>
  %0 = onnx.If(%c) ({
    onnx.yield(%y) : (tensor<4xf32>) -> ()
  }, {
    onnx.yield(%x) : (tensor<?xf32>) -> ()
  }) : (tensor<i1>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// Equal ops are one; ops without a use go; operators of other domains stay.
// CHECK-LABEL: func.func @common_and_dead
// CHECK-COUNT-1: onnx.Exp
// CHECK: onnx.custom
// CHECK: onnx.custom
// CHECK-NOT: onnx.Exp
// CHECK: return
func.func @common_and_dead(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = onnx.Exp(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = onnx.Exp(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %2 = onnx.Neg(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %3 = onnx.Mul(%0, %1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %4 = onnx.custom(%x) {domain = "com.example", op_type = "Op"} : (tensor<4xf32>) -> tensor<4xf32>
  %5 = onnx.custom(%x) {domain = "com.example", op_type = "Op"} : (tensor<4xf32>) -> tensor<4xf32>
  return %3 : tensor<4xf32>
}

// Tensors that are not small stay as they are.
// CHECK-LABEL: func.func @large
// CHECK: onnx.Neg
func.func @large() -> tensor<5000xi64> {
  %a = onnx.Constant {value = dense<1> : tensor<5000xi64>} : () -> tensor<5000xi64>
  %0 = onnx.Neg(%a) : (tensor<5000xi64>) -> tensor<5000xi64>
  return %0 : tensor<5000xi64>
}

// Sequences of known elements are their elements.
// CHECK-LABEL: func.func @sequences
// CHECK-SAME: (%[[X:.*]]: tensor<?x5xf32>
// CHECK-DAG: %[[S:.*]] = onnx.Constant {value = dense<[2, 2, 1]> : tensor<3xi64>}
// CHECK-DAG: %[[L:.*]] = onnx.Constant {value = dense<4> : tensor<i64>}
// CHECK: %[[P:.*]]:3 = onnx.Split(%[[X]], %[[S]]) {axis = 1 : i64}
// CHECK-SAME: -> (tensor<?x2xf32>, tensor<?x2xf32>, tensor<?x1xf32>)
// CHECK: %[[N:.*]] = onnx.Neg(%[[P]]#1)
// CHECK: %[[J:.*]] = onnx.Concat(%[[P]]#0, %[[N]], %[[P]]#1) {axis = 1 : i64}
// CHECK-NOT: sequence
// CHECK: return %[[N]], %[[L]], %[[J]]
func.func @sequences(%x: tensor<?x5xf32>) -> (tensor<?x2xf32>, tensor<i64>, tensor<?x6xf32>) {
  %none = onnx.none : () -> none
  %two = onnx.Constant {value = dense<2> : tensor<i64>} : () -> tensor<i64>
  %last = onnx.Constant {value = dense<-2> : tensor<i64>} : () -> tensor<i64>
  %0 = onnx.SplitToSequence(%x, %two) {axis = -1 : i64} : (tensor<?x5xf32>, tensor<i64>) -> !onnx.sequence<tensor<?x?xf32>>
  %1 = onnx.SequenceAt(%0, %last) : (!onnx.sequence<tensor<?x?xf32>>, tensor<i64>) -> tensor<?x2xf32>
  %2 = onnx.Neg(%1) : (tensor<?x2xf32>) -> tensor<?x2xf32>
  %3 = onnx.SequenceInsert(%0, %2, %last) : (!onnx.sequence<tensor<?x?xf32>>, tensor<?x2xf32>, tensor<i64>) -> !onnx.sequence<tensor<?x?xf32>>
  %4 = onnx.SequenceLength(%3) : (!onnx.sequence<tensor<?x?xf32>>) -> tensor<i64>
  %5 = onnx.SequenceErase(%3, %none) : (!onnx.sequence<tensor<?x?xf32>>, none) -> !onnx.sequence<tensor<?x?xf32>>
  %6 = onnx.ConcatFromSequence(%5) {axis = 1 : i64} : (!onnx.sequence<tensor<?x?xf32>>) -> tensor<?x6xf32>
  return %2, %4, %6 : tensor<?x2xf32>, tensor<i64>, tensor<?x6xf32>
}

// CHECK-LABEL: func.func @stacked_list
// CHECK: %[[A:.*]] = onnx.Unsqueeze(%{{.*}}) : (tensor<?x4xf32>, tensor<1xi64>) -> tensor<?x1x4xf32>
// CHECK: onnx.Concat(%[[A]], %[[A]]) {axis = 1 : i64}
func.func @stacked_list(%x: tensor<?x4xf32>) -> tensor<?x2x4xf32> {
  %none = onnx.none : () -> none
  %0 = onnx.SequenceEmpty {dtype = 1 : i64} : () -> !onnx.sequence<tensor<*xf32>>
  %1 = onnx.SequenceInsert(%0, %x, %none) : (!onnx.sequence<tensor<*xf32>>, tensor<?x4xf32>, none) -> !onnx.sequence<tensor<*xf32>>
  %2 = onnx.SequenceInsert(%1, %x, %none) : (!onnx.sequence<tensor<*xf32>>, tensor<?x4xf32>, none) -> !onnx.sequence<tensor<*xf32>>
  %3 = onnx.ConcatFromSequence(%2) {axis = 1 : i64, new_axis = 1 : i64} : (!onnx.sequence<tensor<*xf32>>) -> tensor<?x2x4xf32>
  return %3 : tensor<?x2x4xf32>
}
