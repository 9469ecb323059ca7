// Pictures of points as SVG. Internal to Driver.
#pragma once

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/raw_ostream.h"

#include <string>
#include <vector>

namespace moec::page {

struct Mark {
  double x, y;
  std::string title;      // what a pointer over it says
  std::string label = ""; // written beside it
};

/// Marks of one look: the class names of the style sheet and of a shape ("dot", "square",
/// "diamond", "ring"); `line` joins them in order.
struct Series {
  std::string name;
  const char *style, *shape;
  std::vector<Mark> marks;
  bool line = false;
};

struct Chart {
  std::string x, y;  // names of the axes; y falls to better values
  bool more = false; // of x is better
  std::vector<Series> series;
};

/// A figure with axes, the marks, the staircase of the best ones and a legend. Marks that are not
/// finite, or have no positive y, are left out; an axis whose ends are far apart is logarithmic.
void draw(llvm::raw_ostream &os, const Chart &chart);

/// Bars beside each other, each a total with a part of it in a stronger colour.
struct Bar {
  std::string name, title;
  double all = 0, part = 0;
};
void drawBars(llvm::raw_ostream &os, const std::vector<Bar> &bars, llvm::StringRef y);

} // namespace moec::page
