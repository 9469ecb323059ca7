// Loop and Scan: loops of moe_main.
#include "Join.h"

using namespace moec::host;
using llvm::BasicBlock;
using llvm::PHINode;
using llvm::Value;
using Tensors = std::vector<Tensor>;

static BasicBlock *newBlock(Emitter &e, const char *name) {
  return BasicBlock::Create(e.context, name, e.main);
}

namespace {
/// A loop with carried values, and lists of what each iteration gives besides.
class Iteration {
public:
  Iteration(Emitter &e, mlir::Operation *op) : e(e), op(op), body(op->getRegion(0)) {}

  Emitter &e;
  mlir::Operation *op;
  mlir::Region &body;
  Value *trips = nullptr, *go = nullptr; ///< null: no limit, no condition
  Tensors states;                        ///< as they start
  unsigned firstState = 0;               ///< the body's argument
  std::vector<int64_t> axes;             ///< of the stacked results
  std::vector<bool> backwards;
  /// The body's arguments before and after the carried values, at trip i.
  std::function<Tensors(Value *i)> before, after;

  mlir::LogicalResult run(Tensors &results);

private:
  enum class Outcome { done, failed, again };
  std::vector<Form> forms;
  std::vector<Leaving> starts;
  Tensors lists;
  std::vector<std::vector<PHINode *>> phis;
  std::vector<std::vector<std::shared_ptr<Buffer>>> keeps;
  std::vector<Values> sizes; ///< of the elements of each list; null where not constant
  std::vector<DType> types;

  Outcome emit(Tensors &results);
  Outcome step(Value *i, Value *&next);
  mlir::FailureOr<Tensor> stacked(unsigned index, unsigned result);
  void closePhis(BasicBlock *latch, std::vector<Leaving> &ends);
};
} // namespace

mlir::LogicalResult Iteration::run(Tensors &results) {
  mlir::Block &block = body.front();
  if (block.getNumArguments() < firstState + states.size())
    return e.error("a body with too few inputs");
  for (auto [i, state] : llvm::enumerate(states)) {
    mlir::Type type = block.getArgument(firstState + static_cast<unsigned>(i)).getType();
    state = settled(e, std::move(state), type);
    forms.push_back(formOf(state));
  }
  // The first try takes all sizes for constant in the loop; each next one knows of more that are
  // not. Sizes that change make others change: the second one gives up on all in inner loops.
  for (int tries = 0;; ++tries) {
    Attempt attempt(e);
    if (tries > 2 || (tries > 0 && e.depth > 1))
      for (Form &form : forms)
        for (Value *&d : form.dims)
          if (d && !known(d))
            d = nullptr;
    Outcome outcome = emit(results);
    if (outcome != Outcome::again)
      return mlir::success(outcome == Outcome::done);
    starts.clear();
    lists.clear();
    attempt.undo();
  }
}

/// The body once; `next` is whether there is another trip.
Iteration::Outcome Iteration::step(Value *i, Value *&next) {
  Tensors args = before(i);
  for (size_t s = 0; s < states.size(); ++s) {
    Values parts(phis[s].begin(), phis[s].end());
    args.push_back(arrive(e, forms[s], parts, keeps[s]));
  }
  for (Tensor &t : after(i))
    args.push_back(std::move(t));
  auto values = e.region(body, std::move(args));
  if (mlir::failed(values))
    return Outcome::failed;
  size_t leading = go ? 1 : 0, carried = states.size();
  if (values->size() != leading + carried + axes.size()) {
    (void)e.error("a body with another number of results");
    return Outcome::failed;
  }
  if (go) {
    auto condition = e.integersOf(values->front(), 1);
    if (mlir::failed(condition)) {
      (void)e.error("a condition that is not a scalar");
      return Outcome::failed;
    }
    next = condition->front();
  }
  bool changed = false;
  for (size_t s = 0; s < carried; ++s) {
    Tensor &value = (*values)[leading + s];
    mlir::Type type = body.front().getArgument(firstState + static_cast<unsigned>(s)).getType();
    value = settled(e, std::move(value), type);
    // Integers stay integers where they can be read.
    if (forms[s].kind == Form::Kind::integers && !value.ints && value.dims == forms[s].dims)
      if (auto read = e.integers(value); mlir::succeeded(read))
        value.ints = *read;
    Form form = forms[s];
    std::string why;
    if (!widen(form, formOf(value), why)) {
      (void)e.error("a carried value whose steps are " + why);
      return Outcome::failed;
    }
    changed |= !same(form, forms[s]);
    forms[s] = form;
  }
  sizes.clear(), types.clear();
  for (size_t k = 0; k < axes.size(); ++k) {
    const Tensor &value = (*values)[leading + carried + k];
    if (value.none || value.sequence) {
      (void)e.error("a stacked result that is not a tensor");
      return Outcome::failed;
    }
    types.push_back(value.dtype);
    sizes.emplace_back();
    for (Value *d : value.dims)
      sizes.back().push_back(known(d) ? d : nullptr);
  }
  if (changed)
    return Outcome::again;
  std::vector<Leaving> ends;
  for (size_t k = 0; k < axes.size(); ++k)
    e.append(lists[k], std::move((*values)[leading + carried + k]));
  for (size_t s = 0; s < carried; ++s) {
    ends.push_back(leave(e, forms[s], (*values)[leading + s], /*inside=*/true));
    ends.back().release();
  }
  values->clear();
  closePhis(e.b.GetInsertBlock(), ends);
  return Outcome::done;
}

