// What the pages of moec have in common: they are one file each, without a network, light and dark.
#pragma once
#include "llvm/ADT/StringRef.h"

#include <string>

namespace moec {

extern const char *const kPageStyle; ///< CSS
/// JavaScript: colours of the style sheet, canvases, tips (they need an element "tip"), buttons.
extern const char *const kPageTools;

/// Text as HTML and SVG elements and quoted attributes take it; what is no UTF-8 is replaced.
std::string escapeMarkup(llvm::StringRef text);
/// JSON as an element <script type="application/json"> takes it: no text in it ends the element.
std::string escapeScript(llvm::StringRef json);

} // namespace moec
