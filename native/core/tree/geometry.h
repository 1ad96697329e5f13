// Arithmetic of a device's digest tree (docs/format.md section 1). Pure.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/base/digest.h"

namespace stillpoint {

inline constexpr uint32_t kBlockSizeMin = 4096;
inline constexpr uint32_t kBlockSizeMax = 4u << 20;
inline constexpr uint64_t kDeviceSizeMax = uint64_t{8192} << 40;

// Blocks [begin, end).
struct BlockRange {
  uint64_t begin;
  uint64_t end;
};

struct TreeGeometry {
  uint64_t size_bytes = 0;
  uint32_t block_size = kBlockSizeMin;

  bool operator==(const TreeGeometry&) const = default;

  // Block size a power of two in bounds, size in bounds. Everything below may only be asked if so.
  bool valid() const {
    return block_size >= kBlockSizeMin && block_size <= kBlockSizeMax &&
           (block_size & (block_size - 1)) == 0 && size_bytes <= kDeviceSizeMax;
  }

  uint64_t block_count() const { return (size_bytes + block_size - 1) / block_size; }

  // Bytes of one block: the block size, or less for the last block.
  uint32_t block_length(uint64_t block_index) const {
    return static_cast<uint32_t>(std::min<uint64_t>(block_size, size_bytes - block_index * block_size));
  }

  // Levels above the leaves: the smallest h >= 1 with 64^h >= block count.
  unsigned height() const {
    unsigned height = 1;
    for (uint64_t reach = kTreeFanout; reach < block_count(); reach *= kTreeFanout) ++height;
    return height;
  }

  // Leaves (level 0) or nodes that a level can have. The top level has its one node even on an empty device.
  uint64_t level_count(unsigned level) const {
    uint64_t count = block_count();
    for (unsigned k = 0; k < level; ++k)
      count = std::max<uint64_t>(1, (count + kTreeFanout - 1) / kTreeFanout);
    return count;
  }
};

}  // namespace stillpoint
