// RUN: moe-opt %s --split-input-file --verify-diagnostics

moe.weights @weights {
  // expected-error @+1 {{cannot stand in moe.weights, which holds only weight steps}}
  %0 = onnx.Constant {value = dense<1.0> : tensor<4xf32>} : () -> tensor<4xf32>
}

// -----

moe.weights @weights {}
// expected-error @+1 {{is the second one of its module; a module has one}}
moe.weights @more {}

// -----

moe.weights @weights {
  %0 = moe.weight.literal dense<1.0> : tensor<4xf32>
  // expected-note @+1 {{see existing symbol definition here}}
  moe.weight.bind @w %0 : tensor<4xf32>
  // expected-error @+1 {{redefinition of symbol named 'w'}}
  moe.weight.bind @w %0 : tensor<4xf32>
}

// -----

// expected-error @+1 {{expects parent op 'moe.weights'}}
%0 = moe.weight.literal dense<1.0> : tensor<4xf32>

// -----

func.func @use() {
  // expected-error @+1 {{reads the weight @w, which nothing binds}}
  %0 = moe.weight.use @w : tensor<4xf32>
  return
}

// -----

moe.weights @weights {
  %0 = moe.weight.literal dense<1.0> : tensor<4xf32>
  moe.weight.bind @w %0 : tensor<4xf32>
}
func.func @use() {
  // expected-error @+1 {{reads the weight @w of type 'tensor<4xf32>' as 'tensor<4xf16>'}}
  %0 = moe.weight.use @w : tensor<4xf16>
  return
}

// -----

moe.weights @weights {
  // expected-error @+1 {{needs the name of a file}}
  %0 = moe.weight.load "" at 0 : tensor<4xf32>
}

// -----

moe.weights @weights {
  // expected-error @+1 {{needs an offset that is not negative}}
  %0 = moe.weight.load "w.bin" at -4 : tensor<4xf32>
}

// -----

moe.weights @weights {
  // expected-error @+1 {{cannot load elements of type 'complex<f32>'}}
  %0 = moe.weight.load "w.bin" at 0 : tensor<4xcomplex<f32>>
}

// -----

moe.weights @weights {
  // expected-error @+1 {{must be statically shaped tensor of any type values}}
  %0 = moe.weight.load "w.bin" at 0 : tensor<?xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4x2xf32>
  // expected-error @+1 {{makes the shape [4, 2], not [2, 4]}}
  %1 = moe.weight.cast %0 : tensor<4x2xf32> -> tensor<2x4xf16>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4xf32>
  // expected-error @+1 {{converts between integers and floats only}}
  %1 = moe.weight.cast %0 : tensor<4xf32> -> tensor<4xindex>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4x2xf32>
  // expected-error @+1 {{needs each axis of its input once in perm}}
  %1 = moe.weight.transpose %0 [0, 0] : tensor<4x2xf32> -> tensor<4x4xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4x2xf32>
  // expected-error @+1 {{makes the shape [2, 4], not [4, 2]}}
  %1 = moe.weight.transpose %0 [1, 0] : tensor<4x2xf32> -> tensor<4x2xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4x2xf32>
  // expected-error @+1 {{must keep the element type 'f32'}}
  %1 = moe.weight.transpose %0 [1, 0] : tensor<4x2xf32> -> tensor<2x4xf16>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4x2xf32>
  // expected-error @+1 {{cannot make [9] of [4, 2]: the numbers of elements differ}}
  %1 = moe.weight.reshape %0 : tensor<4x2xf32> -> tensor<9xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4x2xf32>
  // expected-error @+1 {{needs an offset, a size and a stride for each of 2 axes}}
  %1 = moe.weight.slice %0 [0] [4, 2] [1, 1] : tensor<4x2xf32> -> tensor<4x2xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4x2xf32>
  // expected-error @+1 {{leaves its input along axis 0: offset 1, size 2, stride 3, of 4 elements}}
  %1 = moe.weight.slice %0 [1, 0] [2, 2] [3, 1] : tensor<4x2xf32> -> tensor<2x2xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4x2xf32>
  // expected-error @+1 {{has axis 2 of a tensor of rank 2}}
  %1 = moe.weight.gather %0 axis 2 [0] : tensor<4x2xf32> -> tensor<1x2xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4x2xf32>
  // expected-error @+1 {{has index 4 among 4 slices}}
  %1 = moe.weight.gather %0 axis 0 [4] : tensor<4x2xf32> -> tensor<1x2xf32>
}

// -----

