#include "PageCharts.h"

#include "moec/Analysis/Page.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"

#include <algorithm>
#include <cmath>

using namespace moec;
using namespace moec::page;

namespace {

constexpr double kWidth = 540, kHeight = 330, kLeft = 52, kRight = 14, kTop = 12, kBottom = 44;
constexpr double kFar = 4; // ends of a scale that is logarithmic: further apart than this

std::string shortNumber(double value) {
  if (std::abs(value) >= 1e6)
    return llvm::formatv("{0:e1}", value).str();
  std::string text = llvm::formatv("{0:f3}", value).str();
  while (text.back() == '0')
    text.pop_back();
  if (text.back() == '.')
    text.pop_back();
  return text;
}

/// A scale of values that maps them to pixels.
class Axis {
public:
  Axis(double low, double high, double from, double to, bool mayBeLog)
      : from(from), to(to), log(mayBeLog && low > 0 && high / low > kFar) {
    double pad = 0.06 * (at(high) - at(low));
    if (!(pad > 0))
      pad = log ? 0.1 : std::max(std::abs(high) * 0.05, 1e-3);
    start = at(low) - pad;
    end = at(high) + pad;
  }

  double operator()(double value) const {
    return from + (at(value) - start) / (end - start) * (to - from);
  }

  std::vector<double> ticks() const {
    std::vector<double> out;
    if (log)
      return logTicks();
    double rough = (end - start) / 5, power = std::pow(10, std::floor(std::log10(rough)));
    double step = power * (rough / power > 5   ? 10
                           : rough / power > 2 ? 5
                           : rough / power > 1 ? 2
                                               : 1);
    for (int i = 0; i < 12; ++i) // bounded: a step may be below the precision of large values
      if (double value = (std::ceil(start / step) + i) * step; value <= end)
        out.push_back(std::abs(value) < step / 1e6 ? 0 : value);
    return out;
  }

private:
  /// Round numbers, as many as there is room for.
  std::vector<double> logTicks() const {
    std::vector<double> out;
    const double decade = std::log(10.0), decades = (end - start) / decade;
    std::vector<double> digits{1};
    if (decades < 1.2)
      digits = {1, 1.5, 2, 3, 4, 5, 7};
    else if (decades < 3)
      digits = {1, 2, 5};
    const double every = std::ceil(decades / 8);
    for (double power = std::floor(start / decade); power <= end / decade; power += every)
      for (double digit : digits)
        if (double value = digit * std::pow(10, power); at(value) >= start && at(value) <= end)
          out.push_back(value);
    return out;
  }

  double at(double value) const { return log ? std::log(value) : value; }
  double from, to;
  bool log;
  double start = 0, end = 1;
};

bool drawable(const Mark &mark) {
  return std::isfinite(mark.x) && std::isfinite(mark.y) && mark.y > 0;
}

void shape(llvm::raw_ostream &os, llvm::StringRef kind, llvm::StringRef style, double x, double y,
           llvm::StringRef title) {
  if (kind == "dot" || kind == "ring")
    os << llvm::formatv("<circle class=\"{0} {1}\" cx=\"{2:f1}\" cy=\"{3:f1}\" r=\"{4}\">", kind,
                        style, x, y, kind == "ring" ? "8" : "4");
  else
    os << llvm::formatv("<path class=\"mark {0}\" d=\"M{1:f1} {2:f1}{3}\">", style, x, y,
                        kind == "diamond" ? "m0-8l8 8l-8 8l-8-8z" : "m-5-5h10v10h-10z");
  os << "<title>" << escapeMarkup(title) << "</title>"
     << (kind == "dot" || kind == "ring" ? "</circle>\n" : "</path>\n");
}

void axes(llvm::raw_ostream &os, const Axis &x, const Axis &y, const Chart &chart) {
  for (double value : y.ticks())
    os << llvm::formatv("<line class=\"grid\" x1=\"{0}\" x2=\"{1}\" y1=\"{2:f1}\" y2=\"{2:f1}\"/>"
                        "<text x=\"{3}\" y=\"{4:f1}\" text-anchor=\"end\">{5}</text>\n",
                        kLeft, kWidth - kRight, y(value), kLeft - 7, y(value) + 4,
                        shortNumber(value));
  for (double value : x.ticks())
    os << llvm::formatv("<line class=\"grid\" x1=\"{0:f1}\" x2=\"{0:f1}\" y1=\"{1}\" y2=\"{2}\"/>"
                        "<text x=\"{0:f1}\" y=\"{3}\" text-anchor=\"middle\">{4}</text>\n",
                        x(value), kTop, kHeight - kBottom, kHeight - kBottom + 16,
                        shortNumber(value));
  os << llvm::formatv("<text x=\"{0}\" y=\"{1}\" text-anchor=\"middle\">{2}</text>\n"
                      "<text transform=\"translate(12 {3}) rotate(-90)\" text-anchor=\"middle\">{4}"
                      "</text>\n",
                      (kLeft + kWidth - kRight) / 2, kHeight - 8, escapeMarkup(chart.x),
                      (kTop + kHeight - kBottom) / 2, escapeMarkup(chart.y));
}

/// The marks that no other one beats in both, joined as a staircase.
void staircase(llvm::raw_ostream &os, std::vector<Mark> marks, bool more, const Axis &x,
               const Axis &y) {
  auto better = [&](double a, double b) { return more ? a > b : a < b; };
  llvm::sort(marks, [&](const Mark &a, const Mark &b) {
    return a.x == b.x ? a.y < b.y : better(a.x, b.x);
  });
  std::string path;
  double least = INFINITY;
  for (const Mark &mark : marks) {
    if (!(mark.y < least))
      continue;
    least = mark.y;
    path += path.empty() ? llvm::formatv("M{0:f1} {1:f1}", x(mark.x), y(mark.y)).str()
                         : llvm::formatv("H{0:f1}V{1:f1}", x(mark.x), y(mark.y)).str();
  }
  if (path.find('H') != std::string::npos)
    os << "<path class=\"best\" d=\"" << path << "\"/>\n";
}

void legend(llvm::raw_ostream &os, const Chart &chart) {
  os << "<div class=\"legend keys\">";
  for (const Series &series : chart.series) {
    if (series.marks.empty())
      continue;
    os << "<span><svg viewBox=\"-9 -9 18 18\" aria-hidden=\"true\">";
    shape(os, series.shape, series.style, 0, 0, "");
    os << "</svg> " << escapeMarkup(series.name) << "</span>";
  }
  os << "<span><svg viewBox=\"-9 -9 18 18\" aria-hidden=\"true\"><path class=\"best\" d=\"M-9 "
        "0H9\"/>"
        "</svg> nothing is better in both</span></div>\n";
}

} // namespace

