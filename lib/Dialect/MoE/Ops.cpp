// The generated op classes and the custom parts of their syntax.
#include "Shapes.h"

using namespace mlir;
using namespace moec::moe;

std::string moec::moe::shapeText(ArrayRef<int64_t> shape) {
  std::string text = "[";
  for (int64_t dim : shape) {
    if (text.size() > 1)
      text += ", ";
    text += ShapedType::isDynamic(dim) ? "?" : std::to_string(dim);
  }
  return text + "]";
}

// A type is passed, so that the colon after the attribute is not taken for its type's.
static ParseResult parseRouter(OpAsmParser &parser, RouterAttr &router) {
  SMLoc loc = parser.getCurrentLocation();
  Attribute attribute;
  if (parser.parseAttribute(attribute, parser.getBuilder().getNoneType()))
    return failure();
  router = dyn_cast<RouterAttr>(attribute);
  return router ? success() : parser.emitError(loc, "expected a #moe.router");
}

static void printRouter(OpAsmPrinter &printer, RouteOp, RouterAttr router) {
  printer.printAttribute(router);
}

#define GET_OP_CLASSES
#include "moec/Dialect/MoE/MoEOps.cpp.inc"
