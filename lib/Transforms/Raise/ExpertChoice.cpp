// Experts that choose tokens: top-k over the tokens of scores, [E, T] or [T, E]; each
// expert's tokens are gathered, its results weighted by the scores and added up where
// the tokens came from.
#include "MoEOps.h"
#include "OwnRows.h"
#include "SoftSlots.h"
#include "mlir/IR/Diagnostics.h"
#include "moec/Transforms/Raise/Passes.h"

using namespace mlir;

namespace moec::raise {

namespace {

class Matcher {
public:
  Matcher(Value result, BankBuilder &banks) : result(result), banks(banks) {}

  bool match() {
    if (!terms(result, 0) || parts.empty() || !topk || !x)
      return false;
    Expr *body = parts.size() == 1 ? whole() : walk.joined(sorted());
    if (!body)
      return false;
    auto ffn = matchFfn(body, nullptr, walk.why);
    if (!ffn)
      return false;
    bool once =
        weighed ? ffn->weights.empty() : ffn->weights.size() == 1 && ffn->weights[0] == values;
    if (ffn->x != tokens || !once) {
      walk.why = "the experts' results are not weighted by the scores of their tokens alone";
      return false;
    }
    auto checked = banks.check(*ffn, experts, walk.why);
    if (!checked)
      return false;
    if (ranked(result) != ranked(x) || !sumsAreOfTokens()) {
      walk.why = "the sums may be of more or fewer rows than the tokens";
      return false;
    }
    found = *ffn;
    shape = *checked;
    return true;
  }

  void emit(bool remarks) {
    FlatSymbolRefAttr bank = banks.build(found, shape, result.getLoc());
    OpBuilder builder(result.getDefiningOp());
    OnnxBuilder b(builder, topk->getLoc());
    Value turned = topk->getOperand(0), scores = turned; // [E, T] and [T, E]
    Operation *before = turned.getDefiningOp();
    if (byExpert && isOnnx(before, "Transpose") &&
        intsAttr(before, "perm") == SmallVector<int64_t>{1, 0})
      scores = before->getOperand(0);
    else if (byExpert)
      scores = b.transpose(turned, {1, 0});
    else
      turned = b.transpose(scores, {1, 0});
    Type element = ranked(scores).getElementType();
    OperationState choose(b.loc, "moe.choose");
    choose.addOperands(scores);
    choose.addTypes({RankedTensorType::get({experts, capacity}, builder.getI32Type()),
                     RankedTensorType::get({experts, capacity}, element)});
    choose.addAttribute("capacity", builder.getI64IntegerAttr(capacity));
    Operation *chosen = builder.create(choose);
    Value zeros = b.op("Expand", {b.scalar(element, 0), b.shape(turned, 0, 2)}, turned.getType());
    Value ids = b.cast(chosen->getResult(0), builder.getI64Type());
    Value dense = b.op("ScatterElements", {zeros, ids, chosen->getResult(1)}, turned.getType(),
                       {b.attr("axis", int64_t(1)), b.attr("reduction", StringRef("add"))});
    dense = b.transpose(dense, {1, 0});
    if (found.scale != 1)
      dense = b.binary("Mul", dense, b.scalar(element, found.scale));
    Value y = createExperts(b, bank, x, Value(), dense);
    y.getDefiningOp()->setAttr(routerKindAttr, builder.getStringAttr("expert choice"));
    result.replaceAllUsesWith(y);
    if (remarks)
      mlir::emitRemark(topk->getLoc()) << "moe-raise: raised " << experts << " experts that choose "
                                       << capacity << " tokens each, as " << bank;
  }

