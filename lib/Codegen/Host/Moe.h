// What the ops that apply experts share.
#pragma once
#include "Emitter.h"
#include "moec/Dialect/MoE/MoE.h"
#include "moert/abi.h"

namespace moec::host {

/// A weight by the name of its bind, not yet placed.
mlir::FailureOr<Tensor> weight(Emitter &e, llvm::StringRef name);

/// Which experts run for which token: ids i32 and weights f32, [tokens, slots], dense in memory.
struct Routing {
  llvm::Value *tokens, *slots;
  Tensor ids, weights;
};
/// Of a layer's operands, which are moved from. Without ids slot j is expert j, without weights all
/// are 1.
mlir::FailureOr<Routing> routingOf(Emitter &e, moe::ExpertsOp layer, int64_t experts,
                                   std::vector<Tensor> &args);

/// i32 in memory: for each expert the first with its parameters; null when all are their own.
llvm::Value *twinTable(Emitter &e, moe::BankOp bank);

/// moe.experts over a bank of regions.
mlir::LogicalResult regionExperts(Emitter &e, moe::ExpertsOp layer, moe::BankOp bank,
                                  std::vector<Tensor> &args, std::vector<Tensor> &results);

} // namespace moec::host
