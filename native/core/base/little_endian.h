// Integers of our formats: little-endian, unaligned.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace stillpoint {

static_assert(std::endian::native == std::endian::little,
              "formats are read and written as they lie in memory");

template <typename T>
T load_le(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

template <typename T>
void store_le(uint8_t* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

}  // namespace stillpoint