  OwnRowsWalk walk{[this](Value v) { return source(v); }};
  SmallVector<Operation *> combines; // the scatters and sums of the layer
  Operation *topk = nullptr;
  bool scattered = false; // rows of the experts' results, at least

private:
  std::optional<OwnRows> source(Value v) {
    Operation *op = v.getDefiningOp();
    StringRef n = onnxName(op);
    if (n == "TopK")
      return chosen(op, v);
    if (auto rows = oneHot(op, n, v))
      return rows;
    if ((n != "Gather" && n != "GatherND") || ranked(op->getOperand(0)).getRank() != 2 ||
        intAttr(op, n == "Gather" ? "axis" : "batch_dims", 0) != 0 || op->getOperand(0) == ids ||
        isWeight(op->getOperand(0)))
      return std::nullopt;
    auto of = ranked(op->getOperand(0));
    auto index = walk.at(op->getOperand(1));
    if (!index || index->expr != idsExpr || of.isDynamicDim(1))
      return std::nullopt;
    if (n == "GatherND") {
      auto type = ranked(op->getOperand(1));
      if (type.getShape().back() != 1)
        return std::nullopt;
      index->axes.pop_back();
    }
    if (!takeTokens(op->getOperand(0)))
      return std::nullopt;
    index->axes.push_back(features(of.getDimSize(1)));
    index->expr = tokens;
    return index;
  }

  // Rows [.., T] that are 1 at the row's token, such rows times the values, and
  // such rows times the tokens, which gathers.
  std::optional<OwnRows> oneHot(Operation *op, StringRef n, Value v) {
    if (n == "OneHot" || n == "Equal") {
      auto index = walk.at(op->getOperand(0));
      auto type = ranked(v);
      if (!index || index->expr != idsExpr || (hot && hot != op))
        return std::nullopt;
      if (n == "OneHot") {
        auto numbers = constNumbers(op->getOperand(2));
        int64_t axis = intAttr(op, "axis", -1);
        if (!numbers || *numbers != SmallVector<double>{0, 1} ||
            (axis != -1 && axis != type.getRank() - 1))
          return std::nullopt;
      } else {
        auto numbers = constNumbers(op->getOperand(1));
        auto of = ranked(op->getOperand(1));
        if (!numbers || !of || of.getRank() != 1 || index->axes.size() != size_t(type.getRank()) ||
            !index->axes.back().empty())
          return std::nullopt;
        for (auto [i, number] : llvm::enumerate(*numbers))
          if (number != static_cast<double>(i))
            return std::nullopt;
        index->axes.pop_back();
      }
      int64_t tokens = type.getShape().back();
      if (tokens == 1)
        return std::nullopt;
      hot = op;
      index->axes.push_back({{RowAtom::Batch, 1, ShapedType::isDynamic(tokens) ? -1 : tokens}});
      hotExpr = hotExpr ? hotExpr : walk.analysis.make(Expr::Leaf);
      index->expr = hotExpr;
      return index;
    }
    if (n == "Cast") {
      auto rows = walk.at(op->getOperand(0));
      return rows && hotExpr && rows->expr == hotExpr ? rows : std::nullopt;
    }
    if (n == "Mul") {
      auto a = walk.at(op->getOperand(0)), b = walk.at(op->getOperand(1));
      if (!a || !b || !hotExpr || (a->expr != hotExpr && b->expr != hotExpr))
        return std::nullopt;
      if (b->expr == hotExpr)
        std::swap(a, b);
      size_t missing = a->axes.size() - b->axes.size();
      if (b->expr != values || b->offset != a->offset || a->axes.size() < b->axes.size())
        return std::nullopt;
      for (auto [i, axis] : llvm::enumerate(a->axes))
        if (!isTokens(axis) && (i < missing ? !axis.empty() : b->axes[i - missing] != axis))
          return std::nullopt;
      weighedExpr = weighedExpr ? weighedExpr : walk.analysis.make(Expr::Leaf);
      a->expr = weighedExpr;
      return a;
    }
    if (n != "MatMul" || isWeight(op->getOperand(1)) || ranked(op->getOperand(1)).getRank() != 2)
      return std::nullopt;
    auto rows = walk.at(op->getOperand(0));
    if (!rows || !hotExpr || rows->expr != hotExpr || !isTokens(rows->axes.back()) ||
        !takeTokens(op->getOperand(1)))
      return std::nullopt;
    rows->axes.back() = features(ranked(x).getDimSize(1));
    rows->expr = tokens;
    return rows;
  }

  static bool isTokens(const RowAxis &axis) {
    return axis.size() == 1 && axis[0].source == RowAtom::Batch;
  }

  bool takeTokens(Value v) {
    if ((x && x != v) || ranked(v).isDynamicDim(1))
      return false;
    if (!x) {
      x = v;
      tokens = walk.analysis.make(Expr::Leaf);
      tokens->origin = x;
    }
    return true;
  }