void page::draw(llvm::raw_ostream &os, const Chart &chart) {
  std::vector<Mark> marks;
  for (const Series &series : chart.series)
    llvm::copy_if(series.marks, std::back_inserter(marks), drawable);
  if (marks.empty())
    return;
  auto [left, right] = std::minmax_element(marks.begin(), marks.end(),
                                           [](const Mark &a, const Mark &b) { return a.x < b.x; });
  auto [low, high] = std::minmax_element(marks.begin(), marks.end(),
                                         [](const Mark &a, const Mark &b) { return a.y < b.y; });
  Axis x(left->x, right->x, kLeft, kWidth - kRight, false);
  Axis y(low->y, high->y, kHeight - kBottom, kTop, true);
  os << llvm::formatv("<svg class=\"wide\" viewBox=\"0 0 {0} {1}\" role=\"img\" aria-label=\"{2} "
                      "against {3}\">\n",
                      kWidth, kHeight, escapeMarkup(chart.y), escapeMarkup(chart.x));
  axes(os, x, y, chart);
  staircase(os, marks, chart.more, x, y);
  for (const Series &series : chart.series) {
    std::string line;
    for (const Mark &mark : series.marks)
      if (series.line && drawable(mark))
        line += llvm::formatv("{0}{1:f1} {2:f1}", line.empty() ? "M" : "L", x(mark.x), y(mark.y));
    if (!line.empty())
      os << "<path class=\"joined " << series.style << "\" d=\"" << line << "\"/>\n";
  }
  for (const Series &series : chart.series)
    for (const Mark &mark : series.marks) {
      if (!drawable(mark))
        continue;
      shape(os, series.shape, series.style, x(mark.x), y(mark.y), mark.title);
      const bool end = x(mark.x) > kWidth * 0.7;
      if (!mark.label.empty())
        os << llvm::formatv("<text class=\"name\" x=\"{0:f1}\" y=\"{1:f1}\" text-anchor=\"{2}\">{3}"
                            "</text>\n",
                            x(mark.x) + (end ? -11 : 11), y(mark.y) + 15, end ? "end" : "start",
                            escapeMarkup(mark.label));
    }
  os << "</svg>\n";
  legend(os, chart);
}

void page::drawBars(llvm::raw_ostream &os, const std::vector<Bar> &bars, llvm::StringRef y) {
  double most = 0;
  for (const Bar &bar : bars)
    if (std::isfinite(bar.all))
      most = std::max({most, bar.all, bar.part});
  if (!(most > 0))
    return;
  constexpr double width = 1100, height = 190, left = 62, top = 10, bottom = 30;
  Axis scale(0, most, height - bottom, top, false);
  const double floor = scale(0), step = std::min((width - left) / double(bars.size()), 160.0);
  const double room = step * 0.7;
  os << llvm::formatv(
      "<svg class=\"wide\" viewBox=\"0 0 {0} {1}\" role=\"img\" aria-label=\"{2}\">\n", width,
      height, escapeMarkup(y));
  for (double value : scale.ticks())
    if (value >= 0)
      os << llvm::formatv("<line class=\"grid\" x1=\"{0}\" x2=\"{1}\" y1=\"{2:f1}\" y2=\"{2:f1}\"/>"
                          "<text x=\"{3}\" y=\"{4:f1}\" text-anchor=\"end\">{5}</text>\n",
                          left, width, scale(value), left - 7, scale(value) + 4,
                          most < 1e-3 ? llvm::formatv("{0:e1}", value).str() : shortNumber(value));
  const size_t every = std::max<size_t>(1, size_t(std::ceil(80 / step)));
  for (auto [i, bar] : llvm::enumerate(bars)) {
    const double at = left + (double(i) + 0.5) * step;
    auto part = [&](const char *style, double value) {
      if (std::isfinite(value) && value > 0)
        os << llvm::formatv("<rect class=\"{0}\" x=\"{1:f1}\" y=\"{2:f1}\" width=\"{3:f1}\" "
                            "height=\"{4:f1}\"><title>{5}</title></rect>\n",
                            style, at - room / 2, scale(value), room, floor - scale(value),
                            escapeMarkup(bar.title));
    };
    part("bar-all", bar.all);
    part("bar-part", bar.part);
    if (i % every == 0)
      os << llvm::formatv("<text x=\"{0:f1}\" y=\"{1}\" text-anchor=\"middle\">{2}</text>\n", at,
                          height - 12,
                          escapeMarkup(llvm::StringRef(bar.name).take_back(
                              size_t(std::max(6.0, double(every) * step / 6.5)))));
  }
  os << "</svg>\n";
}
