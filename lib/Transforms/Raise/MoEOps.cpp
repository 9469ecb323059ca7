#include "MoEOps.h"
#include "moec/Dialect/MoE/MoE.h"

using namespace mlir;

namespace moec::raise {

std::pair<Value, Value> createSelect(OnnxBuilder &b, Value scores, int64_t k) {
  auto type = rankedType(scores);
  int64_t tokens = type.getDimSize(0);
  OperationState state(b.loc, "moe.select");
  state.addOperands(scores);
  state.addTypes({RankedTensorType::get({tokens, k}, b.builder.getI32Type()),
                  RankedTensorType::get({tokens, k}, type.getElementType())});
  state.addAttribute("k", b.builder.getI64IntegerAttr(k));
  Operation *op = b.builder.create(state);
  return {op->getResult(0), op->getResult(1)};
}

Value createExperts(OnnxBuilder &b, FlatSymbolRefAttr bank, Value x, Value ids,
                    Value weights) {
  return createExperts(b, bank, x, ids, weights, {}, x.getType());
}

Value createExperts(OnnxBuilder &b, FlatSymbolRefAttr bank, Value x, Value ids, Value weights,
                    ArrayRef<std::pair<Value, StringRef>> contexts, Type result) {
  OperationState state(b.loc, "moe.experts");
  state.addOperands(x);
  if (ids)
    state.addOperands(ids);
  state.addOperands(weights);
  SmallVector<StringRef> kinds;
  for (auto [value, kind] : contexts) {
    state.addOperands(value);
    kinds.push_back(kind);
  }
  if (!kinds.empty())
    state.addAttribute("contexts", b.builder.getStrArrayAttr(kinds));
  state.addTypes(result);
  state.addAttribute("bank", bank);
  return b.builder.create(state)->getResult(0);
}

namespace {

Attribute bodyOf(MLIRContext *context, const Ffn &ffn) {
  std::optional<moe::Real> limit;
  if (ffn.limit)
    limit = moe::Real(*ffn.limit);
  return moe::FfnAttr::get(context, ffn.gated, ffn.activation,
                           moe::Real(ffn.alpha), limit, moe::Real(ffn.upOffset));
}

} // namespace

FlatSymbolRefAttr createBank(ModuleOp module, Location loc, StringRef name,
                             const Ffn &ffn, const BankShape &shape,
                             const BankSymbols &symbols) {
  OpBuilder builder(module.getContext());
  // Before the first function, in the order of the layers.
  Block *body = module.getBody();
  auto at = llvm::find_if(*body, [](Operation &op) {
    StringRef n = op.getName().getStringRef();
    return n != "moe.weights" && n != "moe.bank";
  });
  builder.setInsertionPoint(body, at);
  OperationState state(loc, "moe.bank");
  state.addAttribute("sym_name", builder.getStringAttr(name));
  state.addAttribute("experts", builder.getI64IntegerAttr(shape.experts));
  state.addAttribute("hidden", builder.getI64IntegerAttr(shape.hidden));
  state.addAttribute("inter", builder.getI64IntegerAttr(shape.inter));
  state.addAttribute("body", bodyOf(module.getContext(), ffn));
  for (auto [key, symbol] : {std::pair{"gate", symbols.gate},
                             {"up", symbols.up},
                             {"down", symbols.down},
                             {"gate_bias", symbols.gateBias},
                             {"up_bias", symbols.upBias},
                             {"down_bias", symbols.downBias},
                             {"constants", symbols.constants}})
    if (symbol)
      state.addAttribute(key, symbol);
  if (!shape.widths.empty())
    state.addAttribute("widths", builder.getDenseI64ArrayAttr(shape.widths));
  if (!shape.fixed.empty()) {
    SmallVector<int64_t> slabs;
    SmallVector<StringRef> storage(shape.experts, "dense");
    for (const FixedExpert &each : shape.fixed)
      storage[each.expert] = each.constant ? "constant" : "zero";
    int64_t next = 0;
    for (int64_t e = 0; e < shape.experts; ++e)
      slabs.push_back(shape.isFixed(e) ? -1 : next++);
    state.addAttribute("slabs", builder.getDenseI64ArrayAttr(slabs));
    state.addAttribute("storage", builder.getStrArrayAttr(storage));
  }
  builder.create(state);
  return FlatSymbolRefAttr::get(builder.getStringAttr(name));
}

} // namespace moec::raise