  // One-hot rows [T, places] times the experts' results [places, hidden].
  bool product(Operation *op) {
    if (isWeight(op->getOperand(0)) || isWeight(op->getOperand(1)))
      return false;
    auto where = walk.at(op->getOperand(0));
    if (!where || !hotExpr || (where->expr != hotExpr && where->expr != weighedExpr) ||
        where->axes.size() != 2 || !isTokens(where->axes[0]))
      return false;
    auto rows = walk.at(op->getOperand(1));
    if (!rows || rows->axes.size() != 2 || rows->axes[0] != where->axes[1] ||
        rows->offset != where->offset)
      return false;
    scattered = true;
    weighed = where->expr == weighedExpr;
    parts.push_back(*rows);
    return true;
  }

  // The ids or values of the top-k.
  std::optional<OwnRows> chosen(Operation *op, Value v) {
    auto scores = ranked(op->getOperand(0)), type = ranked(v);
    auto k = evalInt(op->getOperand(1));
    if ((topk && topk != op) || !scores || !type || scores.getRank() != 2 || !k || *k < 1 ||
        *k > mostRows || intAttr(op, "largest", 1) != 1)
      return std::nullopt;
    int64_t axis = intAttr(op, "axis", -1);
    axis += axis < 0 ? 2 : 0;
    if (axis < 0 || axis > 1)
      return std::nullopt;
    if (scores.isDynamicDim(1 - axis) || scores.getDimSize(1 - axis) < 1 ||
        scores.getDimSize(1 - axis) > mostRows || isa<IntegerType>(scores.getElementType()))
      return std::nullopt;
    if (!topk) {
      topk = op;
      byExpert = axis == 1;
      experts = walk.experts = scores.getDimSize(1 - axis);
      capacity = *k;
      walk.places = experts * capacity;
      ids = op->getResult(1);
      for (auto [expr, i] : {std::pair{&values, 0}, {&idsExpr, 1}}) {
        *expr = walk.analysis.make(Expr::Leaf);
        (*expr)->origin = op->getResult(i);
      }
    }
    OwnRows rows;
    rows.axes.resize(2);
    if (experts > 1)
      rows.axes[1 - axis] = {{RowAtom::Places, capacity, experts}};
    if (capacity > 1)
      rows.axes[axis] = {{RowAtom::Places, 1, capacity}};
    rows.expr = v == ids ? idsExpr : values;
    return rows;
  }

  // Sums and scatters into zeros.
  bool terms(Value v, int depth) {
    Operation *op = v.getDefiningOp();
    StringRef n = onnxName(op);
    if (isZero(v)) {
      zeros.push_back(v);
      return true;
    }
    auto type = ranked(v);
    if (!type || type.getRank() != 2 || depth > 512 || combines.size() > 4096)
      return false;
    combines.push_back(op);
    if (n == "Add")
      return terms(op->getOperand(0), depth + 1) && terms(op->getOperand(1), depth + 1);
    if (n == "MatMul") // of all experts at once, and nothing else is added
      return depth == 0 && product(op);
    return (n == "ScatterND" || n == "ScatterElements") && scatter(op, n, depth);
  }

  bool scatter(Operation *op, StringRef n, int depth) {
    Value data = op->getOperand(0), index = op->getOperand(1);
    auto type = ranked(op->getResult(0));
    if (n == "ScatterElements") {
      Operation *wide = index.getDefiningOp();
      auto to = ranked(index);
      int64_t axis = intAttr(op, "axis", 0);
      if ((axis != 0 && axis != -2) || !isOnnx(wide, "Expand") || !to || to.getRank() != 2 ||
          to.getDimSize(1) != type.getDimSize(1) || to.isDynamicDim(1))
        return false;
      index = wide->getOperand(0);
      auto from = ranked(index);
      if (!from || from.getRank() != 2 || from.getDimSize(1) != 1 || from.isDynamicDim(0) ||
          from.getDimSize(0) != to.getDimSize(0))
        return false;
    }
    auto where = walk.at(index);
    if (!where || where->expr != idsExpr || where->axes.empty() || !where->axes.back().empty())
      return false;
    auto rows = walk.at(op->getOperand(2));
    if (!rows)
      return false;
    scattered |= rows->expr->expertLinear;
    where->axes.pop_back();
    if (rows->axes.empty() || ArrayRef(rows->axes).drop_back() != ArrayRef(where->axes) ||
        rows->offset != where->offset)
      return false;
    // The tokens of one expert are different ones, those of all are not.
    std::string reduction = strAttr(op, "reduction");
    bool adds = reduction == "add", one = ofOneExpert(*where);
    if (!adds && (!reduction.empty() && reduction != "none"))
      return false;
    if (!adds && (!one || !isZero(data))) {
      walk.why = "the scatter does not add, so that a token keeps the result of one of the "
                 "experts that chose it";
      walk.failed = op;
      return false;
    }
    parts.push_back(*rows);
    return terms(data, depth + 1);
  }

