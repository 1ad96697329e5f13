// Reads as much of a range as is readable.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "core/device/block_source.h"
#include "core/scan/chunk.h"

namespace stillpoint {

// Reads the range. Where the device says that its medium is bad: reads again `retries` times, then each half
// so, down to single sectors; sectors that stay unreadable are filled with zeros and returned, ascending,
// neighbours merged. Any other error (the device is gone) is thrown. `stopping` makes it give up early with
// `cancelled`.
std::vector<ByteRange> read_what_is_readable(BlockSource& device, uint64_t byte_offset,
                                             std::span<uint8_t> into, unsigned retries,
                                             const std::atomic<bool>& stopping);

}  // namespace stillpoint
