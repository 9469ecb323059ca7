// Routing: moe.route by a kernel, moe.select of every kind by the runtime.
#include "Emitter.h"
#include "moec/Codegen/KernelSpec/KernelSpec.h"
#include "moec/Dialect/MoE/MoE.h"
#include "moert/kernels.h"
#include <cmath>

using namespace moec::host;
using llvm::Value;
using Tensors = std::vector<Tensor>;

/// A bound as f32, the type scores have: no score lies between it and the f64 `value`.
static float boundOf(double value) {
  auto bound = static_cast<float>(value);
  return bound < value ? std::nextafter(bound, INFINITY) : bound;
}

static mlir::LogicalResult route(Emitter &e, mlir::Operation *op, Tensors &args,
                                 Tensors &results) {
  moec::moe::RouterAttr router = mlir::cast<moec::moe::RouteOp>(op).getRouter();
  auto score = moec::parseRouterScore(moec::moe::stringifyRouterScore(router.getScore()));
  auto renorm = moec::parseRouterRenorm(moec::moe::stringifyRouterRenorm(router.getRenorm()));
  if (!score || !renorm)
    return e.error("this router");
  auto number = [](double v) { return static_cast<float>(v); };
  moec::KernelSpec spec = moec::routeSpec(*score, *renorm, number(router.getEpsilon()),
                                          number(router.getMinimum()), number(router.getScale()));
  unsigned slot = e.kernelSlot(spec.text());
  Tensor x = e.denseAs(std::move(args[0]), DType::F32);
  Value *tokens = x.dims[0], *experts = x.dims[1], *count = e.i64(router.getK());
  e.check(e.b.CreateICmpSLE(count, experts), "k exceeds the number of experts");
  Tensor ids = e.allocate(DType::I32, {tokens, count});
  Tensor weights = e.allocate(DType::F32, {tokens, count});
  Value *bias = e.null();
  Tensor b;
  if (args.size() > 1 && !args[1].none) {
    b = e.denseAs(std::move(args[1]), DType::F32);
    e.checkEqual(b.dims[0], experts, "the bias has another number of experts");
    bias = b.data;
  }
  std::vector<Value *> in{e.i32(static_cast<int32_t>(slot)), tokens, experts, count};
  bool groups = router.getGroups() > 1 && router.getGroupK() < router.getGroups();
  if (groups)
    in.insert(in.end(), {e.i64(router.getGroups()), e.i64(router.getGroupK()),
                         e.i32(router.getGroupScore() == moec::moe::GroupScore::Top2)});
  in.insert(in.end(), {x.data, bias, ids.data, weights.data});
  e.call(groups ? "route_groups" : "route", in);
  results.push_back(std::move(ids));
  results.push_back(e.cast(std::move(weights), resultType(op, 1)));
  return mlir::success();
}

static int32_t kindOf(llvm::StringRef kind) {
  return kind == "top_p"       ? MOERT_SELECT_TOP_P
         : kind == "threshold" ? MOERT_SELECT_THRESHOLD
         : kind == "all"       ? MOERT_SELECT_ALL
         : kind == "external"  ? MOERT_SELECT_EXTERNAL
                               : MOERT_SELECT_TOP_K;
}

/// The operand after the scores that `value` is, or null.
static Tensor *operandOf(mlir::Operation *op, Tensors &args, mlir::Value value) {
  for (auto [i, operand] : llvm::enumerate(op->getOperands()))
    if (value && i > 0 && operand == value)
      return &args[i];
  return nullptr;
}

static mlir::LogicalResult select(Emitter &e, mlir::Operation *op, Tensors &args,
                                  Tensors &results) {
  auto choice = mlir::cast<moec::moe::SelectOp>(op);
  Tensor scores = e.denseAs(args[0], DType::F32);
  Value *tokens = scores.dims[0], *experts = scores.dims[1];
  Tensor from, given;
  if (Tensor *t = operandOf(op, args, choice.getWeightScores())) {
    from = e.denseAs(*t, DType::F32);
    e.checkEqual(from.dims[0], tokens, "there are not weight scores for each token");
    e.checkEqual(from.dims[1], experts, "the weight scores have another number of experts");
  }
  if (Tensor *t = operandOf(op, args, choice.getExternalIds())) {
    given = e.denseAs(*t, DType::I32);
    e.checkEqual(given.dims[0], tokens, "there are not ids for each token");
  }
  Value *slots = choice.getK() ? e.i64(static_cast<int64_t>(*choice.getK()))
                 : given.data  ? given.dims[1]
                               : experts;
  Value *used = slots;
  if (Tensor *t = operandOf(op, args, choice.getCount())) {
    auto count = e.integersOf(*t, 1);
    if (mlir::failed(count))
      return mlir::failure();
    used = (*count)[0];
  }
  Tensor ids = e.allocate(DType::I32, {tokens, slots});
  Tensor weights = e.allocate(DType::F32, {tokens, slots});
  double bound = choice.getP()           ? choice.getP()->convertToDouble()
                 : choice.getThreshold() ? choice.getThreshold()->convertToDouble()
                                         : 0;
  auto number = [&](std::optional<uint64_t> v, int64_t otherwise) {
    return e.i64(v ? static_cast<int64_t>(*v) : otherwise);
  };
  bool top2 = choice.getGroupScore() && *choice.getGroupScore() == "top2";
  e.call("select", {e.i32(kindOf(choice.getKind())), tokens, experts, slots,
                    number(choice.getGroups(), 1), number(choice.getGroupK(), 1), e.i32(top2),
                    llvm::ConstantFP::get(e.b.getFloatTy(), boundOf(bound)),
                    number(choice.getAtLeast(), 0), used, scores.data,
                    from.data ? from.data : e.null(), given.data ? given.data : e.null(), ids.data,
                    weights.data});
  results.push_back(std::move(ids));
  results.push_back(e.cast(std::move(weights), resultType(op, 1)));
  return mlir::success();
}

void moec::host::addSelect(Handlers &h) {
  h["select"] = select;
  h["route"] = route;
}
