// What records of a journal leave behind together: disjoint ranges, each with the bytes of its last write.
// However often records write to a range, it is written once then: work is bounded by what is written to,
// also where somebody sends many records of zeros over a whole device.
//
// Memory: at most two pieces for each record. Payloads are not copied.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "core/journal/record.h"
#include "core/tree/geometry.h"

namespace stillpoint {

class LastWrites {
 public:
  struct Piece {
    uint64_t begin;
    uint64_t end;
    const uint8_t* bytes;  // null: zeros

    // Of its part from `from` on.
    const uint8_t* bytes_from(uint64_t from) const {
      return bytes == nullptr ? nullptr : bytes + (from - begin);
    }
  };

  // `bad-index` where one ends beyond the device, with its byte offset from `start` on; those before it have
  // been taken.
  void add(std::span<const JournalRecordView> records, uint64_t size_bytes, const uint8_t* start);

  // Ascending, without the ranges of `except`, which are ascending and apart.
  std::vector<Piece> pieces(std::span<const BlockRange> except = {}) const;

 private:
  struct Rest {
    uint64_t end;
    const uint8_t* bytes;
  };

  void put(uint64_t begin, uint64_t end, const uint8_t* bytes);

  std::map<uint64_t, Rest> pieces_;  // by their begin
};

}  // namespace stillpoint
