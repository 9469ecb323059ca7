// Parts of the proof of a layer: sums of one term for each expert, and experts
// that are regions.
#pragma once

#include "LayerProof.h"

namespace moec::raise {

// Every expert once: its body and its weight, in the order of the ids.
bool complete(const Routing &r, Expr *sum, llvm::SmallVectorImpl<Term> &terms, Refusal &no,
              int64_t experts);
// Two terms whose tokens are chosen alike.
bool sameMask(const Term &a, const Term &b);
// One body for all experts of a sum of single contributions, null when they
// differ in more than parameters.
Expr *joinTerms(Analysis &analysis, const Routing &r, Expr *sum, Expr *&weight, Refusal &no);

// RegionProof.cpp: experts as regions.
bool proveRegion(Analysis &analysis, BankBuilder &banks, Expr *candidate, Layer &layer,
                 Refusal &no);

} // namespace moec::raise
