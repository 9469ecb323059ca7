// moe.logit_hook: the runtime gives changed logits, or nothing, and then the operand stays.
#include "Emitter.h"
#include "moec/Dialect/MoE/MoE.h"

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

static mlir::LogicalResult logitHook(Emitter &e, mlir::Operation *op, Tensors &args,
                                     Tensors &results) {
  auto hook = mlir::cast<moec::moe::LogitHookOp>(op);
  int64_t experts = hook.getExperts();
  auto number =
      e.hookNumber({hook.getLayer().str(), experts, static_cast<int64_t>(hook.getK())});
  if (!number)
    return e.error("hooks of the layer \"" + hook.getLayer() + "\" that differ in experts or k");
  Tensor z = e.denseAs(std::move(args[0]), DType::F32);
  e.checkEqual(z.dims.back(), e.i64(experts), "the logits have another number of experts");
  Value *rows = z.rank() > 1 ? z.dims[0] : e.i64(1);
  Value *changed =
      e.call("logit_hook", {e.i32(static_cast<int32_t>(*number)), rows, e.i64(experts),
                            e.i32(hook.getMaskOnly()), z.data});
  Tensor y = z;
  y.data = e.b.CreateSelect(e.b.CreateIsNull(changed), z.data, changed);
  y.buffer = std::make_shared<Buffer>(e, changed); // to free nothing is allowed
  if (z.buffer)
    y.buffer->keeps.push_back(z.buffer);
  results.push_back(e.cast(std::move(y), resultType(op)));
  return mlir::success();
}

void moec::host::addLogitHook(Handlers &h) { h["logit_hook"] = logitHook; }
