// y = softmax over slots (z) * experts(softmax over tokens (z)^T * x), each expert on
// its own slots. Only what the experts do is proven and moved; the two mixtures stay as
// they are for batches of sequences.
#include "SoftSlots.h"
#include "MoEOps.h"
#include "OwnRows.h"
#include "mlir/IR/Diagnostics.h"
#include "moec/Transforms/Raise/Passes.h"

using namespace mlir;

namespace moec::raise {

namespace {

// What the softmax of slots or tokens reads, behind views.
Value logitsOf(Operation *softmax) {
  Value v = softmax->getOperand(0);
  while (Operation *op = v.getDefiningOp()) {
    StringRef n = onnxName(op);
    if (n != "Reshape" && n != "Transpose" && n != "Cast" && n != "Identity")
      break;
    v = op->getOperand(0);
  }
  return v;
}

struct Slots {
  Value rows;         // [.., hidden]
  Operation *softmax; // over tokens
  OwnRows at;
  SmallVector<int64_t> places; // sizes of the axes of slots, 1 of others
  int64_t count = 1, hidden = 0;
};

// mixture * tokens; axes of slots are those that the tokens do not have.
std::optional<Slots> slotsOf(Value v) {
  Operation *op = v.getDefiningOp();
  auto type = ranked(v);
  if (!isOnnx(op, "MatMul") || !type || type.getRank() < 2)
    return std::nullopt;
  auto tokens = ranked(op->getOperand(1)), mixture = ranked(op->getOperand(0));
  if (!tokens || !mixture || tokens.getRank() < 2 || mixture.getRank() < 2 ||
      isWeight(op->getOperand(1)) || type.isDynamicDim(type.getRank() - 1))
    return std::nullopt;
  int64_t over = mixture.getRank() - 1, rank = type.getRank();
  Slots s;
  s.rows = v;
  s.softmax = softmaxBehind(op->getOperand(0), over);
  if (!s.softmax || over < 0)
    return std::nullopt;
  s.hidden = type.getDimSize(rank - 1);
  s.at.axes.resize(rank);
  s.places.assign(rank - 1, 1);
  for (int64_t i = rank - 2; i >= 0; --i) {
    int64_t of = i - (rank - tokens.getRank()), size = type.getDimSize(i);
    bool slots = i == rank - 2 || of < 0 || tokens.getDimSize(of) == 1;
    if (slots && (size < 1 || size > mostRows || s.count * size > mostRows))
      return std::nullopt;
    if (slots) {
      if (size > 1)
        s.at.axes[i] = {{RowAtom::Places, s.count, size}};
      s.places[i] = size;
      s.count *= size;
    } else if (size != 1) {
      s.at.axes[i] = {{RowAtom::Batch + i, 1, ShapedType::isDynamic(size) ? -1 : size}};
    }
  }
  s.at.axes[rank - 1] = features(s.hidden);
  return s;
}

class Matcher {
public:
  Matcher(Operation *combine, BankBuilder &banks) : combine(combine), banks(banks) {}

  bool match() {
    int64_t axis = ranked(combine->getOperand(0)).getRank() - 1;
    softmax = softmaxBehind(combine->getOperand(0), axis);
    result = combine->getOperand(1);
    if (!softmax || !ranked(result) || isWeight(result))
      return false;
    auto rows = walk.at(result);
    if (!slots || !rows)
      return false;
    if (flatRows(rows->axes) != flatRows(slots->at.axes) || rows->offset != 0)
      return false;
    if (ranked(result).getNumDynamicDims() > 1) {
      walk.why = "the slots' results have more than one axis of unknown size";
      return false;
    }
    auto ffn = matchFfn(rows->expr, nullptr, walk.why);
    if (!ffn)
      return false;
    if (ffn->x->kind != Expr::Leaf || ffn->x->origin != slots->rows || !ffn->weights.empty()) {
      walk.why = "an expert reads more than its slots";
      return false;
    }
    auto checked = walk.experts ? banks.check(*ffn, walk.experts, walk.why) : std::nullopt;
    if (!checked || checked->hidden != slots->hidden)
      return false;
    found = *ffn;
    shape = *checked;
    return true;
  }

  // The slots of a layer, and the mixtures read the same logits.
  bool isSoft() const { return slots && logitsOf(slots->softmax) == logitsOf(softmax); }

