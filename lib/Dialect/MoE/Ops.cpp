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

// Only what stands between the angle brackets: after a whole attribute the parser would take the
// op's colon for the attribute's type.
static ParseResult parseRouter(OpAsmParser &parser, RouterAttr &router) {
  router = dyn_cast_or_null<RouterAttr>(RouterAttr::parse(parser, Type()));
  return success(static_cast<bool>(router));
}

static void printRouter(OpAsmPrinter &printer, RouteOp, RouterAttr router) {
  router.print(printer);
}

#define GET_OP_CLASSES
#include "moec/Dialect/MoE/MoEOps.cpp.inc"
