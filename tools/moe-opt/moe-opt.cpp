// moe-opt: runs passes on .mlir files, one pass or pipeline at a time. For developers and tests.
#include "moec/Driver/Register.h"

#include "mlir/Tools/mlir-opt/MlirOptMain.h"

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  moec::registerDialects(registry);
  moec::registerPasses();
  return mlir::asMainReturnCode(
      mlir::MlirOptMain(argc, argv, "moec's pass driver\n", registry));
}
