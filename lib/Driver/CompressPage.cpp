// The page of `moec compress --report`.
#include "CompressReport.h"

using namespace moec;

std::string moec::reportPage(const CompressReport &report) {
  return "<!doctype html><meta charset=utf-8><title>moec compress</title><pre>" +
         reportText(report) + "</pre>\n";
}
