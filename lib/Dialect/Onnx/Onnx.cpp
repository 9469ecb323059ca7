// The dialect itself, what all ops share, and the ops that need more.
#include "moec/Dialect/Onnx/Onnx.h"
#include "Fold.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace moec::onnx;

#include "moec/Dialect/Onnx/OnnxDialect.cpp.inc"

#define GET_TYPEDEF_CLASSES
#include "moec/Dialect/Onnx/OnnxTypes.cpp.inc"

void OnnxDialect::initialize() {
  registerOnnxDialectOperations(this);
  addTypes<
#define GET_TYPEDEF_LIST
#include "moec/Dialect/Onnx/OnnxTypes.cpp.inc"
      >();
  addInterface(makeFolding(this));
}

void OnnxDialect::getCanonicalizationPatterns(RewritePatternSet &patterns) const {
  addPatterns(patterns);
}

Operation *OnnxDialect::materializeConstant(OpBuilder &builder, Attribute value, Type type,
                                            Location loc) {
  auto elements = dyn_cast<ElementsAttr>(value);
  if (!elements || elements.getType() != type)
    return nullptr;
  return ConstantOp::create(builder, loc, type, ValueRange{}, builder.getNamedAttr("value", value));
}

//===--- element types ---------------------------------------------------------------------===//

int64_t moec::onnx::typeCode(Type t) {
  if (t.isF32())
    return 1;
  if (t.isF64())
    return 11;
  if (t.isF16())
    return 10;
  if (t.isBF16())
    return 16;
  auto integer = dyn_cast<IntegerType>(t);
  if (!integer)
    return 0;
  bool plain = !integer.isUnsigned();
  switch (integer.getWidth()) {
  case 1:
    return 9;
  case 8:
    return plain ? 3 : 2;
  case 16:
    return plain ? 5 : 4;
  case 32:
    return plain ? 6 : 12;
  case 64:
    return plain ? 7 : 13;
  default:
    return 0;
  }
}

Type moec::onnx::typeOfCode(int64_t code, MLIRContext *context) {
  Builder b(context);
  auto unsignedType = [&](unsigned width) { return b.getIntegerType(width, /*isSigned=*/false); };
  switch (code) {
  case 1:
    return b.getF32Type();
  case 2:
    return unsignedType(8);
  case 3:
    return b.getI8Type();
  case 4:
    return unsignedType(16);
  case 5:
    return b.getI16Type();
  case 6:
    return b.getI32Type();
  case 7:
    return b.getI64Type();
  case 9:
    return b.getI1Type();
  case 10:
    return b.getF16Type();
  case 11:
    return b.getF64Type();
  case 12:
    return unsignedType(32);
  case 13:
    return unsignedType(64);
  case 16:
    return b.getBF16Type();
  default:
    return {};
  }
}

//===--- building, parsing, printing -------------------------------------------------------===//

void moec::onnx::detail::build(OperationState &state, TypeRange types, ValueRange operands,
                               ArrayRef<NamedAttribute> attributes, unsigned regions) {
  state.addOperands(operands);
  state.addTypes(types);
  state.addAttributes(attributes);
  for (unsigned i = 0; i < regions; ++i)
    state.addRegion();
}

ParseResult moec::onnx::detail::parse(OpAsmParser &parser, OperationState &result,
                                      unsigned regions) {
  SmallVector<OpAsmParser::UnresolvedOperand> operands;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseOperandList(operands, OpAsmParser::Delimiter::OptionalParen))
    return failure();
  if (regions > 0) {
    if (parser.parseLParen())
      return failure();
    for (unsigned i = 0; i < regions; ++i)
      if ((i > 0 && parser.parseComma()) || parser.parseRegion(*result.addRegion()))
        return failure();
    if (parser.parseRParen())
      return failure();
  }
  FunctionType type;
  if (parser.parseOptionalAttrDict(result.attributes) || parser.parseColonType(type) ||
      parser.resolveOperands(operands, type.getInputs(), loc, result.operands))
    return failure();
  result.addTypes(type.getResults());
  return success();
}

void moec::onnx::detail::print(OpAsmPrinter &printer, Operation *op) {
  if (op->getNumOperands() > 0 || op->getNumRegions() > 0)
    printer << '(' << op->getOperands() << ')';
  if (op->getNumRegions() > 0) {
    printer << " (";
    llvm::interleaveComma(op->getRegions(), printer.getStream(), [&](Region &region) {
      printer.printRegion(region, /*printEntryBlockArgs=*/true, /*printBlockTerminators=*/true);
    });
    printer << ')';
  }
  printer.printOptionalAttrDict(op->getAttrs());
  printer << " : ";
  printer.printFunctionalType(op);
}

//===--- single ops ------------------------------------------------------------------------===//

OpFoldResult ConstantOp::fold(FoldAdaptor) { return getValue(); }

LogicalResult ConstantOp::verify() {
  if (getValue().getType() != getOperation()->getResult(0).getType())
    return emitOpError("has a value of type ") << getValue().getType() << " but a result of type "
                                               << getOperation()->getResult(0).getType();
  return success();
}

DictionaryAttr CustomOp::getNodeAttributes() {
  auto attributes = (*this)->getAttrOfType<DictionaryAttr>("attributes");
  return attributes ? attributes : DictionaryAttr::get(getContext());
}

LogicalResult CustomOp::verify() {
  if (getOpType().empty())
    return emitOpError("needs the name of its operator in 'op_type'");
  Attribute attributes = (*this)->getAttr("attributes");
  if (attributes && !isa<DictionaryAttr>(attributes))
    return emitOpError("needs a dictionary in 'attributes'");
  return success();
}

// A branch or body: one block that ends by onnx.yield, with `inputs` arguments (any number when
// negative) and at least `outputs` yielded values.
static LogicalResult verifyBody(Operation *op, Region &region, StringRef name, int64_t inputs,
                                int64_t outputs) {
  if (!region.hasOneBlock())
    return op->emitOpError("needs exactly one block in '") << name << "'";
  Block &block = region.front();
  if (inputs >= 0 && block.getNumArguments() != static_cast<uint64_t>(inputs))
    return op->emitOpError("'") << name << "' takes " << block.getNumArguments()
                                << " arguments but " << inputs << " are given";
  auto yield = block.empty() ? YieldOp() : dyn_cast<YieldOp>(block.back());
  if (!yield)
    return op->emitOpError("'") << name << "' must end with onnx.yield";
  if (yield->getNumOperands() != static_cast<uint64_t>(outputs))
    return op->emitOpError("'") << name << "' yields " << yield->getNumOperands() << " values but "
                                << outputs << " are needed";
  return success();
}

LogicalResult IfOp::verify() {
  int64_t outputs = (*this)->getNumResults();
  if (failed(verifyBody(*this, getThenBranch(), "then_branch", 0, outputs)))
    return failure();
  return verifyBody(*this, getElseBranch(), "else_branch", 0, outputs);
}

LogicalResult LoopOp::verify() {
  // Operands M, cond, carried values; the body takes (i, cond, carried...) and yields
  // (cond, carried..., scanned...).
  return verifyBody(*this, getBody(), "body", (*this)->getNumOperands(),
                    (*this)->getNumResults() + 1);
}

LogicalResult ScanOp::verify() {
  return verifyBody(*this, getBody(), "body", (*this)->getNumOperands(), (*this)->getNumResults());
}
