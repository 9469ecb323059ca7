// Weights as values: the `moe.weights` op, the steps in it, and their use.
#ifndef MOEC_DIALECT_MOE_MOEWEIGHTOPS_TD
#define MOEC_DIALECT_MOE_MOEWEIGHTOPS_TD

include "moec/Dialect/MoE/MoEDialect.td"

def MoE_WeightsOp : MoE_Op<"weights", [IsolatedFromAbove, NoRegionArguments, NoTerminator,
                                       SingleBlock, Symbol, SymbolTable]> {
  let summary = "the weights of a module, as values";
  let description = [{
    Holds the steps that make the module's weights: each value is a weight, or a stage on the way
    to one. Nothing here runs when the model runs: the linker evaluates the steps, streaming, when
    it packs the weights file. A module has at most one such op; `sym_name` is its name, by
    convention `weights`.

    Example:
    ```mlir
    moe.weights @weights {
      %0 = moe.weight.load "model.onnx.data" at 4096 : tensor<8x32x96xf16>
      %1 = moe.weight.transpose %0 [0, 2, 1] : tensor<8x32x96xf16> -> tensor<8x96x32xf16>
      %2 = moe.weight.cast %1 : tensor<8x96x32xf16> -> tensor<8x96x32xf32>
      moe.weight.bind @layer0.up %2 : tensor<8x96x32xf32>
    }
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name attr-dict-with-keyword $body";
  let hasVerifier = 1;
}

// A step: pure, from static tensors to one static tensor, inside moe.weights.
class MoE_Step<string mnemonic, list<Trait> traits = []>
    : MoE_Op<"weight." # mnemonic, !listconcat([Pure, HasParent<"WeightsOp">], traits)> {
  let results = (outs AnyStaticShapeTensor:$result);
}

def MoE_WeightLoadOp : MoE_Step<"load"> {
  let summary = "a tensor stored in a file";
  let description = [{
    The elements of the result, row-major and little-endian, from byte `offset` of `file` on. The
    path is relative to the model's folder and must stay inside it (`docs/security.md`).

    Example:
    ```mlir
    moe.weights @weights {
      %0 = moe.weight.load "model.onnx.data" at 4096 : tensor<8x96x32xf16>
    }
    ```
  }];
  let arguments = (ins StrAttr:$file, I64Attr:$offset);
  let assemblyFormat = "$file `at` $offset attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def MoE_WeightLiteralOp : MoE_Step<"literal", [AllTypesMatch<["value", "result"]>]> {
  let summary = "a tensor given in the IR";
  let description = [{
    The elements of `value`; for small tensors, large ones stay in files.

    Example:
    ```mlir
    moe.weights @weights {
      %0 = moe.weight.literal dense<[1.0, 0.5]> : tensor<2xf32>
    }
    ```
  }];
  let arguments = (ins ElementsAttr:$value);
  let assemblyFormat = "$value attr-dict";
}

def MoE_WeightCastOp : MoE_Step<"cast"> {
  let summary = "the same numbers in another element type";
  let description = [{
    Converts each element; to a narrower float it rounds to nearest, ties to even.

    Example:
    ```mlir
    moe.weights @weights {
      %0 = moe.weight.load "w.bin" at 0 : tensor<8x4xf16>
      %1 = moe.weight.cast %0 : tensor<8x4xf16> -> tensor<8x4xf32>
    }
    ```
  }];
  let arguments = (ins AnyStaticShapeTensor:$input);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def MoE_WeightTransposeOp : MoE_Step<"transpose"> {
  let summary = "axes in another order";
  let description = [{
    Axis `i` of the result is axis `perm[i]` of the input.

    Example:
    ```mlir
    moe.weights @weights {
      %0 = moe.weight.load "w.bin" at 0 : tensor<8x32x96xf32>
      %1 = moe.weight.transpose %0 [0, 2, 1] : tensor<8x32x96xf32> -> tensor<8x96x32xf32>
    }
    ```
  }];
  let arguments = (ins AnyStaticShapeTensor:$input, DenseI64ArrayAttr:$perm);
  let assemblyFormat = "$input $perm attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
  let hasCanonicalizer = 1;
}

def MoE_WeightReshapeOp : MoE_Step<"reshape"> {
  let summary = "the same elements, row-major, in another shape";
  let description = [{
    Example:
    ```mlir
    moe.weights @weights {
      %0 = moe.weight.load "w.bin" at 0 : tensor<8x32xf32>
      %1 = moe.weight.reshape %0 : tensor<8x32xf32> -> tensor<256xf32>
    }
    ```
  }];
  let arguments = (ins AnyStaticShapeTensor:$input);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
  let hasCanonicalizer = 1;
}

def MoE_WeightSliceOp : MoE_Step<"slice"> {
  let summary = "a regular part of a tensor";
  let description = [{
    Along each axis `a`, the `sizes[a]` elements at `offsets[a]`, `offsets[a] + strides[a]` and so
    on. The three lists print in this order: `offsets`, `sizes`, `strides`.

    Example:
    ```mlir
    moe.weights @weights {
      %0 = moe.weight.load "w.bin" at 0 : tensor<8x96x32xf32>
      %odd = moe.weight.slice %0 [0, 1, 0] [8, 48, 32] [1, 2, 1]
          : tensor<8x96x32xf32> -> tensor<8x48x32xf32>
    }
    ```
  }];
  let arguments = (ins AnyStaticShapeTensor:$input, DenseI64ArrayAttr:$offsets,
                       DenseI64ArrayAttr:$sizes, DenseI64ArrayAttr:$strides);
  let assemblyFormat = [{
    $input $offsets $sizes $strides attr-dict `:` type($input) `->` type($result)
  }];
  let hasVerifier = 1;
  let hasFolder = 1;
  let hasCanonicalizer = 1;
}

def MoE_WeightGatherOp : MoE_Step<"gather"> {
  let summary = "chosen slices along one axis";
  let description = [{
    Slice `i` of the result along `axis` is slice `indices[i]` of the input: prunes, permutes or
    repeats experts, rows or columns.

    Example:
    ```mlir
    moe.weights @weights {
      %0 = moe.weight.load "w.bin" at 0 : tensor<8x96x32xf32>
      %kept = moe.weight.gather %0 axis 0 [0, 2, 5] : tensor<8x96x32xf32> -> tensor<3x96x32xf32>
    }
    ```
  }];
  let arguments = (ins AnyStaticShapeTensor:$input, I64Attr:$axis, DenseI64ArrayAttr:$indices);
  let assemblyFormat = "$input `axis` $axis $indices attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def MoE_WeightConcatOp : MoE_Step<"concat"> {
  let summary = "tensors one after the other along one axis";
  let description = [{
    Joins the inputs, in order, along `axis`.

    Example:
    ```mlir
    moe.weights @weights {
      %0 = moe.weight.load "w.bin" at 0 : tensor<1x96x32xf32>
      %1 = moe.weight.load "w.bin" at 12288 : tensor<1x96x32xf32>
      %2 = moe.weight.concat %0, %1 axis 0
          : (tensor<1x96x32xf32>, tensor<1x96x32xf32>) -> tensor<2x96x32xf32>
    }
    ```
  }];
  let arguments = (ins Variadic<AnyStaticShapeTensor>:$inputs, I64Attr:$axis);
  let assemblyFormat = "$inputs `axis` $axis attr-dict `:` functional-type($inputs, $result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def MoE_WeightCombineOp : MoE_Step<"combine"> {
  let summary = "a linear combination of tensors";
  let description = [{
    `coefficients[0] * inputs[0] + coefficients[1] * inputs[1] + ...`, element by element, summed
    in this order in f64 and rounded once: merges experts.

    Example:
    ```mlir
    moe.weights @weights {
      %0 = moe.weight.load "w.bin" at 0 : tensor<96x32xf32>
      %1 = moe.weight.load "w.bin" at 12288 : tensor<96x32xf32>
      %2 = moe.weight.combine %0, %1 [0.25, 0.75]
          : (tensor<96x32xf32>, tensor<96x32xf32>) -> tensor<96x32xf32>
    }
    ```
  }];
  let arguments = (ins Variadic<AnyStaticShapeTensor>:$inputs, DenseF64ArrayAttr:$coefficients);
  let assemblyFormat = [{
    $inputs $coefficients attr-dict `:` functional-type($inputs, $result)
  }];
  let hasVerifier = 1;
  let hasFolder = 1;
}

def MoE_WeightLowRankOp : MoE_Step<"low_rank"> {
  let summary = "the product of two thin matrices";
  let description = [{
    The matrix product `a * b` over the last two axes, for each index of the leading ones: a weight
    that was factorised. Computed in f64 and rounded once.

    Example:
    ```mlir
    moe.weights @weights {
      %a = moe.weight.load "w.bin" at 0 : tensor<8x96x4xf32>
      %b = moe.weight.load "w.bin" at 12288 : tensor<8x4x32xf32>
      %w = moe.weight.low_rank %a, %b
          : (tensor<8x96x4xf32>, tensor<8x4x32xf32>) -> tensor<8x96x32xf32>
    }
    ```
  }];
  let arguments = (ins AnyStaticShapeTensor:$a, AnyStaticShapeTensor:$b);
  let assemblyFormat = "$a `,` $b attr-dict `:` functional-type(operands, $result)";
  let hasVerifier = 1;
}

def MoE_WeightUnpackOp : MoE_Step<"unpack"> {
  let summary = "bytes read as elements of 8 bits or less";
  let description = [{
    The same bits as elements of 2, 4 or 8 bits: the last axis grows by 8 / bits, and of one byte
    the low bits are the element of the lower index. Nothing is converted.

    Example:
    ```mlir
    moe.weights @weights {
      %0 = moe.weight.load "w.bin" at 0 : tensor<8x96x16xui8>
      %1 = moe.weight.unpack %0 : tensor<8x96x16xui8> -> tensor<8x96x32xui4>
    }
    ```
  }];
  let arguments = (ins AnyStaticShapeTensor:$input);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def MoE_WeightDequantizeOp : MoE_Step<"dequantize"> {
  let summary = "quantised numbers times their scales";
  let description = [{
    `(input - zero_point) * scale`, computed as if in f64 and rounded once. A scale belongs to a
    block of elements, `blocks[a]` of them along axis `a` (the last block of an axis may be
    shorter): the scale of element `i, j, ..` is scale `i / blocks[0], j / blocks[1], ..`. So all
    of an axis in one block is one scale for it, and blocks of 1 are a scale for each position.
    Zero points have the shape of the scales, or there is one, for all elements; without them it
    is 0. A scale may itself be dequantised, as in NVFP4.

    Example:
    ```mlir
    moe.weights @weights {
      // Four bits, a scale for each 16 numbers along the last axis, zero point 8.
      %0 = moe.weight.load "w.bin" at 0 : tensor<8x96x32xui4>
      %1 = moe.weight.load "w.bin" at 12288 : tensor<8x96x2xf32>
      %2 = moe.weight.literal dense<8> : tensor<1x1x1xui4>
      %3 = moe.weight.dequantize %0, %1 zero_point %2 blocks [1, 1, 16]
          : (tensor<8x96x32xui4>, tensor<8x96x2xf32>, tensor<1x1x1xui4>) -> tensor<8x96x32xf32>
    }
    ```
  }];
  let arguments = (ins AnyStaticShapeTensor:$input, AnyStaticShapeTensor:$scale,
                       Optional<AnyStaticShapeTensor>:$zero_point, DenseI64ArrayAttr:$blocks);
  let assemblyFormat = [{
    $input `,` $scale (`zero_point` $zero_point^)? `blocks` $blocks attr-dict `:`
    functional-type(operands, $result)
  }];
  let hasVerifier = 1;
}

def MoE_WeightBindOp : MoE_Op<"weight.bind", [HasParent<"WeightsOp">, Symbol]> {
  let summary = "names a weight";
  let description = [{
    Makes `value` a weight that the rest of the module reads as `sym_name`. Names are unique in a
    module's weights.

    Example:
    ```mlir
    moe.weights @weights {
      %0 = moe.weight.load "w.bin" at 0 : tensor<8x96x32xf32>
      moe.weight.bind @layer0.up %0 : tensor<8x96x32xf32>
    }
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, AnyStaticShapeTensor:$value);
  let assemblyFormat = "$sym_name $value attr-dict `:` type($value)";
}

def MoE_WeightUseOp : MoE_Op<"weight.use", [Pure,
    DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "a weight, in a function";
  let description = [{
    The value that `moe.weights` binds to the name `weight`.

    Example:
    ```mlir
    moe.weights @weights {
      %0 = moe.weight.literal dense<2.0> : tensor<4xf32>
      moe.weight.bind @scale %0 : tensor<4xf32>
    }
    func.func @main() -> tensor<4xf32> {
      %0 = moe.weight.use @scale : tensor<4xf32>
      return %0 : tensor<4xf32>
    }
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$weight);
  let results = (outs AnyStaticShapeTensor:$result);
  let assemblyFormat = "$weight attr-dict `:` type($result)";
}

#endif
