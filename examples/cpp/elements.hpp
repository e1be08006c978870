// Numbers inside an Array, whatever its element type.
#pragma once

#include <cmath>
#include <cstring>

#include "npz.hpp"

namespace qcompile::detail {

inline double half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double magnitude = exponent == 31  ? (fraction ? std::nan("") : HUGE_VAL)
                           : exponent == 0 ? std::ldexp(fraction, -24)
                                           : std::ldexp(1024 + fraction, exponent - 25);
  return bits >> 15 ? -magnitude : magnitude;
}

inline double element(const Array& array, std::size_t index) {
  const unsigned char* place = array.bytes.data() + index * array.width();
  std::uint64_t bits = 0;
  std::memcpy(&bits, place, array.width());  // little-endian, as the files are
  if (array.dtype == "f4") {
    float value;
    std::memcpy(&value, place, 4);
    return value;
  }
  if (array.dtype == "f8") {
    double value;
    std::memcpy(&value, place, 8);
    return value;
  }
  if (array.dtype == "f2") return half(static_cast<std::uint16_t>(bits));
  if (array.dtype[0] != 'i') return static_cast<double>(bits);
  const int unused = 64 - 8 * static_cast<int>(array.width());
  return static_cast<double>(static_cast<std::int64_t>(bits << unused) >> unused);
}

}  // namespace qcompile::detail