moe.weights @weights {
  // expected-error @+1 {{needs at least one input}}
  %1 = "moe.weight.concat"() {axis = 0 : i64} : () -> tensor<4xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4x2xf32>
  %1 = moe.weight.load "w.bin" at 0 : tensor<4xf32>
  // expected-error @+1 {{joins tensors of one rank only}}
  %2 = moe.weight.concat %0, %1 axis 0 : (tensor<4x2xf32>, tensor<4xf32>) -> tensor<8x2xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4x2xf32>
  %1 = moe.weight.load "w.bin" at 0 : tensor<4x3xf32>
  // expected-error @+1 {{joins tensors that differ along axis 0 only, not [4, 2] and [4, 3]}}
  %2 = moe.weight.concat %0, %1 axis 0 : (tensor<4x2xf32>, tensor<4x3xf32>) -> tensor<8x2xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4xf32>
  // expected-error @+1 {{needs one coefficient for each input, and an input; it has 1 inputs and 2 coefficients}}
  %1 = moe.weight.combine %0 [0.5, 0.5] : (tensor<4xf32>) -> tensor<4xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4xf16>
  // expected-error @+1 {{combines tensors of its result's type only, not 'tensor<4xf16>'}}
  %1 = moe.weight.combine %0 [0.5] : (tensor<4xf16>) -> tensor<4xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4xi8>
  // expected-error @+1 {{combines floats only}}
  %1 = moe.weight.combine %0 [0.5] : (tensor<4xi8>) -> tensor<4xi8>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4xf32>
  // expected-error @+1 {{needs finite coefficients}}
  %1 = moe.weight.combine %0 [0x7FF0000000000000] : (tensor<4xf32>) -> tensor<4xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<2x4x3xf32>
  %1 = moe.weight.load "w.bin" at 0 : tensor<2x4x3xf32>
  // expected-error @+1 {{cannot multiply [2, 4, 3] by [2, 4, 3]}}
  %2 = moe.weight.low_rank %0, %1 : (tensor<2x4x3xf32>, tensor<2x4x3xf32>) -> tensor<2x4x3xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.load "w.bin" at 0 : tensor<4x3xi8>
  %1 = moe.weight.load "w.bin" at 0 : tensor<3x2xi8>
  // expected-error @+1 {{multiplies floats only}}
  %2 = moe.weight.low_rank %0, %1 : (tensor<4x3xi8>, tensor<3x2xi8>) -> tensor<4x2xi8>
}

// -----

moe.weights @weights {
  %0 = moe.weight.literal dense<1> : tensor<4xi16>
  // expected-error @+1 {{reads bytes as elements of 2, 4 or 8 bits, not 'i16' as 'ui4'}}
  %1 = moe.weight.unpack %0 : tensor<4xi16> -> tensor<8xui4>
}

// -----

moe.weights @weights {
  %0 = moe.weight.literal dense<1> : tensor<2x4xui8>
  // expected-error @+1 {{makes the shape [2, 16], not [2, 8]}}
  %1 = moe.weight.unpack %0 : tensor<2x4xui8> -> tensor<2x8xi2>
}

// -----

moe.weights @weights {
  %0 = moe.weight.literal dense<1> : tensor<2x4xui8>
  %1 = moe.weight.literal dense<1.0> : tensor<2xf32>
  // expected-error @+1 {{needs scales and zero points of its input's rank, 2}}
  %2 = moe.weight.dequantize %0, %1 blocks [1, 4] : (tensor<2x4xui8>, tensor<2xf32>) -> tensor<2x4xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.literal dense<1> : tensor<2x4xui8>
  %1 = moe.weight.literal dense<1.0> : tensor<2x1xf32>
  // expected-error @+1 {{needs a block size of at least 1 for each of 2 axes}}
  %2 = moe.weight.dequantize %0, %1 blocks [1, 0] : (tensor<2x4xui8>, tensor<2x1xf32>) -> tensor<2x4xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.literal dense<1> : tensor<2x5xui8>
  %1 = moe.weight.literal dense<1.0> : tensor<2x1xf32>
  // expected-error @+1 {{has scales [2, 1] for blocks [2, 2]}}
  %2 = moe.weight.dequantize %0, %1 blocks [1, 4] : (tensor<2x5xui8>, tensor<2x1xf32>) -> tensor<2x5xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.literal dense<1> : tensor<2x4xui8>
  %1 = moe.weight.literal dense<1.0> : tensor<2x2xf32>
  %2 = moe.weight.literal dense<1> : tensor<2x1xui8>
  // expected-error @+1 {{has zero points [2, 1] beside scales [2, 2]}}
  %3 = moe.weight.dequantize %0, %1 zero_point %2 blocks [1, 2]
      : (tensor<2x4xui8>, tensor<2x2xf32>, tensor<2x1xui8>) -> tensor<2x4xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.literal dense<1> : tensor<4xui8>
  %1 = moe.weight.literal dense<1> : tensor<1xui8>
  // expected-error @+1 {{makes floats of integers or floats with scales that are floats}}
  %2 = moe.weight.dequantize %0, %1 blocks [4] : (tensor<4xui8>, tensor<1xui8>) -> tensor<4xf32>
}

// -----

moe.weights @weights {
  %0 = moe.weight.literal dense<1> : tensor<4xui8>
  %1 = moe.weight.literal dense<1.0> : tensor<1xf32>
  // expected-error @+1 {{makes the shape [4], not [2, 2]}}
  %2 = moe.weight.dequantize %0, %1 blocks [4] : (tensor<4xui8>, tensor<1xf32>) -> tensor<2x2xf32>
}
