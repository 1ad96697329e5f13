// Writes what the records of a journal say to a device.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/thread_pool.h"
#include "core/device/block_source.h"
#include "core/journal/record.h"
#include "core/tree/geometry.h"

namespace stillpoint {

// The device is then as if each record had been written in its order. All of them are proven first, and must
// fit on the device: nothing is written where one is wrong (the errors of prove_all(), `bad-index`,
// `argument`). Byte ranges of `except`, ascending and apart, are left alone. What several records write to
// is written once, and not flushed. Answers the bytes that were written or zeroed.
//
// A device that fails has some of them; the caller must not let others write to it meanwhile.
uint64_t apply_records(BlockSource& device, Bytes records, std::span<const BlockRange> except,
                       ThreadPool& pool);

}  // namespace stillpoint
