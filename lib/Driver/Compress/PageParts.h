// The parts of the page of `moec compress --report`. Internal to Driver.
#pragma once

#include "Report.h"

#include "llvm/Support/raw_ostream.h"

namespace moec::page {

// Sections; each writes nothing when the report lacks what it shows.
void pictures(llvm::raw_ostream &os, const CompressReport &report);      // quality against size
void searchPicture(llvm::raw_ostream &os, const CompressReport &report); // the same, tried recipes
void sensitivities(llvm::raw_ostream &os, const CompressReport &report);
void layers(llvm::raw_ostream &os, const CompressReport &report);
void routing(llvm::raw_ostream &os, const CompressReport &report);
void searchLog(llvm::raw_ostream &os, const CompressReport &report);

/// What the script reads: the load of each expert before and after, packed.
nlohmann::json routingData(const CompressReport &report);
extern const char *const script;

/// The remarks of passes on each layer of the report, without their node, and, last, of none.
std::vector<std::vector<std::string>> remarksByLayer(const CompressReport &report);

/// What a result keeps of each layer: "3 × 24, 20 experts", or, where all experts stay with fewer
/// neurons, "3 × 75 %, 50 % of the neurons".
std::string keptText(const CompressReport &report, const Recipe &recipe,
                     const Compressor::Result &result);
/// "3 × a, b" of equal neighbours.
std::string runsText(llvm::ArrayRef<std::string> texts);

/// A number with so many digits after the point, "–" when it is not finite.
std::string number(double value, int digits);
std::string mib(uint64_t bytes);
/// "+4.5 %" of `after` over `before`.
std::string change(double before, double after);
/// A loss of the report's measure as people read it.
std::string shown(const CompressReport &report, double loss, int digits = 3);

} // namespace moec::page
