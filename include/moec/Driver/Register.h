// What moe-opt, moe-lsp-server and moec have in common: the dialects and passes they know.
#pragma once

#include "mlir/IR/DialectRegistry.h"

namespace moec {

/// Adds every dialect that a moec pipeline may create, and the interfaces they need.
void registerDialects(mlir::DialectRegistry &registry);

/// Makes every pass of the project, and the few general ones its pipelines use, known by name to
/// MLIR's textual pipelines. Call once, before command lines are parsed.
void registerPasses();

} // namespace moec