  // The zeros that results are added to have a row for each token; numbers that are
  // added to all rows are zeros of any shape.
  bool sumsAreOfTokens() {
    return llvm::all_of(zeros, [&](Value v) {
      auto type = ranked(v);
      if (!type || type.getNumElements() == 1)
        return true;
      if (type.hasStaticShape())
        return type == ranked(x);
      Operation *op = v.getDefiningOp();
      bool fills = isOnnx(op, "Expand") || isOnnx(op, "ConstantOfShape");
      return fills && countsRows(op->getOperands().back(), x);
    });
  }

  static int64_t rowsOf(const OwnRows &r) {
    int64_t n = 1;
    for (const RowAxis &axis : r.axes)
      for (const RowAtom &atom : axis)
        n *= atom.source == RowAtom::Places ? atom.size : 1;
    return n;
  }

  bool ofOneExpert(const OwnRows &r) const {
    int64_t last = r.offset;
    for (const RowAxis &axis : r.axes)
      for (const RowAtom &atom : axis)
        last += (atom.size - 1) * atom.stride;
    return r.offset / capacity == last / capacity;
  }

  Expr *whole() {
    if (rowsOf(parts[0]) == walk.places && parts[0].offset == 0)
      return parts[0].expr;
    walk.why = "not every expert's results are added";
    return nullptr;
  }

  ArrayRef<OwnRows> sorted() {
    llvm::sort(parts, [](const OwnRows &a, const OwnRows &b) { return a.offset < b.offset; });
    return parts;
  }

  Value result, ids, x;
  BankBuilder &banks;
  bool byExpert = false; // scores are [E, T]
  int64_t experts = 0, capacity = 0;
  Expr *tokens = nullptr, *values = nullptr, *idsExpr = nullptr;
  Expr *hotExpr = nullptr, *weighedExpr = nullptr;
  Operation *hot = nullptr;
  bool weighed = false; // where they are added
  std::vector<OwnRows> parts;
  SmallVector<Value> zeros;
  Ffn found;
  BankShape shape;
};

} // namespace

RaiseCount raiseExpertChoice(Block &block, BankBuilder &banks, bool remarks) {
  RaiseCount count;
  SmallVector<Operation *> ends;
  bool any = false;
  for (Operation &op : block) {
    StringRef n = onnxName(&op);
    any |= n == "TopK";
    if (n == "ScatterND" || n == "ScatterElements" || n == "Add" || n == "MatMul")
      ends.push_back(&op);
  }
  if (!any)
    return count;
  llvm::DenseSet<Operation *> done, refused;
  for (Operation *op : llvm::reverse(ends)) { // sums in front of their terms
    if (done.contains(op))
      continue;
    Matcher matcher(op->getResult(0), banks);
    if (matcher.match()) {
      matcher.emit(remarks);
      ++count.raised;
      done.insert(matcher.combines.begin(), matcher.combines.end());
    } else if (matcher.scattered && onnxName(op) != "Add" && refused.insert(matcher.topk).second) {
      ++count.refused;
      Operation *at = matcher.walk.failed ? matcher.walk.failed : op;
      if (remarks)
        remarkRefused(matcher.topk, matcher.walk.why, at);
    }
  }
  if (count.raised)
    eraseDeadOps(block);
  return count;
}

} // namespace moec::raise
