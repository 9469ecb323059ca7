// Forward analysis of a function: a Fact for every value (Facts.h).
//
// Each family of graphs adds its own transfer functions; what none of them
// describes becomes a leaf again, and when a routing or an expert was lost that
// way the reason is kept for the remark.
#pragma once

#include "Channels.h"
#include "Facts.h"
#include "OnnxAccess.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringSet.h"
#include <set>

namespace moec::raise {

// A top-k over expert scores; or dense weights: `ids` is then the tensor
// [.., experts] of weights, whatever computes it (`topk`, may be null).
struct Routing {
  mlir::Operation *topk;
  mlir::Value ids, values, scores;
  int64_t k = 0, experts = 0;
  int64_t axis = -1;     // of the scores' experts, -1: the last
  bool dense = false;
  bool external = false; // `ids` are no top-k or argmax of scores
  bool sequences = false; // external: one id for each row of tokens [B, S, ..]
  bool wraps = false;    // external: a negative id counts from the last expert
  bool clamps = false;   // external: ids beyond the experts are the first or last
  int64_t real = 0;      // the experts that do something, where not all do
  bool proven = false;   // external: each id is one of an expert
  bool places = false;   // dense: `ids` is [tokens, experts, places]

  mlir::Location loc() const { return topk ? topk->getLoc() : ids.getLoc(); }
};

// Integers that are read as ids of `experts` experts, or are compared with ids.
struct ExternalIds {
  int64_t experts = 0;
  bool wraps = false, clamps = false, agree = true;
  bool sequences = false; // [B]: one id for all tokens of a row of [B, S, hidden]
  std::set<int64_t> tested;
};

// What to take for a choice of experts.
struct Reading {
  llvm::MapVector<mlir::Value, ExternalIds> ids; // besides top-ks
  bool argmax = false;
  llvm::DenseSet<mlir::Value> ignored; // ids of top-ks and argmaxes
  Channels channels;                   // pixels of images as tokens
  // Operators on experts side by side, written out for each expert (StackedOps.cpp).
  using Copies = llvm::DenseMap<mlir::Operation *, llvm::SmallVector<mlir::Value>>;
  std::shared_ptr<Copies> copies = std::make_shared<Copies>();
};

struct Failure {
  mlir::Operation *op;
  std::string reason;
  bool late; // an expert's matrix had been applied already
};

class Analysis {
public:
  explicit Analysis(Reading reading) : reading_(std::move(reading)) {}
  void run(mlir::Block &block);

  Fact get(mlir::Value v);
  const Routing *routing(mlir::Value ids) const;
  llvm::MapVector<mlir::Value, Routing> &routings() { return routings_; }
  const std::vector<Failure> &failures(mlir::Value ids) {
    return failures_[ids];
  }
  // Whether slots that chose `expert` are looked for.
  bool looksAt(mlir::Value ids, int64_t expert) const {
    return lookedAt_.contains({ids, expert});
  }
  // Values that look like expert ids to what reads them, and are no top-k.
  llvm::MapVector<mlir::Value, ExternalIds> externalIds() const;
  // Those of one axis, and argmaxes, as ids of sequences.
  llvm::MapVector<mlir::Value, ExternalIds> sequenceIds(mlir::Block &block) const;
  // Sums over experts or slots that nothing larger contains.
  std::vector<Expr *> candidates();

  // Whether pixels are read as tokens.
  bool pixels() const { return !reading_.channels.values.empty(); }

  Expr *make(Expr::Kind kind);
  Expr *withChildren(Expr::Kind kind, Expr *a, Expr *b = nullptr);
  Expr *splat(double number);

private:
  using Result = std::optional<Fact>;

  void visit(mlir::Operation *op);
  Result dispatch(mlir::Operation *op);

  // LoopCombine.cpp: loops over experts, experts behind an If.
  bool loop(mlir::Operation *op);
  bool branch(mlir::Operation *op);
  std::optional<Fact> guarded(mlir::Operation *op, const Expr *cond,
                              const Fact &chosen, const Fact &otherwise);

