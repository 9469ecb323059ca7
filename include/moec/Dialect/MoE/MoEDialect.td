// The `moe` dialect and the classes its ops build on.
#ifndef MOEC_DIALECT_MOE_MOEDIALECT_TD
#define MOEC_DIALECT_MOE_MOEDIALECT_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def MoEDialect : Dialect {
  let name = "moe";
  let cppNamespace = "::moec::moe";
  let summary = "Mixture-of-Experts layers and their weights";
  let description = [{
    Routing, banks of experts, and weights as values that are evaluated late. Semantics and the
    numbered constraints that the verifiers check stand in `docs/moe-dialect.md`.
  }];
  let useDefaultAttributePrinterParser = 1;
  let usePropertiesForAttributes = 0;
}

class MoE_Op<string mnemonic, list<Trait> traits = []> : Op<MoEDialect, mnemonic, traits>;

// Operand types. T tokens, E experts, K slots, H hidden size.
def MoE_Matrix : 2DTensorOf<[AnyFloat]>;
def MoE_Ids : 2DTensorOf<[I32]>;
def MoE_Vector : 1DTensorOf<[AnyFloat]>;

#endif
