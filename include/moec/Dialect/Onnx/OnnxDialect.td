// The `onnx` dialect: its base classes and the few ops that are not ONNX operators.
#ifndef MOEC_DIALECT_ONNX_ONNXDIALECT_TD
#define MOEC_DIALECT_ONNX_ONNXDIALECT_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/OpBase.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def OnnxDialect : Dialect {
  let name = "onnx";
  let cppNamespace = "::moec::onnx";
  let summary = "ONNX operators as thin ops";
  let description = [{
    One op is one ONNX operator of the default domain, in the version of opset 28. Operands and
    results are positional: each declared input and output is present, an absent optional one has
    type `none` (operand: the result of `onnx.none`). Attributes keep their ONNX names; graph
    attributes are regions ended by `onnx.yield`. Operators of other domains are `onnx.custom`.
    Every op is located at its ONNX node's name.

    All ops print alike: operands, regions, attributes, then the function type. An op without
    operands and regions leaves the parentheses out.
    ```mlir
    %shape = onnx.Constant {value = dense<[2, 4]> : tensor<2xi64>} : () -> tensor<2xi64>
    %y = onnx.Reshape(%x, %shape) {allowzero = 0 : i64}
         : (tensor<8xf32>, tensor<2xi64>) -> tensor<2x4xf32>
    %z = onnx.If(%c) ({
      onnx.yield(%y) : (tensor<2x4xf32>) -> ()
    }, {
      onnx.yield(%w) : (tensor<2x4xf32>) -> ()
    }) : (tensor<i1>) -> tensor<2x4xf32>
    ```
  }];
  let hasConstantMaterializer = 1;
  let hasCanonicalizer = 1;
  let usePropertiesForAttributes = 0;
  let useDefaultTypePrinterParser = 1;
  let extraClassDeclaration = [{
    /// The opset version of the default domain that the ops of this dialect follow.
    static constexpr int kOpset = 28;
  }];
}

def Onnx_Sequence : TypeDef<OnnxDialect, "Sequence"> {
  let mnemonic = "sequence";
  let summary = "a list of tensors";
  let description = [{
    Any number of tensors of one element type; their shapes fit `elementType`, a tensor type, which
    is unranked when the elements' ranks are unknown or differ. Values are immutable: an op that
    changes a sequence gives another one.

    Example: `!onnx.sequence<tensor<?x4xf32>>`
  }];
  let parameters = (ins "::mlir::TensorType":$elementType);
  let assemblyFormat = "`<` $elementType `>`";
}

def Onnx_OptionalTensor : AnyTypeOf<[AnyTensor, NoneType], "tensor or none">;
def Onnx_Value : AnyTypeOf<[AnyTensor, Onnx_Sequence, NoneType], "tensor, sequence or none">;

// All ops share one builder, one printer and one parser: about two hundred generated ones would
// double the time that this library and its users take to compile.
class Onnx_Op<string mnemonic, list<Trait> traits = []> : Op<OnnxDialect, mnemonic, traits> {
  int numRegions = 0;
  let skipDefaultBuilders = 1;
  let hasCustomAssemblyFormat = 1;
  let builders = [
    OpBuilder<(ins "::mlir::TypeRange":$types, "::mlir::ValueRange":$operands,
                   CArg<"::llvm::ArrayRef<::mlir::NamedAttribute>", "{}">:$attributes)>
  ];
  code build = [{
    void $cppClass::build(::mlir::OpBuilder &, ::mlir::OperationState &state,
                          ::mlir::TypeRange types, ::mlir::ValueRange operands,
                          ::llvm::ArrayRef<::mlir::NamedAttribute> attributes) {
      ::moec::onnx::detail::build(state, types, operands, attributes, }];
  let extraClassDefinition = build # numRegions # [{);
    }
    ::mlir::ParseResult $cppClass::parse(::mlir::OpAsmParser &parser,
                                         ::mlir::OperationState &result) {
      return ::moec::onnx::detail::parse(parser, result, }] # numRegions # [{);
    }
    void $cppClass::print(::mlir::OpAsmPrinter &printer) {
      ::moec::onnx::detail::print(printer, *this);
    }
  }];
}

def Onnx_NoneOp : Onnx_Op<"none", [Pure]> {
  let summary = "the value of an absent optional input";
  let description = [{
    Stands for an optional input that a node leaves out, so that operands stay positional.

    Example: `%none = onnx.none : () -> none`
  }];
  let arguments = (ins);
  let results = (outs NoneType:$value);
}

def Onnx_YieldOp : Onnx_Op<"yield", [Pure, Terminator]> {
  let summary = "ends the body of a control-flow op";
  let description = [{
    Gives the outputs of an ONNX subgraph, in their order.

    Example: `onnx.yield(%sum) : (tensor<4xf32>) -> ()`
  }];
  let arguments = (ins Variadic<Onnx_Value>:$values);
  let results = (outs);
}

def Onnx_CustomOp : Onnx_Op<"custom", []> {
  let summary = "an operator of another domain than ai.onnx";
  let description = [{
    Keeps a node whose operator this dialect does not define: `domain` and `op_type` name it and
    `attributes` holds its attributes. It may do anything, so it is never removed or merged.

    Example:
    ```mlir
    %y = onnx.custom(%x, %scale) {attributes = {epsilon = 1.0e-05 : f32}, domain = "com.microsoft",
           op_type = "SimplifiedLayerNormalization"}
         : (tensor<2x8xf32>, tensor<8xf32>) -> tensor<2x8xf32>
    ```
  }];
  let arguments = (ins Variadic<Onnx_OptionalTensor>:$inputs, StrAttr:$domain, StrAttr:$op_type);
  let results = (outs Variadic<Onnx_OptionalTensor>:$outputs);
  let hasVerifier = 1;
  // Not among the arguments: generated adaptors have a getAttributes of their own.
  let extraClassDeclaration = [{
    /// The node's attributes by their ONNX names; empty when there are none.
    ::mlir::DictionaryAttr getNodeAttributes();
  }];
}

#endif
