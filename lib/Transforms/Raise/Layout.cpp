#include "Facts.h"

using namespace mlir;

namespace moec::raise {

// All dimensions but the last are taken as token dimensions, the last as
// features: what most leaves of an MoE block look like.
Layout leafLayout(ShapedType type) {
  Layout layout;
  if (!type.hasRank())
    return layout;
  ArrayRef<int64_t> shape = type.getShape();
  // A last dimension that is not known is no number of features.
  bool features = !shape.empty() && shape.back() >= 0;
  ArrayRef<int64_t> rows = shape.drop_back(features ? 1 : 0);
  int64_t tokens = 1;
  int parts = 0;
  for (int64_t d : rows)
    if (d != 1) {
      ++parts;
      tokens = (d < 0 || tokens < 0) ? -1 : tokens * d;
    }
  int part = 0;
  for (int64_t d : rows) {
    Dim dim;
    if (d != 1) {
      Atom atom{Atom::Tok, tokens};
      atom.part = part++;
      atom.parts = parts;
      dim.push_back(atom);
    }
    layout.push_back(dim);
  }
  if (features)
    layout.push_back(shape.back() == 1 ? Dim() : Dim{Atom{Atom::Any, shape.back()}});
  return layout;
}

SmallVector<Atom, 8> flatten(const Layout &layout) {
  SmallVector<Atom, 8> atoms;
  llvm::SmallVector<bool, 8> fromFirst; // the token index from its first part on
  for (const Dim &dim : layout)
    for (Atom atom : dim) {
      if (atom.kind == Atom::Tok && atom.parts > 1) {
        // Parts that follow each other are one row-major token index.
        if (atom.part > 0 && !atoms.empty() &&
            atoms.back().kind == Atom::Tok && atoms.back().parts > 1 &&
            atoms.back().part == atom.part - 1) {
          atoms.back().part = atom.part;
          continue;
        }
      }
      atoms.push_back(atom);
      fromFirst.push_back(atom.part == 0);
    }
  for (auto [atom, whole] : llvm::zip(atoms, fromFirst))
    if (atom.kind == Atom::Tok && atom.parts > 1 && whole &&
        atom.part == atom.parts - 1) {
      atom.part = 0;
      atom.parts = 1;
    }
  return atoms;
}

namespace {

// Takes atoms from one end of `atoms` until their product is `size`.
bool takeStatic(SmallVectorImpl<Atom> &atoms, int64_t size, bool fromBack,
                Dim &out) {
  SmallVector<Atom, 8> rest(atoms.begin(), atoms.end());
  Dim taken;
  while (size > 1) {
    if (rest.empty())
      return false;
    Atom atom = fromBack ? rest.back() : rest.front();
    if (atom.size <= 0 || size % atom.size != 0)
      return false;
    size /= atom.size;
    if (fromBack) {
      rest.pop_back();
      taken.insert(taken.begin(), atom);
    } else {
      rest.erase(rest.begin());
      taken.push_back(atom);
    }
  }
  out = taken;
  atoms.assign(rest.begin(), rest.end());
  return true;
}

} // namespace

std::optional<Layout> regroup(ArrayRef<Atom> source, ArrayRef<int64_t> dims) {
  SmallVector<Atom, 8> atoms(source.begin(), source.end());
  for (const Atom &atom : atoms)
    if (atom.parts > 1)
      return std::nullopt; // part of the token index was moved away
  Layout layout(dims.size());
  int64_t last = static_cast<int64_t>(dims.size()) - 1, first = 0;
  for (; last >= 0; --last)
    if (dims[last] < 0 || !takeStatic(atoms, dims[last], true, layout[last]))
      break;
  for (; first <= last; ++first)
    if (dims[first] < 0 || !takeStatic(atoms, dims[first], false, layout[first]))
      break;
  if (first > last)
    return atoms.empty() ? std::optional<Layout>(layout) : std::nullopt;
  if (atoms.empty())
    return std::nullopt;
  SmallVector<int64_t> open;
  for (int64_t i = first; i <= last; ++i)
    if (dims[i] != 1)
      open.push_back(i);
  if (open.size() == 1) {
    layout[open[0]].assign(atoms.begin(), atoms.end());
    return layout;
  }
  // Several open dimensions: only the token index itself may be spread.
  if (atoms.size() != 1 || atoms[0].kind != Atom::Tok)
    return std::nullopt;
  for (auto [part, i] : llvm::enumerate(open)) {
    Atom atom = atoms[0];
    atom.part = static_cast<int>(part);
    atom.parts = static_cast<int>(open.size());
    layout[i] = {atom};
  }
  return layout;
}

std::optional<Layout> transpose(const Layout &layout, ArrayRef<int64_t> perm) {
  if (perm.size() != layout.size())
    return std::nullopt;
  Layout out;
  for (int64_t p : perm) {
    if (p < 0 || p >= static_cast<int64_t>(layout.size()))
      return std::nullopt;
    out.push_back(layout[p]);
  }
  return out;
}

std::optional<Dim> unifyDims(const Dim &a, const Dim &b) {
  if (a.empty())
    return b;
  if (b.empty())
    return a;
  if (a.size() != b.size())
    return std::nullopt;
  Dim out;
  for (auto [x, y] : llvm::zip(a, b)) {
    if (x.size >= 0 && y.size >= 0 && x.size != y.size)
      return std::nullopt;
    bool statics = x.kind <= Atom::Expert && y.kind <= Atom::Expert;
    if (x.kind == Atom::Any && y.kind == Atom::Any)
      out.push_back(x.copies ? y : x);
    else if (x.kind == Atom::Any && statics && y.kind != Atom::Tok)
      out.push_back(y);
    else if (y.kind == Atom::Any && statics && x.kind != Atom::Tok)
      out.push_back(x);
    else if (x.sameSpace(y) && x.part == y.part && x.parts == y.parts)
      out.push_back(x.size >= 0 ? x : y);
    else
      return std::nullopt;
  }
  return out;
}

std::optional<Layout> broadcast(const Layout &a, const Layout &b) {
  Layout out(std::max(a.size(), b.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    Dim x = i < a.size() ? a[a.size() - 1 - i] : Dim();
    Dim y = i < b.size() ? b[b.size() - 1 - i] : Dim();
    auto dim = unifyDims(x, y);
    if (!dim)
      return std::nullopt;
    out[out.size() - 1 - i] = *dim;
  }
  return out;
}

bool isAtom(const Dim &dim, Atom::Kind kind) {
  return dim.size() == 1 && dim[0].kind == kind && dim[0].parts == 1;
}

bool isFlatSlots(const Dim &dim) {
  if (dim.size() == 1) // top-1: a slot is a token
    return dim[0].kind == Atom::Tok && dim[0].parts == 1;
  return dim.size() == 2 && dim[0].kind == Atom::Tok && dim[0].parts == 1 &&
         (dim[1].kind == Atom::Slot || dim[1].kind == Atom::Any);
}

Layout dropUnits(const Layout &layout) {
  Layout out;
  for (const Dim &dim : layout)
    if (!dim.empty())
      out.push_back(dim);
  return out;
}

bool isTokenRows(const Layout &layout, unsigned trailing) {
  SmallVector<Atom, 8> atoms = flatten(layout);
  if (atoms.size() != trailing + 1)
    return false;
  if (atoms[0].kind != Atom::Tok || atoms[0].parts != 1)
    return false;
  return llvm::all_of(llvm::drop_begin(atoms), [](const Atom &a) {
    return a.kind == Atom::Any || a.kind == Atom::Slot;
  });
}

bool isTokenBlocks(const Layout &layout) {
  SmallVector<Atom, 8> atoms = flatten(layout);
  return !atoms.empty() && atoms[0].kind == Atom::Tok && atoms[0].parts == 1 &&
         llvm::all_of(llvm::drop_begin(atoms), [](const Atom &a) { return a.kind == Atom::Any; });
}

int64_t innerFeatures(const Layout &layout) {
  int64_t axis = -1;
  for (auto [i, dim] : llvm::enumerate(layout)) {
    if (dim.empty() || (dim.size() == 1 && dim[0].kind == Atom::Tok))
      continue;
    if (dim.size() != 1 || axis >= 0)
      return -1;
    axis = static_cast<int64_t>(i);
  }
  return axis + 1 < static_cast<int64_t>(layout.size()) ? axis : -1;
}

Layout featuresLast(const Layout &layout) {
  int64_t axis = innerFeatures(layout);
  Layout out = layout;
  if (axis >= 0)
    std::rotate(out.begin() + axis, out.begin() + axis + 1, out.end());
  return out;
}

SmallVector<int64_t> axisToEnd(int64_t axis, int64_t rank) {
  SmallVector<int64_t> perm;
  for (int64_t i = 0; i < rank; ++i)
    if (i != axis)
      perm.push_back(i);
  perm.push_back(axis);
  return perm;
}

SmallVector<int64_t> axisFromEnd(int64_t axis, int64_t rank) {
  SmallVector<int64_t> perm;
  for (int64_t i = 0; i + 1 < rank; ++i)
    perm.push_back(i);
  perm.insert(perm.begin() + axis, rank - 1);
  return perm;
}

} // namespace moec::raise
