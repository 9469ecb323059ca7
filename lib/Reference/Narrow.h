// Element types of 8 bits and fewer that no arithmetic is done in: floats of 8 and 4 bits, integers of
// 4 and 2 bits. Each element is one byte; integers are sign- or zero-extended in it.
#pragma once
#include "Tensor.h"

namespace moec::reference {

/// How Cast treats values outside of a narrow float's range, and which way it rounds to f8E8M0.
struct Narrowing {
  bool saturate = true;
  enum class Round { up, down, nearest } round = Round::up;
};

bool isNarrowFloat(Elem e);
/// The limits of an integer type that QuantizeLinear writes, or of a 4- or 2-bit one.
std::pair<int64_t, int64_t> integerLimits(Elem e);
/// The value of a narrow float's byte.
double narrowValue(Elem e, uint8_t bits);
/// The byte of the narrow float nearest to `value`, as the tables of the operator Cast say.
uint8_t narrowBits(Elem e, double value, Narrowing how = {});

/// Cast with its attributes.
Tensor cast(const Tensor &t, Elem to, const Narrowing &how);

} // namespace moec::reference
