// Integers of network protocols, unaligned.
#pragma once

#include <concepts>
#include <cstdint>
#include <cstring>

namespace stillpoint {

template <std::unsigned_integral T>
T load_be(const uint8_t* at) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value = value << 8 | at[i];
  return static_cast<T>(value);
}

template <std::unsigned_integral T>
uint8_t* store_be(uint8_t* at, T value) {
  for (size_t i = sizeof(T); i-- > 0;) *at++ = static_cast<uint8_t>(uint64_t{value} >> (8 * i));
  return at;
}

}  // namespace stillpoint