  void emit(bool remarks) {
    FlatSymbolRefAttr bank = banks.build(found, shape, result.getLoc());
    OpBuilder builder(result.getDefiningOp());
    OnnxBuilder b(builder, result.getLoc());
    Value source = dispatched(b);
    auto type = ranked(result);
    Value rows = ranked(source).getRank() == 2 ? source : b.reshape(source, {-1, slots->hidden});
    Value one = b.unsqueeze(b.scalar(type.getElementType(), found.scale), {0, 1});
    Value weights =
        b.op("Expand", {one, b.concat({b.shape(rows, 0, 1), b.ints(1)}, 0)},
             RankedTensorType::get({ranked(rows).getDimSize(0), 1}, type.getElementType()));
    Value y = createExperts(b, bank, rows, ids(b, source), weights);
    y.getDefiningOp()->setAttr(routerKindAttr, builder.getStringAttr("soft slots"));
    if (y.getType() != type) {
      SmallVector<int64_t> dims;
      for (int64_t d : type.getShape())
        dims.push_back(ShapedType::isDynamic(d) ? -1 : d);
      y = b.reshapeLike(y, b.ints(dims), type);
    }
    result.replaceAllUsesWith(y);
    combined(y);
    if (remarks)
      mlir::emitRemark(softmax->getLoc())
          << "moe-raise: raised " << shape.experts << " experts over " << slots->count
          << " soft slots, as " << bank;
  }

  OwnRowsWalk walk{[this](Value v) { return source(v); }};

private:
  std::optional<OwnRows> source(Value v) {
    auto s = slotsOf(v);
    if (!s || (slots && slots->rows != v))
      return std::nullopt;
    slots = s;
    walk.places = s->count;
    s->at.expr = walk.analysis.make(Expr::Leaf);
    s->at.expr->origin = v;
    return s->at;
  }

  // One id for each row of the slots, [N, 1].
  Value ids(OnnxBuilder &b, Value source) {
    SmallVector<int32_t> each;
    for (int64_t i = 0; i < slots->count; ++i)
      each.push_back(i / (slots->count / shape.experts));
    auto type = RankedTensorType::get(slots->places, b.builder.getI32Type());
    Value table =
        b.op("Constant", {}, type,
             {b.builder.getNamedAttr("value", DenseElementsAttr::get(type, ArrayRef(each)))});
    auto of = ranked(source);
    Value all = b.op("Expand", {table, b.shape(source, 0, of.getRank() - 1)},
                     type.clone(of.getShape().drop_back()));
    return b.reshape(all, {-1, 1});
  }

  static Operation *create(OpBuilder &builder, Location loc, StringRef name, ValueRange operands,
                           Type type) {
    OperationState state(loc, name);
    state.addOperands(operands);
    state.addTypes(type);
    return builder.create(state);
  }

  // The slots of one sequence as moe.soft_dispatch.
  Value dispatched(OnnxBuilder &b) {
    Operation *mixture = slots->rows.getDefiningOp();
    Operation *turned = mixture->getOperand(0).getDefiningOp();
    Value x = mixture->getOperand(1);
    bool plain =
        isOnnx(turned, "Transpose") && turned->getOperand(0).getDefiningOp() == slots->softmax;
    if (!plain || ranked(x).getRank() != 2 || ranked(slots->rows).getRank() != 2 ||
        ranked(slots->softmax->getOperand(0)).getRank() != 2)
      return slots->rows;
    return create(b.builder, mixture->getLoc(), "moe.soft_dispatch",
                  {x, slots->softmax->getOperand(0)}, slots->rows.getType())
        ->getResult(0);
  }

  void combined(Value y) {
    bool plain = combine->getOperand(0).getDefiningOp() == softmax &&
                 ranked(softmax->getOperand(0)).getRank() == 2 && ranked(y).getRank() == 2;
    int64_t axis = 1;
    if (!plain || !softmaxBehind(combine->getOperand(0), axis) || axis != 1)
      return;
    OpBuilder builder(combine);
    Operation *op = create(builder, combine->getLoc(), "moe.soft_combine",
                           {y, softmax->getOperand(0)}, combine->getResult(0).getType());
    combine->getResult(0).replaceAllUsesWith(op->getResult(0));
  }

  Operation *combine, *softmax = nullptr;
  BankBuilder &banks;
  Value result; // of the experts
  std::optional<Slots> slots;
  Ffn found;
  BankShape shape;
};

} // namespace

RaiseCount raiseSoftSlots(Block &block, BankBuilder &banks, bool remarks) {
  RaiseCount count;
  for (Operation &op : llvm::make_early_inc_range(block)) {
    if (!isOnnx(&op, "MatMul") || !ranked(op.getOperand(0)) || !ranked(op.getResult(0)))
      continue;
    Matcher matcher(&op, banks);
    if (matcher.match()) {
      matcher.emit(remarks);
      ++count.raised;
    } else if (matcher.isSoft()) {
      ++count.refused;
      Operation *at = matcher.walk.failed ? matcher.walk.failed : &op;
      if (remarks)
        remarkRefused(&op, matcher.walk.why, at);
    }
  }
  if (count.raised)
    eraseDeadOps(block);
  return count;
}

} // namespace moec::raise
