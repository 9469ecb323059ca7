// What the raise analysis knows about a value: *which* number stands at each
// position (an Expr over the routing's slots) and *where* it stands (a Layout).
//
// Everything the families of exported graphs do between the top-k and the
// combine is either a change of layout (repeat rows per slot, sort them by
// expert, pick one expert's hits, tile them over all experts) or arithmetic on
// single elements. Layouts carry the first, expressions the second, so that one
// matcher of expert bodies serves all families.
//
// Ownership: Exprs live in the Analysis that made them. Sizes are in elements;
// -1 is a size known only at run time.
#pragma once

#include "mlir/IR/Operation.h"
#include "mlir/IR/Value.h"
#include "llvm/ADT/SmallVector.h"
#include <deque>
#include <optional>
#include <string>

namespace moec::raise {

// One index variable of a layout.
struct Atom {
  enum Kind {
    Tok,    // row-major index over all token dimensions
    Any,    // a static axis without a role (features, broadcast copies)
    Slot,   // the k of a top-k
    Expert, // expert id
    Sorted, // slots (token-major) in the order of a sort by expert id
    Group,  // the rows of one expert inside a sorted order
    Hit,    // the slots that chose one expert, in NonZero order
    Bucket, // the places of an expert that tokens are dispatched to (`ids`)
  };
  Kind kind = Any;
  int64_t size = -1;
  int expert = -1;        // Group, Hit
  mlir::Operation *order = nullptr; // Sorted, Group: the sort
  mlir::Value ids = {};   // Hit: the routing
  int part = 0, parts = 1; // Tok spread over several dimensions
  bool copies = false;     // Any: the expression does not depend on this axis
  int axis = -1;           // Any of parameters: their axis as stored

