#include "moec/Analysis/Page.h"

#include "llvm/Support/JSON.h"

std::string moec::escapeMarkup(llvm::StringRef text) {
  std::string out;
  for (char c : llvm::json::isUTF8(text) ? text.str() : llvm::json::fixUTF8(text))
    switch (c) {
    case '<':
      out += "&lt;";
      break;
    case '>':
      out += "&gt;";
      break;
    case '&':
      out += "&amp;";
      break;
    case '"':
      out += "&quot;";
      break;
    default:
      out += c;
    }
  return out;
}

std::string moec::escapeScript(llvm::StringRef json) {
  std::string out;
  for (char c : json)
    c == '<' ? out += "\\u003c" : out += c;
  return out;
}