  // RankOne.cpp: experts of one neuron.
  Result rankOne(mlir::Operation *op, const Fact &a, const Fact &b);

  // SelectCombine.cpp: the chosen expert's result picked out of all.
  Result pickedBy(mlir::Operation *op, const Fact &cond, const Fact &a, const Fact &b);
  Result weighPicked(const Fact &a, const Fact &b, const Layout &layout);
  std::optional<std::pair<const Routing *, int64_t>> slotOf(mlir::Value ids);
  Result joinSlots(const Fact &a, const Fact &b);
  Result joinGathered(const Fact &a, const Fact &b);

  // StackedOps.cpp: one operator on all experts' results, of which no expression is known
  // (`joined`) or one for all.
  Result eachOf(mlir::Operation *op, bool joined);
  Result eachWeighed(mlir::Operation *op);
  Result roundedLeaf(mlir::Operation *op);

  // SlotTerms.cpp: loops over slots and experts.
  bool addSlotTerms(mlir::Operation *op, const Fact &f, Expr *out);
  Result sumSlotTerms(mlir::Operation *op, const Fact &a, const Fact &b);

  // SortedCombine.cpp: sorts by expert, counts and cuts.
  Result stableKey(mlir::Operation *op);
  Result joinCounts(llvm::ArrayRef<Fact> parts);
  Result countSlots(const Fact &in, const Layout &summed, const Layout &rest);
  bool splitGroups(mlir::Operation *op);

  // CapacityCombine.cpp: tokens dispatched to the places of their experts.
  Result capacity(llvm::StringRef name, const Fact &a, const Fact &b,
                  const Layout &layout);
  std::optional<Result> placeFacts(llvm::StringRef name, const Fact &a, const Fact &b,
                                   const Layout &layout);
  Result runningCount(mlir::Operation *op, const Fact &in);
  Result countOrPlace(const Fact &in, const Dim &summed, const Layout &rest);
  Result placeHot(const Fact &place, int64_t places, Layout layout);
  Result dispatchOf(const Fact &weights, const Fact &hot, const Layout &layout);
  Result joinDispatches(const Fact &a, const Fact &b, const Layout &layout);
  Result bucketsOf(const Fact &a, const Fact &b);
  Result combineBuckets(mlir::Operation *op, const Fact &a, const Fact &b);

  // DenseCombine.cpp: weights [tokens, experts] of any origin.
  mlir::Value denseRouting(Expr *leaf, int64_t experts);
  bool fromBadTopK(mlir::Value weights);
  std::optional<Fact> acrossExperts(const Fact &weights, const Fact &body);
  std::optional<Fact> acrossSequences(const Fact &weights, const Fact &body);
  Result weightedSum(mlir::Operation *op, const Fact &a, const Fact &b);
  void setLeaves(mlir::Operation *op);
  void set(mlir::Value v, Fact fact);
  void fail(mlir::Operation *op, mlir::Value ids, llvm::Twine reason,
            bool late = false);

  // ViewOps.cpp: same elements, other places.
  Result reshape(mlir::Operation *op);
  bool countsTokens(mlir::Value shape);
  Result flattenOp(mlir::Operation *op);
  Result squeeze(mlir::Operation *op);
  Result transposeOp(mlir::Operation *op);
  Result expand(mlir::Operation *op);
  Result tile(mlir::Operation *op);
  bool split(mlir::Operation *op);
  Result slice(mlir::Operation *op);
  Result sliceAxis(const Fact &in, int64_t axis, int64_t total, int64_t start,
                   int64_t end, int64_t step);
  Result partOf(const Fact &in, int64_t axis, int64_t offset, int64_t size,
                int64_t stride);
  Result pickOf(const Fact &in, int64_t axis, int64_t index, bool drop);

