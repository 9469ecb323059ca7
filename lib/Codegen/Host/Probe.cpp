// moe.probe: a call of the runtime with the operands in memory.
#include "Emitter.h"
#include "moec/Dialect/MoE/MoE.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

/// The sizes that all operands must have at run time, in order; as in the op's constraint C5.
static void checkShapes(Emitter &e, llvm::ArrayRef<Tensor> args, llvm::ArrayRef<Values> shapes) {
  for (auto [arg, shape] : llvm::zip(args, shapes))
    for (auto [size, wanted] : llvm::zip(arg.dims, shape))
      e.checkEqual(size, wanted, "an operand of a probe has another shape");
}

static mlir::LogicalResult probe(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &) {
  auto probe = mlir::cast<moec::moe::ProbeOp>(op);
  llvm::StringRef kind = probe.getKind();
  for (auto [i, arg] : llvm::enumerate(args)) {
    bool ids = i == 0 && kind != "all";
    arg = e.denseAs(std::move(arg), ids ? DType::I32 : DType::F32);
  }
  Value *layer = e.cstring(probe.getLayer());
  Value *tokens = args[0].dims[0], *experts = e.i64(static_cast<int64_t>(probe.getExperts()));
  if (kind == "all") {
    Value *hidden = args[0].dims[1];
    checkShapes(e, args, {{tokens, hidden}, {tokens, experts, hidden}});
    e.call("probe_all", {layer, tokens, experts, hidden, args[1].data});
    return mlir::success();
  }
  Value *slots = args[0].dims[1];
  auto required = static_cast<size_t>(probe.getRequired());
  Value *logits = args.size() > required ? args[required].data : e.null();
  Value *sigmoid = e.i32(probe.getScore() == "sigmoid");
  Values chosen{tokens, slots}, scores{tokens, experts};
  if (kind == "routing") {
    checkShapes(e, args, {chosen, chosen, scores});
    e.call("probe_routing",
           {layer, tokens, experts, slots, sigmoid, args[0].data, args[1].data, logits});
    return mlir::success();
  }
  Value *hidden = args[2].dims[1];
  Values rows{tokens, hidden};
  checkShapes(e, args, {chosen, chosen, rows, rows, {tokens, slots, hidden}, rows, scores});
  e.call("probe_experts",
         {layer, tokens, experts, slots, hidden, sigmoid, args[0].data, args[1].data, logits,
          args[2].data, args[3].data, args[4].data, args[5].data});
  return mlir::success();
}

void moec::host::addProbe(Handlers &h) { h["probe"] = probe; }
