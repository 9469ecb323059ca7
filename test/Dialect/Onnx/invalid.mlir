// RUN: moe-opt %s --split-input-file --verify-diagnostics

func.func @constant_type() {
  // expected-error @+1 {{has a value of type 'tensor<2xi64>' but a result of type 'tensor<2xi32>'}}
  %0 = onnx.Constant {value = dense<1> : tensor<2xi64>} : () -> tensor<2xi32>
  return
}

// -----

func.func @constant_value() {
  // expected-error @+1 {{requires attribute 'value'}}
  %0 = onnx.Constant : () -> tensor<2xi32>
  return
}

// -----

func.func @operand_count(%x: tensor<4xf32>) {
  // expected-error @+1 {{expected 2 operands, but found 1}}
  %0 = onnx.Add(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @result_count(%x: tensor<4xf32>) {
  // expected-error @+1 {{requires one result}}
  onnx.Neg(%x) : (tensor<4xf32>) -> ()
  return
}

// -----

func.func @absent_required() {
  %none = onnx.none : () -> none
  // expected-error @+1 {{operand #0 must be tensor of any type values, but got 'none'}}
  %0 = onnx.Neg(%none) : (none) -> tensor<4xf32>
  return
}

// -----

func.func @type_count(%x: tensor<4xf32>) {
  // expected-error @+1 {{number of operands and types do not match: got 1 operands and 2 types}}
  %0 = onnx.Neg(%x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @attribute_kind(%x: tensor<4xf32>) {
  // expected-error @+1 {{attribute 'to' failed to satisfy constraint: 64-bit signless integer attribute}}
  %0 = onnx.Cast(%x) {to = "f32"} : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @custom_name(%x: tensor<4xf32>) {
  // expected-error @+1 {{needs the name of its operator in 'op_type'}}
  %0 = onnx.custom(%x) {domain = "com.example", op_type = ""} : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @custom_attributes(%x: tensor<4xf32>) {
  // expected-error @+1 {{needs a dictionary in 'attributes'}}
  %0 = onnx.custom(%x) {attributes = 1 : i64, domain = "com.example", op_type = "Op"}
      : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @body_blocks(%c: tensor<i1>, %x: tensor<4xf32>) {
  // expected-error @+1 {{needs exactly one block in 'else_branch'}}
  %0 = onnx.If(%c) ({
    onnx.yield(%x) : (tensor<4xf32>) -> ()
  }, {}) : (tensor<i1>) -> tensor<4xf32>
  return
}

// -----

func.func @body_arguments(%n: tensor<i64>, %c: tensor<i1>, %x: tensor<4xf32>) {
  // expected-error @+1 {{'body' takes 2 arguments but 3 are given}}
  %0 = onnx.Loop(%n, %c, %x) ({
  ^bb0(%i: tensor<i64>, %again: tensor<i1>):
    onnx.yield(%again, %x) : (tensor<i1>, tensor<4xf32>) -> ()
  }) : (tensor<i64>, tensor<i1>, tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @body_end(%c: tensor<i1>, %x: tensor<4xf32>) {
  // expected-error @+1 {{'then_branch' must end with onnx.yield}}
  %0 = onnx.If(%c) ({
    func.return
  }, {
    onnx.yield(%x) : (tensor<4xf32>) -> ()
  }) : (tensor<i1>) -> tensor<4xf32>
  return
}

// -----

func.func @body_results(%c: tensor<i1>, %x: tensor<4xf32>) {
  // expected-error @+1 {{'else_branch' yields 2 values but 1 are needed}}
  %0 = onnx.If(%c) ({
    onnx.yield(%x) : (tensor<4xf32>) -> ()
  }, {
    onnx.yield(%x, %x) : (tensor<4xf32>, tensor<4xf32>) -> ()
  }) : (tensor<i1>) -> tensor<4xf32>
  return
}