void Iteration::closePhis(BasicBlock *latch, std::vector<Leaving> &ends) {
  for (auto [s, end] : llvm::enumerate(ends)) {
    for (auto [phi, part] : llvm::zip(phis[s], end.parts))
      phi->addIncoming(part, latch);
    llvm::append_range(keeps[s], end.keeps);
  }
}

Iteration::Outcome Iteration::emit(Tensors &results) {
  keeps.assign(states.size(), {});
  phis.assign(states.size(), {});
  for (size_t s = 0; s < states.size(); ++s) {
    starts.push_back(leave(e, forms[s], states[s], /*inside=*/false));
    keeps[s] = starts.back().keeps;
  }
  for (size_t k = 0; k < axes.size(); ++k) {
    Tensor list;
    list.data = e.call("sequence_new", {e.i64(8)});
    list.buffer = std::make_shared<Buffer>(e, list.data, /*sequence=*/true);
    lists.push_back(std::move(list));
  }
  BasicBlock *start = e.b.GetInsertBlock(), *head = newBlock(e, "loop");
  BasicBlock *inner = newBlock(e, "body"), *exit = newBlock(e, "");
  e.b.CreateBr(head);
  e.b.SetInsertPoint(head);
  auto phi = [&](llvm::Type *type, Value *first) {
    PHINode *p = e.b.CreatePHI(type, 2);
    p->addIncoming(first, start);
    return p;
  };
  PHINode *i = phi(e.b.getInt64Ty(), e.i64(0)), *on = phi(e.b.getInt64Ty(), go ? go : e.i64(1));
  for (size_t s = 0; s < states.size(); ++s)
    for (auto [type, part] : llvm::zip(partTypes(e, forms[s]), starts[s].parts))
      phis[s].push_back(phi(type, part));
  Value *more = e.b.CreateICmpNE(on, e.i64(0));
  if (trips)
    more = e.b.CreateAnd(more, e.b.CreateICmpSLT(i, trips));
  e.b.CreateCondBr(more, inner, exit);
  e.b.SetInsertPoint(inner);
  {
    Scope scope(e);
    Value *next = e.i64(1);
    Outcome outcome = step(i, next);
    if (outcome != Outcome::done) {
      if (outcome == Outcome::failed)
        e.b.SetInsertPoint(exit);
      return outcome;
    }
    on->addIncoming(next, e.b.GetInsertBlock());
    i->addIncoming(e.b.CreateAdd(i, e.i64(1)), e.b.GetInsertBlock());
    e.b.CreateBr(head);
  }
  e.b.SetInsertPoint(exit);
  for (size_t s = 0; s < states.size(); ++s) {
    starts[s].release();
    Values parts(phis[s].begin(), phis[s].end());
    // Pointer and owned memory that are one in all steps are one here, so that it can be handed on.
    if (forms[s].kind == Form::Kind::memory &&
        phis[s][0]->getIncomingValue(0) == phis[s][1]->getIncomingValue(0) &&
        phis[s][0]->getIncomingValue(1) == phis[s][1]->getIncomingValue(1))
      parts[1] = parts[0];
    results.push_back(arrive(e, forms[s], parts, std::move(keeps[s])));
  }
  states.clear();
  for (unsigned k = 0; k < axes.size(); ++k) {
    auto result = stacked(k, static_cast<unsigned>(phis.size()) + k);
    if (mlir::failed(result))
      return Outcome::failed;
    results.push_back(std::move(*result));
  }
  lists.clear();
  return Outcome::done;
}

