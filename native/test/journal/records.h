// Records of a journal made by hand, and a device as a plain array that they are written to.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/base/little_endian.h"
#include "core/journal/record.h"
#include "test/helpers/helpers.h"

namespace stillpoint::test {

inline void append_record(std::vector<uint8_t>& bytes, const JournalRecord& record, Bytes payload) {
  const auto header = encode_journal_header(record, payload);
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.insert(bytes.end(), payload.begin(), payload.end());
}

// Ascending, with gaps between the stamps.
struct Records {
  std::vector<uint8_t> bytes;
  std::vector<size_t> begins;  // of each record
  uint64_t ordinal = 0;
  uint64_t stamp = 1000;

  void write(uint64_t byte_offset, Bytes payload) {
    add(JournalKind::write, byte_offset, payload.size(), payload);
  }
  void zero(uint64_t byte_offset, uint64_t byte_length) {
    add(JournalKind::zero, byte_offset, byte_length, {});
  }
  void stamp_only() { add(JournalKind::stamp, 0, 0, {}); }
  void instant() { add(JournalKind::instant, 0, 0, std::vector<uint8_t>(sizeof(Id), 7)); }

  void add(JournalKind kind, uint64_t byte_offset, uint64_t byte_length, Bytes payload) {
    begins.push_back(bytes.size());
    stamp += 10;
    append_record(bytes,
                  {kind, ++ordinal, stamp, byte_offset, byte_length, static_cast<uint32_t>(payload.size())},
                  payload);
  }

  Bytes from(size_t record) const { return Bytes(bytes).subspan(begins.at(record)); }
  // Records [begin, end).
  Bytes between(size_t begin, size_t end) const {
    const size_t to = end < begins.size() ? begins[end] : bytes.size();
    return Bytes(bytes).subspan(begins.at(begin), to - begins[begin]);
  }
};

// Of any length and place: inside of a sector, over many blocks, over the last short block.
inline void add_random_record(Records& records, Random& random, std::vector<uint8_t>& device) {
  const uint64_t size = device.size();
  const uint64_t length_max = random.one_in(8) ? size : random.one_in(3) ? 40000 : 700;
  const uint64_t length = 1 + random.below(std::min(length_max, size));
  uint64_t at = random.below(size - length + 1);
  if (random.one_in(6)) at = size - length;
  if (random.one_in(4)) at = std::min(at / 4096 * 4096, size - length);
  switch (random.below(8)) {
    case 0:
      return records.stamp_only();
    case 1:
      return records.instant();
    case 2:
    case 3:
      records.zero(at, length);
      std::fill_n(device.begin() + static_cast<ptrdiff_t>(at), length, uint8_t{0});
      return;
    default:
      const auto payload = random.bytes(length);
      records.write(at, payload);
      std::copy(payload.begin(), payload.end(), device.begin() + static_cast<ptrdiff_t>(at));
  }
}

}  // namespace stillpoint::test
