// Shared by the fuzz targets: makes the checksums of records fit, so that what lies behind them is reached
// too.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "core/base/little_endian.h"
#include "core/codec/record.h"

namespace stillpoint::fuzz {

inline void reseal_records(std::span<uint8_t> records) {
  while (records.size() >= kRecordHeaderBytes) {
    const size_t stored = load_le<uint32_t>(records.data() + 12);
    if (stored > records.size() - kRecordHeaderBytes) return;
    const Digest sum =
        checksum({Bytes(records).first(48), Bytes(records).subspan(kRecordHeaderBytes, stored)});
    std::copy(sum.begin(), sum.end(), records.begin() + 48);
    records = records.subspan(kRecordHeaderBytes + stored);
  }
}

// What the base has in each block that a batch patches.
inline std::vector<uint8_t> base_block(size_t length) {
  std::vector<uint8_t> bytes(length);
  for (size_t i = 0; i < length; ++i) bytes[i] = static_cast<uint8_t>(i / 64 * 3 + i % 7 + 1);
  return bytes;
}

}  // namespace stillpoint::fuzz