  // Arithmetic.cpp: elementwise ops.
  Result unary(mlir::Operation *op);
  Result cast(mlir::Operation *op);
  Result binary(mlir::Operation *op);
  Result binaryFacts(llvm::StringRef name, const Fact &a, const Fact &b,
                     mlir::Operation *op);
  // Nullopt: the case does not apply.
  std::optional<Result> foldSplats(llvm::StringRef name, const Fact &a,
                                   const Fact &b, mlir::Operation *op);
  std::optional<Result> foldTable(llvm::StringRef name, const Fact &a,
                                  const Fact &b, bool floats, Layout layout);
  Result combineFacts(llvm::StringRef name, const Fact &a, const Fact &b,
                      const Layout &layout, mlir::Operation *op);
  Result grow(llvm::StringRef name, const Fact &a, const Fact &b, const Layout &layout,
              mlir::Operation *op);
  Result compareCount(llvm::StringRef name, const Fact &a, const Fact &b);
  Result clip(mlir::Operation *op);
  Result where(mlir::Operation *op);
  Result indexArithmetic(llvm::StringRef name, const Fact &a, const Fact &b,
                         const Layout &layout, bool floats);
  Result oneHot(mlir::Operation *op);

  // LowRankBody.cpp: features as experts of rank one.
  Result sumFeatures(const Fact &x, const WeightSet &down, bool nk, const Layout &layout);
  // HardSelect.cpp: the chosen one of results side by side.
  Result gatherElements(mlir::Operation *op);
  Result gatherPairs(mlir::Operation *op);
  bool numbersOfTokens(mlir::Value v);
  bool isExpertLeaf(mlir::Value v, mlir::Value stack = {});
  Expr *asBody(mlir::Value v); // a leaf stands for `v` itself, not what it views

  // Opaque.cpp: any operation on an expert's values that keeps rows apart.
  bool opaque(mlir::Operation *op);
  bool manyFeatures(mlir::Operation *op);

  // Linear.cpp: products with parameters.
  Result matmul(mlir::Operation *op);
  Result gemm(mlir::Operation *op);
  Result conv(mlir::Operation *op);
  Result linear(const Fact &x, const Fact &w, bool weightLeft);

