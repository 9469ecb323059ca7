// If: branches of moe_main. Loops stand in Loops.cpp.
#include "Join.h"

using namespace moec::host;
using llvm::BasicBlock;
using llvm::PHINode;
using llvm::Value;
using Tensors = std::vector<Tensor>;

static BasicBlock *newBlock(Emitter &e, const char *name) {
  return BasicBlock::Create(e.context, name, e.main);
}

// --- If ---

namespace {
/// A branch of an If: its values as it ends, then as they leave.
struct Path : Ending {
  std::vector<Leaving> leaving;
};
} // namespace

static mlir::LogicalResult lowerBranch(Emitter &e, mlir::Operation *op, unsigned index,
                                       Path &path) {
  Scope scope(e);
  e.b.SetInsertPoint(path.end);
  auto values = e.region(op->getRegion(index), {});
  if (mlir::succeeded(values) && values->size() != op->getNumResults())
    values = e.error("a branch with another number of results");
  if (mlir::succeeded(values))
    for (auto [tensor, type] : llvm::zip(*values, op->getResultTypes()))
      path.values.push_back(settled(e, std::move(tensor), type));
  path.end = e.b.GetInsertBlock();
  return mlir::success(mlir::succeeded(values));
}

/// The values that the paths bring: one Value where all bring the same, one phi for equal columns.
static Values joinParts(Emitter &e, const std::vector<llvm::Type *> &types,
                        llvm::ArrayRef<Path> paths, size_t result) {
  Values joined;
  auto part = [&](const Path &p, size_t i) { return p.leaving[result].parts[i]; };
  for (size_t i = 0; i < types.size(); ++i) {
    if (llvm::all_of(paths, [&](const Path &p) { return part(p, i) == part(paths[0], i); })) {
      joined.push_back(part(paths[0], i));
      continue;
    }
    for (size_t j = 0; j < i && joined.size() == i; ++j)
      if (llvm::all_of(paths, [&](const Path &p) { return part(p, i) == part(p, j); }))
        joined.push_back(joined[j]);
    if (joined.size() > i)
      continue;
    PHINode *phi = e.b.CreatePHI(types[i], paths.size());
    for (const Path &p : paths)
      phi->addIncoming(part(p, i), p.end);
    joined.push_back(phi);
  }
  return joined;
}

/// Ends the paths at `next` and gives the If's results there.
static mlir::LogicalResult joinPaths(Emitter &e, llvm::MutableArrayRef<Path> paths,
                                     BasicBlock *next, Tensors &results) {
  std::vector<Form> forms;
  for (size_t i = 0; i < paths[0].values.size(); ++i) {
    forms.push_back(formOf(paths[0].values[i]));
    std::string why;
    if (widen(forms.back(), formOf(paths[1].values[i]), why))
      continue;
    // Ranks decide what the ops that follow are.
    std::vector<Ending> endings{std::move(paths[0]), std::move(paths[1])};
    if (why != kDifferentRanks || !e.fork(e.op, endings))
      return e.error("branches with results " + why);
    return mlir::success();
  }
  for (Path &path : paths) {
    e.b.SetInsertPoint(path.end);
    Scope scope(e);
    for (auto [form, value] : llvm::zip(forms, path.values)) {
      path.leaving.push_back(leave(e, form, value, /*inside=*/true));
      path.leaving.back().release();
    }
    path.values.clear();
    path.end = e.b.GetInsertBlock();
    e.b.CreateBr(next);
  }
  e.b.SetInsertPoint(next);
  std::vector<Values> parts;
  for (size_t i = 0; i < forms.size(); ++i) // phis stand together
    parts.push_back(joinParts(e, partTypes(e, forms[i]), paths, i));
  for (size_t i = 0; i < forms.size(); ++i) {
    std::vector<std::shared_ptr<Buffer>> keeps;
    for (Path &path : paths)
      llvm::append_range(keeps, path.leaving[i].keeps);
    results.push_back(arrive(e, forms[i], parts[i], std::move(keeps)));
  }
  return mlir::success();
}

static mlir::LogicalResult ifOp(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  auto condition = e.integersOf(args[0], 1);
  if (mlir::failed(condition))
    return e.error("a condition that is not a scalar");
  Value *c = condition->front();
  if (auto k = known(c)) {
    auto values = e.region(op->getRegion(*k ? 0 : 1), {});
    if (mlir::failed(values) || values->size() != op->getNumResults())
      return mlir::failure();
    results = std::move(*values);
    return mlir::success();
  }
  Path paths[2] = {{{newBlock(e, "then"), {}}, {}}, {{newBlock(e, "else"), {}}, {}}};
  e.b.CreateCondBr(e.b.CreateICmpNE(c, e.i64(0)), paths[0].end, paths[1].end);
  bool all = true;
  for (unsigned i : {0, 1})
    all &= mlir::succeeded(lowerBranch(e, op, i, paths[i]));
  auto *next = newBlock(e, "");
  if (all && mlir::succeeded(joinPaths(e, paths, next, results))) {
    if (next->hasNPredecessors(0)) // the paths have gone their own ways
      next->eraseFromParent();
    return mlir::success();
  }
  e.b.SetInsertPoint(next);
  return mlir::failure();
}

void moec::host::addControlFlow(Handlers &h) {
  h["If"] = ifOp;
  addLoops(h);
}
