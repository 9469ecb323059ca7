// Planning of loop nests: operands, joined loops, structure keys, calls.
#include "NestPlan.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace moec::host;
using llvm::Value;

// --- bodies ---

namespace {
/// Flattens an expression; shared parts and equal operands appear once.
struct Flattener {
  Emitter &e;
  Plan &plan;
  std::map<const Expr *, unsigned> seen;

  unsigned push(BodyNode node) {
    plan.body.push_back(std::move(node));
    return plan.body.size() - 1;
  }

  unsigned leaf(const Tensor &t) {
    Tensor view = e.expand(t.data ? t : e.inMemory(t), plan.dims);
    size_t i = plan.written;
    for (; i < plan.operands.size(); ++i) {
      const Operand &o = plan.operands[i];
      if (o.data == view.data && o.storage == view.storage && o.strides == view.strides)
        break;
    }
    if (i == plan.operands.size())
      addOperand(e, plan, view);
    return push({"leaf", t.dtype, static_cast<int64_t>(i), {}, {}});
  }

  unsigned visit(const Tensor &t, bool constantIntegers) {
    if (t.splat && isFloat(t.dtype))
      return push({"const", t.dtype, 0, {*t.splat}, {}});
    if (t.splat && !t.data)
      return push({"const", t.dtype, static_cast<int64_t>(*t.splat), {0}, {}});
    if (t.ints && t.ints->size() == 1 && !isFloat(t.dtype)) {
      Value *value = t.ints->front();
      auto k = known(value);
      // Most constants are arguments, so that nests differing only in them are one.
      if (k && (constantIntegers || (*k >= -1 && *k <= 1)))
        return push({"const", t.dtype, *k, {0}, {}});
      plan.args.push_back(value);
      return push({"arg", t.dtype, static_cast<int64_t>(plan.args.size() - 1), {}, {}});
    }
    if (!t.expr)
      return leaf(t);
    if (auto it = seen.find(t.expr.get()); it != seen.end())
      return it->second;
    const Expr &expr = *t.expr;
    unsigned result;
    if (expr.op == "Iota") {
      auto loop =
          static_cast<int64_t>(plan.dims.size()) - 1 - static_cast<int64_t>(expr.numbers[0]);
      result = push({"Iota", DType::I64, loop, {}, {}});
    } else {
      std::vector<unsigned> args;
      for (const Tensor &a : expr.args)
        args.push_back(visit(a, expr.op == "Pow"));
      result = push({expr.op, expr.type, 0, expr.numbers, std::move(args)});
    }
    seen[t.expr.get()] = result;
    return result;
  }
};
} // namespace

void moec::host::addBody(Emitter &e, Plan &plan, const Tensor &source) {
  Flattener flattener{e, plan, {}};
  flattener.visit(source, false);
}

void moec::host::addOperand(Emitter &e, Plan &plan, const Tensor &view,
                            llvm::ArrayRef<bool> reduced) {
  Operand operand{view.storage, view.data, view.strides, {}};
  for (size_t i = 0; i < reduced.size(); ++i)
    if (reduced[i])
      operand.strides[i] = e.i64(0);
  plan.operands.push_back(std::move(operand));
  plan.everywhere.push_back(false);
}

// --- loops ---

static bool usesIota(const Plan &plan, size_t loop) {
  return llvm::any_of(plan.body, [&](const BodyNode &n) {
    return n.op == "Iota" && n.number == static_cast<int64_t>(loop);
  });
}

static void eraseLoop(Plan &plan, size_t loop) {
  plan.dims.erase(plan.dims.begin() + loop);
  plan.reduced.erase(plan.reduced.begin() + loop);
  for (Operand &o : plan.operands)
    o.strides.erase(o.strides.begin() + loop);
  for (BodyNode &n : plan.body) {
    if (n.op != "Iota")
      continue;
    if (n.number == static_cast<int64_t>(loop))
      n = {"const", DType::I64, 0, {0}, {}};
    else if (n.number > static_cast<int64_t>(loop))
      --n.number;
  }
}

void moec::host::coalesce(Emitter &e, Plan &plan, size_t pinned) {
  for (size_t i = plan.dims.size() - pinned; i-- > 0;)
    if (known(plan.dims[i]) == 1)
      eraseLoop(plan, i);
  for (size_t i = plan.dims.size() - pinned; i-- > 1;) { // joins i - 1 and i
    if (plan.reduced[i - 1] != plan.reduced[i] || usesIota(plan, i - 1) || usesIota(plan, i))
      continue;
    bool joins = llvm::all_of(plan.operands, [&](const Operand &o) {
      return o.strides[i - 1] == e.mul(o.strides[i], plan.dims[i]);
    });
    if (!joins)
      continue;
    plan.dims[i] = e.mul(plan.dims[i - 1], plan.dims[i]);
    eraseLoop(plan, i - 1);
  }
}

void moec::host::normalise(Emitter &e, Plan &plan) {
  for (Operand &o : plan.operands) {
    for (size_t i = 0; i < plan.dims.size(); ++i) {
      auto stride = known(o.strides[i]);
      if (!stride || *stride >= 0)
        continue;
      o.reversed.resize(plan.dims.size(), false);
      o.reversed[i] = true;
      Value *back = e.mul(e.sub(plan.dims[i], e.i64(1)), o.strides[i]);
      // With no iterations nothing is read, wherever the pointer is.
      o.data = e.b.CreateGEP(e.storageType(o.storage), o.data, back);
      o.strides[i] = e.i64(-*stride);
    }
  }
}

// --- structure ---