  // Routers, gathers, scatters, sums.
  bool topk(mlir::Operation *op);
  int64_t chosenAxis(mlir::Operation *op, int64_t axis);
  bool argsort(mlir::Operation *op, const Fact &in);
  // ExternalIds.cpp
  bool argmax(mlir::Operation *op);
  void noteIds(const Fact &index, int64_t experts, bool wraps);
  void noteTest(const Fact &index, const Fact &other);
  void noteSort(mlir::Operation *op, const Fact &ids);
  Fact givenFact(mlir::Value v, const ExternalIds &given);
  Expr *idTable(mlir::Value ids, int64_t experts);
  Result ofFilled(mlir::Operation *op, const Fact &in); // InputWeights.cpp
  bool completeTopOne(mlir::Value v); // TopOne.cpp
  bool endsTopOne(mlir::Operation *op);
  Result joinChoices(llvm::ArrayRef<Fact> parts, size_t axis,
                     mlir::Operation *op);
  Result gather(mlir::Operation *op);
  Result gatherND(mlir::Operation *op);
  Result gatherRows(mlir::Operation *op, const Fact &data, size_t axis,
                    const Fact &index, const Layout &rows);
  Result gatherWeights(mlir::Operation *op, const Fact &data,
                       const Fact &index, const Layout &rows);
  Result tableOfIds(const Fact &data, const Fact &index);
  Result nonZero(mlir::Operation *op);
  Result pickedTokens(mlir::Operation *op, const Fact &in);
  Result concat(mlir::Operation *op);
  Result joinGroups(llvm::ArrayRef<Fact> parts, mlir::Operation *op);
  std::optional<FixedExpert> fixedRows(mlir::Value rows, const Atom &group);
  Result stack(llvm::ArrayRef<Fact> parts, size_t axis, mlir::Operation *op);
  Result cumSum(mlir::Operation *op);
  Result range(mlir::Operation *op);
  Result scatterND(mlir::Operation *op);
  Result scatterElements(mlir::Operation *op);
  Result scatterIds(mlir::Operation *op, const Fact &data, const Fact &index,
                    const Fact &update, bool adds);
  // `update` rows into the rows `index` names.
  Result scatterRows(mlir::Operation *op, const Fact &data, const Fact &index,
                     const Dim &rows, const Fact &update, bool adds);
  Result addHits(mlir::Operation *op, const Fact &data, const Fact &index,
                 const Fact &update, bool adds);
  Result reduceSum(mlir::Operation *op);
  Result reduceMax(mlir::Operation *op);
  Result maskedWeight(const Fact &in, const Layout &rest);
  Result sumSlots(mlir::Operation *op, const Fact &in, const Layout &rest);
  // The sum of `in` along one axis, `summed`, which `rest` has no more.
  Result sumOver(mlir::Operation *op, const Fact &in, const Dim &summed,
                 const Layout &rest);
  Result sumAll(mlir::Operation *op, const Fact &in);
  Result sumTerms(mlir::Operation *op, const Fact &a, const Fact &b);
  std::optional<Term> asLeafTerm(Expr *expr, mlir::Operation *op, mlir::Value &ids);
  Expr *without(Expr *product, Expr *factor);
  Expr *onlySlotMask(Expr *expr, llvm::ArrayRef<Expr *> factors);
  // `ids` becomes the routing of the term's weight.
  std::optional<Term> asTerm(Expr *expr, mlir::Operation *op, mlir::Value &ids);
  bool isSlotCount(mlir::Value count, const Layout &slots);

  llvm::DenseMap<mlir::Value, Fact> facts_;
  llvm::MapVector<mlir::Value, Routing> routings_;
  llvm::DenseMap<mlir::Value, std::vector<Failure>> failures_;
  Reading reading_;
  llvm::MapVector<mlir::Value, ExternalIds> noted_;
  llvm::DenseSet<std::pair<mlir::Value, int64_t>> lookedAt_;
  std::deque<Expr> exprs_;
  llvm::DenseSet<Expr *> consumed_;
  llvm::DenseMap<mlir::Operation *, Dim> sortedFrom_; // sort -> its slots
  mlir::Block *block_ = nullptr;
  mlir::Region *looped_ = nullptr; // the innermost loop body that is walked
  int iteration_ = 0;              // grows with each walk of a loop body
};

// `e`, laid out as `layout`, has a value for each token and each of `n` features
// or experts, and is not of some expert itself.
bool isTokenTensor(const Expr *e, const Layout &layout, int64_t n);
// The layout of ids chosen from `scores` along an axis, which is empty then.
Layout idLayout(const Layout &scores, mlir::RankedTensorType type, int64_t axis);
// Treats each number by itself, with one result.
bool isEachOp(mlir::Operation *op);
// A table that maps every expert id to itself.
bool isIdentity(const Expr *e);
// The only expert a table is 1 for, 0 for all others; else -1.
int onlyExpert(const Expr *e);
// Factors of a product tree.
void factors(Expr *e, llvm::SmallVectorImpl<Expr *> &out);
// Holds matrices that the expert id picked, not those of one expert.
bool readsChosen(const Expr *e);
// What each expert gives, side by side (`apart`: not one formula for all).
Expr *joinExperts(Analysis &analysis, llvm::ArrayRef<Expr *> perExpert);
// Structural equality (shared nodes are equal at once).
bool same(const Expr *a, const Expr *b);
// One expression for all experts from one for each (nullptr: they differ in
// more than the parameters). `why` names the first difference.
Expr *zipExperts(Analysis &analysis, llvm::ArrayRef<Expr *> perExpert,
                 std::string &why);

} // namespace moec::raise
