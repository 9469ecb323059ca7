#include "Selection.h"
#include "MoEOps.h"

using namespace mlir;

namespace moec::raise {

namespace {

// Every element of the integers is in 0..experts-1, whatever the model's inputs.
bool inRange(Value v, int64_t experts, int depth = 0) {
  Operation *op = v ? v.getDefiningOp() : nullptr;
  if (!op || depth > 12)
    return false;
  auto all = [&](OperandRange operands) {
    return llvm::all_of(operands, [&](Value operand) {
      return inRange(operand, experts, depth + 1);
    });
  };
  StringRef n = onnxName(op);
  if (n == "Constant") {
    auto numbers = constNumbers(v);
    return numbers && llvm::all_of(*numbers, [&](double i) {
             return i >= 0 && i < static_cast<double>(experts);
           });
  }
  if (n == "TopK" || n == "ArgMax" || n == "ArgMin") {
    auto type = ranked(op->getOperand(0));
    int64_t axis = intAttr(op, "axis", n == "TopK" ? -1 : 0);
    if (!type || (n == "TopK" && v != op->getResult(1)))
      return false;
    int64_t size = type.getDimSize(axis < 0 ? axis + type.getRank() : axis);
    return size > 0 && size <= experts;
  }
  if (n == "Clip") {
    auto low = op->getNumOperands() > 1 ? constSplat(op->getOperand(1)) : std::nullopt;
    auto high = op->getNumOperands() > 2 ? constSplat(op->getOperand(2)) : std::nullopt;
    return low && high && *low >= 0 && *high < static_cast<double>(experts);
  }
  if (n == "Concat" || n == "Max" || n == "Min")
    return all(op->getOperands());
  if (n == "Where")
    return all(op->getOperands().drop_front());
  static constexpr llvm::StringLiteral moves[] = {
      "Identity", "Cast",      "Reshape", "Squeeze",        "Unsqueeze",
      "Flatten",  "Transpose", "Slice",   "Gather",         "GatherND",
      "Expand",   "Tile",      "Split",   "GatherElements"};
  if (!llvm::is_contained(moves, n))
    return false;
  auto type = ranked(op->getOperand(0));
  return type && type.getElementType().isInteger() &&
         inRange(op->getOperand(0), experts, depth + 1);
}

} // namespace

Value givenIds(OnnxBuilder &b, const Routing &r) {
  Value ids = r.ids;
  auto type = rankedType(ids);
  if (type.getElementType().isUnsignedInteger() ||
      type.getElementType().getIntOrFloatBitWidth() < 32)
    ids = b.cast(ids, b.builder.getI64Type());
  if (type.getRank() != 2 || type.getDimSize(1) != r.k)
    ids = b.reshape(ids, {-1, r.k});
  if (!r.proven && !inRange(r.ids, r.experts)) {
    Type element = rankedType(ids).getElementType();
    auto number = [&](int64_t v) {
      return b.scalar(element, static_cast<double>(v));
    };
    auto test = [&](StringRef name, Value x, int64_t bound) {
      return b.op(name, {x, number(bound)},
                  rankedType(x).clone(b.builder.getI1Type()));
    };
    if (r.clamps) {
      ids = b.binary("Max", ids, number(0));
      return b.cast(b.binary("Min", ids, number(r.experts - 1)), b.builder.getI32Type());
    }
    if (r.wraps) {
      Value back = b.binary("Add", ids, number(r.experts));
      ids = b.op("Where", {test("Less", ids, 0), back, ids}, ids.getType());
    }
    Value beyond = b.op("Or", {test("Less", ids, 0), test("GreaterOrEqual", ids, r.experts)},
                        rankedType(ids).clone(b.builder.getI1Type()));
    ids = b.op("Where", {beyond, number(-1), ids}, ids.getType());
  }
  return b.cast(ids, b.builder.getI32Type());
}

Value realIds(OnnxBuilder &b, Value ids, int64_t experts) {
  Type i32 = b.builder.getI32Type();
  Value real = b.op("Less", {ids, b.scalar(i32, static_cast<double>(experts))},
                    rankedType(ids).clone(b.builder.getI1Type()));
  return b.op("Where", {real, ids, b.scalar(i32, -1)}, ids.getType());
}

Value tokensOf(OnnxBuilder &b, Value tokens, Value ids, Value weights, int64_t experts) {
  Type i32 = b.builder.getI32Type();
  auto type = rankedType(weights);
  Value real = b.op("Less", {ids, b.scalar(i32, static_cast<double>(experts))},
                    rankedType(ids).clone(b.builder.getI1Type()));
  Value others = b.op("Where", {real, b.scalar(type.getElementType(), 0), weights}, type);
  Value sum = b.reduce("ReduceSum", others, {-1});
  return b.binary("Mul", tokens, b.cast(sum, rankedType(tokens).getElementType()));
}

Value idsOfSequences(OnnxBuilder &b, const Routing &r, Value x) {
  Value ids = givenIds(b, r); // [B, 1]
  auto dims = rankedType(x).getShape().take_front(2);
  Value spread = b.op("Expand", {ids, b.shape(x, 0, 2)},
                      RankedTensorType::get(dims, b.builder.getI32Type()));
  return b.reshape(spread, {-1, 1});
}

Value likeScores(OnnxBuilder &b, Operation *op, Value rows, RankedTensorType type) {
  Value scores = op->getOperand(0);
  int64_t rank = rankedType(scores).getRank();
  int64_t axis = intAttr(op, "axis", isOnnx(op, "TopK") ? -1 : 0);
  axis += axis < 0 ? rank : 0;
  bool last = axis == rank - 1, kept = type.getRank() == rank; // an argmax may leave its axis out
  if (last && kept && rank == 2)
    return rows;
  SmallVector<Value> sizes;
  SmallVector<int64_t> dims(type.getShape());
  if (axis > 0)
    sizes.push_back(b.shape(scores, 0, axis));
  if (!last)
    sizes.push_back(b.shape(scores, axis + 1, rank));
  if (kept) {
    sizes.push_back(b.ints(type.getDimSize(axis)));
    std::rotate(dims.begin() + axis, dims.begin() + axis + 1, dims.end());
  }
  Value out = b.reshapeLike(rows, sizes.size() == 1 ? sizes.front() : b.concat(sizes, 0),
                            RankedTensorType::get(dims, type.getElementType()));
  if (last || !kept)
    return out;
  return b.op("Transpose", {out}, type, {b.attr("perm", axisFromEnd(axis, rank))});
}

std::pair<Value, Value> chosenExperts(OnnxBuilder &b, const Routing &r) {
  Value scores = r.scores;
  if (int64_t rank = rankedType(scores).getRank(); r.axis >= 0 && r.axis + 1 < rank)
    scores = b.transpose(scores, axisToEnd(r.axis, rank));
  auto groups = matchGroups(scores);
  int64_t each = groups ? r.experts / groups->groups : 0;
  bool grouped = groups && r.k <= groups->groupK * each;
  if (grouped)
    scores = groups->scores;
  auto type = rankedType(scores);
  Value rows = type.getRank() == 2 ? scores : b.reshape(scores, {-1, r.experts});
  auto chosen = createSelect(b, rows, r.k);
  if (!grouped || groups->groupK == groups->groups)
    return chosen;
  Operation *op = chosen.first.getDefiningOp();
  op->setAttr("kind", b.builder.getStringAttr("grouped_top_k"));
  op->setAttr("groups", b.builder.getI64IntegerAttr(groups->groups));
  op->setAttr("group_k", b.builder.getI64IntegerAttr(groups->groupK));
  if (groups->top2)
    op->setAttr("group_score", b.builder.getStringAttr("top2"));
  return chosen;
}

} // namespace moec::raise