/// The innermost size, when it is small and known, lets LLVM drop remainder loops.
static std::optional<int64_t> fixedSize(const Plan &plan, size_t loop) {
  constexpr int64_t kMax = 1024;
  if (loop == 0 || loop + 1 != plan.dims.size())
    return std::nullopt;
  auto size = known(plan.dims[loop]);
  return size && *size <= kMax ? size : std::nullopt;
}

/// '0' and '1' are part of the structure, other strides are arguments.
static char strideClass(const Plan &plan, unsigned operand, size_t loop) {
  auto stride = known(plan.operands[operand].strides[loop]);
  if (stride == 1)
    return '1';
  return stride == 0 && !plan.everywhere[operand] ? '0' : '?';
}

static std::string structure(llvm::StringRef kind, const Plan &plan) {
  std::string text;
  llvm::raw_string_ostream out(text);
  out << kind << '|' << plan.written << '|';
  for (size_t i = 0; i < plan.dims.size(); ++i) {
    out << (plan.reduced[i] ? 'r' : 'p');
    if (auto size = fixedSize(plan, i))
      out << *size;
  }
  for (unsigned o = 0; o < plan.operands.size(); ++o) {
    out << '|' << dtypeName(plan.operands[o].storage) << ' ';
    for (size_t i = 0; i < plan.dims.size(); ++i) {
      out << strideClass(plan, o, i);
      if (!plan.operands[o].reversed.empty() && plan.operands[o].reversed[i])
        out << '-';
    }
  }
  out << '|' << plan.args.size();
  for (const BodyNode &n : plan.body) {
    out << ';' << n.op << ':' << dtypeName(n.type) << ' ' << n.number;
    for (double v : n.numbers)
      out << llvm::format(" %a", v);
    for (unsigned a : n.args)
      out << " @" << a;
  }
  return text;
}

// --- the function ---

mlir::FunctionType NestWriter::functionType() {
  llvm::SmallVector<mlir::Type> types;
  for (const Operand &o : plan.operands)
    types.push_back(mlir::MemRefType::get({}, scalars.storageType(o.storage)));
  for (size_t i = 0; i < plan.dims.size(); ++i)
    if (!fixedSize(plan, i))
      types.push_back(b.getIndexType());
  for (unsigned o = 0; o < plan.operands.size(); ++o)
    for (size_t i = 0; i < plan.dims.size(); ++i)
      if (strideClass(plan, o, i) == '?')
        types.push_back(b.getIndexType());
  types.append(plan.args.size(), b.getI64Type());
  return b.getFunctionType(types, {});
}

void NestWriter::bindArguments(mlir::Block &entry) {
  unsigned next = 0;
  for (size_t o = 0; o < plan.operands.size(); ++o)
    bases.push_back(entry.getArgument(next++));
  for (size_t i = 0; i < plan.dims.size(); ++i) {
    auto size = fixedSize(plan, i);
    sizes.push_back(size ? index(*size) : entry.getArgument(next++));
  }
  strides.resize(plan.operands.size());
  for (unsigned o = 0; o < plan.operands.size(); ++o)
    for (size_t i = 0; i < plan.dims.size(); ++i) {
      char c = strideClass(plan, o, i);
      strides[o].push_back(c == '0'   ? mlir::Value()
                           : c == '1' ? index(1)
                                      : mlir::Value(entry.getArgument(next++)));
    }
  for (size_t i = 0; i < plan.args.size(); ++i)
    arguments.push_back(entry.getArgument(next++));
}

std::optional<int64_t> NestWriter::staticSize(size_t loop) { return fixedSize(plan, loop); }

static void emitCall(Emitter &e, const std::string &name, const Plan &plan) {
  std::vector<Value *> args;
  for (const Operand &o : plan.operands)
    args.push_back(o.data);
  for (size_t i = 0; i < plan.dims.size(); ++i)
    if (!fixedSize(plan, i))
      args.push_back(plan.dims[i]);
  for (unsigned o = 0; o < plan.operands.size(); ++o)
    for (size_t i = 0; i < plan.dims.size(); ++i)
      if (strideClass(plan, o, i) == '?')
        args.push_back(plan.operands[o].strides[i]);
  args.insert(args.end(), plan.args.begin(), plan.args.end());
  std::vector<llvm::Type *> types;
  for (Value *a : args)
    types.push_back(a->getType());
  auto *type = llvm::FunctionType::get(e.b.getVoidTy(), types, false);
  e.b.CreateCall(e.module.getOrInsertFunction(name, type), args)->setDoesNotThrow();
}

void moec::host::launch(Emitter &e, llvm::StringRef kind, Plan &plan,
                        llvm::function_ref<void(NestWriter &)> write) {
  std::string &name = e.nests.names[structure(kind, plan)];
  if (name.empty()) {
    name = ("nest_" + llvm::Twine(e.nests.names.size() - 1) + "_" + kind).str();
    mlir::OpBuilder b(&e.nests.context);
    mlir::Location loc = b.getUnknownLoc();
    NestWriter writer(plan, b, loc);
    b.setInsertionPointToEnd(e.nests.module->getBody());
    auto function = mlir::func::FuncOp::create(b, loc, name, writer.functionType());
    for (unsigned o = 0; o < plan.written; ++o)
      function.setArgAttr(o, "llvm.noalias", b.getUnitAttr());
    mlir::Block *entry = function.addEntryBlock();
    b.setInsertionPointToStart(entry);
    writer.bindArguments(*entry);
    write(writer);
    mlir::func::ReturnOp::create(b, loc);
  }
  emitCall(e, name, plan);
}