/// A list's elements along a new axis. Without elements the declared type tells their shape; what
/// it leaves open is 0.
mlir::FailureOr<Tensor> Iteration::stacked(unsigned index, unsigned result) {
  const Values &sizes = this->sizes[index];
  size_t rank = sizes.size() + 1;
  auto axis = normalAxis(axes[index], rank);
  if (!axis)
    return e.error("an axis of a stacked result out of range");
  auto type = mlir::dyn_cast<mlir::RankedTensorType>(op->getResult(result).getType());
  Tensor empty;
  empty.dtype = empty.storage = types[index];
  empty.data = e.null();
  for (size_t i = 0, from = 0; i < rank; ++i) {
    Value *d = i == *axis ? nullptr : sizes[from++];
    bool declared = type && type.getRank() == static_cast<int64_t>(rank) && !type.isDynamicDim(i);
    empty.dims.push_back(i == *axis ? e.i64(0)
                         : declared ? e.i64(type.getDimSize(i))
                         : d        ? d
                                    : e.i64(0));
  }
  Tensor out = e.joined(lists[index], *axis, backwards[index] ? 2 : 1, empty);
  for (size_t i = 0, from = 0; i < rank; ++i)
    if (i != *axis)
      if (Value *d = sizes[from++])
        out.dims[i] = e.checkEqual(out.dims[i], d, "a stacked result contradicts its type");
  out.dims = e.refine(std::move(out.dims), result);
  out.strides = e.rowMajor(out.dims);
  return out;
}

static mlir::LogicalResult loop(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  Iteration it(e, op);
  it.go = e.i64(1);
  for (auto [i, place] : {std::pair(0, &it.trips), std::pair(1, &it.go)}) {
    if (args[i].none)
      continue;
    auto value = e.integersOf(args[i], 1);
    if (mlir::failed(value))
      return e.error("a trip count or condition that is not a scalar");
    *place = value->front();
  }
  it.states.assign(std::make_move_iterator(args.begin() + 2), std::make_move_iterator(args.end()));
  it.firstState = 2;
  if (op->getNumResults() < it.states.size())
    return e.error("fewer results than carried values");
  it.axes.assign(op->getNumResults() - it.states.size(), 0);
  it.backwards.assign(it.axes.size(), false);
  it.before = [&](Value *i) {
    return Tensors{e.fromIntegers(DType::I64, {i}, true),
                   e.fromIntegers(DType::Bool, {e.i64(1)}, true)};
  };
  it.after = [](Value *) { return Tensors(); };
  return it.run(results);
}

/// Element `index` of the tensor along an axis, without the axis.
static Tensor elementOf(Emitter &e, Tensor t, size_t axis, Value *index) {
  t.data = e.elementPointer(t, e.mul(index, t.strides[axis]));
  t.ints.reset();
  t.splat.reset();
  t.dims.erase(t.dims.begin() + static_cast<int64_t>(axis));
  t.strides.erase(t.strides.begin() + static_cast<int64_t>(axis));
  return t;
}

static mlir::LogicalResult scan(Emitter &e, mlir::Operation *op, Tensors &args, Tensors &results) {
  auto count = static_cast<size_t>(std::max<int64_t>(intAttr(op, "num_scan_inputs", 0), 0));
  if (count == 0 || count > args.size() || op->getNumResults() < args.size() - count)
    return e.error("num_scan_inputs, which does not fit the node");
  Iteration it(e, op);
  size_t carried = args.size() - count, stacks = op->getNumResults() - carried;
  auto list = [&](llvm::StringRef name, size_t size) {
    auto given = intsAttr(op, name).value_or(std::vector<int64_t>(size, 0));
    given.resize(size, 0);
    return given;
  };
  auto axes = list("scan_input_axes", count), back = list("scan_input_directions", count);
  auto outBack = list("scan_output_directions", stacks);
  it.axes = list("scan_output_axes", stacks);
  it.backwards.assign(outBack.begin(), outBack.end());
  Tensors inputs;
  std::vector<size_t> along;
  for (size_t i = 0; i < count; ++i) {
    auto axis = normalAxis(axes[i], args[carried + i].rank());
    if (!axis)
      return e.error("an axis of a scanned input out of range");
    along.push_back(*axis);
    inputs.push_back(e.inMemory(std::move(args[carried + i])));
    Value *length = inputs.back().dims[*axis];
    it.trips =
        it.trips ? e.checkEqual(it.trips, length, "scanned inputs differ in length") : length;
  }
  it.states.assign(std::make_move_iterator(args.begin()),
                   std::make_move_iterator(args.begin() + static_cast<int64_t>(carried)));
  it.before = [](Value *) { return Tensors(); };
  it.after = [&](Value *i) {
    Tensors slices;
    for (size_t k = 0; k < count; ++k) {
      Value *at = back[k] ? e.sub(e.sub(it.trips, e.i64(1)), i) : i;
      slices.push_back(elementOf(e, inputs[k], along[k], at));
    }
    return slices;
  };
  return it.run(results);
}

void moec::host::addLoops(Handlers &h) {
  h["Loop"] = loop;
  h["Scan"] = scan;
}
