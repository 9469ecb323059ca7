// com.microsoft.GroupQueryAttention, a file of its own.
#pragma once

#include "Contrib.h"

namespace moec::prepare {

bool groupQueryAttention(const Custom &c, OnnxBuilder &b);

} // namespace moec::prepare