  bool sameSpace(const Atom &o) const {
    return kind == o.kind && expert == o.expert && order == o.order &&
           ids == o.ids;
  }
};

using Dim = llvm::SmallVector<Atom, 2>; // product of atoms, outermost first
using Layout = llvm::SmallVector<Dim, 4>;

struct Expr;

// The matrices (or bias vectors) of a linear map: either one value that holds
// all experts along axis 0, or one item for each expert, or a single item.
struct WeightItem {
  mlir::Value value;
  int64_t index = -1; // slice of axis 0, -1: the whole value
};
struct WeightSet {
  // Rows, Columns: expert e owns row or column e of the one matrix.
  enum Kind { Stacked, PerExpert, Single, Rows, Columns };
  Kind kind = Single;
  llvm::SmallVector<WeightItem, 1> items;
};

// One term of a combine: what expert `expert` adds to its tokens.
struct Term {
  int expert;
  Expr *body;   // expert's output, without the routing weight when `weight`
  Expr *weight; // [token, slot] or dense [token, expert] values, null: still a
                // factor of `body`
  mlir::Operation *op;
  int64_t rowAxes = 0;   // axes of tokens in front of `body`, 0: by its layout
  Expr *mask = nullptr;  // only tokens get the term whose value here is not 0,
  bool positive = false; // or is above 0
};

// An expert that gives every token the same row: `constant`, or zeros where it is null.
struct FixedExpert {
  int64_t expert;
  mlir::Value constant;
};

// One choice of a Dispatch: [token, expert, place] is not 0 only where `choice`
// chose the expert and the token's place is this one.
struct Placing {
  Expr *choice;
  Expr *place;
  bool ones; // never another number than 0 and 1
};

struct Expr {
  enum Kind {
    Leaf,      // any tensor; `origin` is it
    Splat,     // one number everywhere
    Weight,    // constant parameters
    Gathered,  // parameters of the expert that the slot chose
    Linear,    // child times `weights`
    Unary,     // `name`(child), parameters in `nums`
    Binary,    // `name`(a, b)
    Opaque,    // result of `op`, which treats rows one by one
    Joined,    // `args`: what each expert gives, in order of id; `b`: their DenseW is in it
    Part,      // every stride-th feature of child from offset, `size` of them
    IdTable,   // table[id of the slot]
    OneHot,    // id of the slot == index of the expert axis
    Perm,      // sorted row -> flat slot
    PermTok,   // sorted row -> token
    PermFrac,  // sorted row -> flat slot / k as a fraction
    PermSign,  // its sign
    SortKey,   // flat slot -> id * slots + slot
    InvPerm,   // flat slot -> sorted row
    Hits,      // coordinates of expert's hits: axis of two, see `nums`
    HitTok,    // hit -> token
    HitSlot,   // hit -> k
    HitTokK,   // hit -> token * K
    HitFlat,   // hit -> token * K + k
    HitPair,   // hit -> (token, k)
    Counts,    // slots per expert
    Ends,      // running sum of counts, inclusive
    Starts,    // running sum of counts, exclusive
    End,       // Ends of one expert
    Count,     // Counts of one expert
    GroupRows, // rows of one expert in the sorted order
    Iota,      // 0, 1, 2, ...
    Masked,    // sum over slots of (id == expert) * weight
    DenseW,    // same, along an expert axis; or dense weights `b`, any tensor
    FilledW,   // values `b` of the chosen along an expert axis, -inf elsewhere
    Column,    // column `expert` of `size` of the tensor `a`, one per token
    Picked,    // bool: the token's weight of `expert`, `a`, is above 0 (no `a`:
               // some slot chose it)
    HitCount,  // how many slots chose `expert`, of all tokens
    Chosen,    // bool, one: HitCount is above 0 (`nums` {1}) or 0 ({0})
    // Capacities (CapacityCombine.cpp). `a` of the first three is the OneHot of
    // the choice that they count.
    Rank,      // how many tokens up to this one chose the expert, + `offset`, and
               // all that `args` chose; where `a` is 1, 0 elsewhere if `b`
    Below,     // bool: a Rank is at most `size`, where `a` is 1
    Place,     // Rank of the token's expert where `b` is 1, at most `size`
    PlaceHot,  // Place `a` == index of an axis of `size` places
    Dispatch,  // sum over `places` of weight * PlaceHot
    Dispatched,// bool: the Dispatch `a` is not 0; is 0 with `nums` {0}
    PlaceSum,  // the Dispatch `a` summed over its places
    Terms,     // sum of experts' contributions
    AllTerms,  // sum over all slots of `a`
  };
  Kind kind = Leaf;
  mlir::Value origin;     // a value that holds this expression ...
  Layout originLayout;    // ... in this layout
  mlir::Value ids;        // routing it depends on
  bool expertLinear = false; // an expert's matrix was applied
  Expr *a = nullptr, *b = nullptr;
  std::string name;
  llvm::SmallVector<double, 4> nums;
  WeightSet weights;
  bool nk = false;        // Linear: weights are [N, K]
  int64_t offset = 0, size = 0, stride = 1; // Part; Joined: the experts' axis
  int expert = -1;
  mlir::Operation *order = nullptr;
  mlir::Operation *op = nullptr;        // Opaque
  // Opaque: operands. Joined, and one formula for experts side by side: each.
  llvm::SmallVector<Expr *, 0> args;
  bool perSlot = false;   // depends on the slot, not only on the token
  bool apart = false;     // Terms: still side by side along an expert axis
  llvm::SmallVector<Term, 0> terms;
  llvm::SmallVector<Placing, 0> places; // Dispatch
  // Experts of sorted groups whose part of the expression is only a stand-in.
  llvm::SmallVector<FixedExpert, 0> fixed;
};

struct Fact {
  Expr *expr = nullptr;
  Layout layout;
};

// Layout algebra; each fails (nullopt) rather than guess.
Layout leafLayout(mlir::ShapedType type);
llvm::SmallVector<Atom, 8> flatten(const Layout &layout);
std::optional<Layout> regroup(llvm::ArrayRef<Atom> atoms,
                              llvm::ArrayRef<int64_t> dims);
std::optional<Layout> transpose(const Layout &layout,
                                llvm::ArrayRef<int64_t> perm);
std::optional<Dim> unifyDims(const Dim &a, const Dim &b);
std::optional<Layout> broadcast(const Layout &a, const Layout &b);
// True when the dimension is exactly one atom of that kind.
bool isAtom(const Dim &dim, Atom::Kind kind);
// True when the dimension runs over flat slots, token-major.
bool isFlatSlots(const Dim &dim);
Layout dropUnits(const Layout &layout);
// Rows of a value in token order with `n` static trailing axes: [Tok.., n...].
bool isTokenRows(const Layout &layout, unsigned trailing = 1);
// Rows of a value in token order with any axes behind: [Tok.., n, m...].
bool isTokenBlocks(const Layout &layout);
// The only axis of features where it is not the last one, as in [N, C, H, W]; -1: none.
int64_t innerFeatures(const Layout &layout);
// The same with that axis last.
Layout featuresLast(const Layout &layout);
// The order of the axes of a transpose that brings `axis` to the end, and back.
llvm::SmallVector<int64_t> axisToEnd(int64_t axis, int64_t rank);
llvm::SmallVector<int64_t> axisFromEnd(int64_t axis, int64_t rank);

} // namespace moec::raise
