// Ids of points, sessions and packs: 16 random bytes, 32 hex digits outside of the core.
#pragma once

#include <array>
#include <cstdint>

namespace stillpoint {

using Id = std::array<uint8_t, 16>;

}  // namespace stillpoint
