// Where a scan reads next: the requested ranges in order, without holes that are known as NULL.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/device/block_source.h"
#include "core/scan/known_leaves.h"
#include "core/tree/geometry.h"

namespace stillpoint {

// Blocks [begin, end). Of a hole every byte is zero and nothing needs to be read; some leaf that is known in
// it is not NULL.
struct Segment {
  uint64_t sequence;
  uint64_t begin;
  uint64_t end;
  bool hole;
};

// Not thread-safe. A hole that is unchanged costs one seek and one walk over the tree's upper levels,
// whatever its size.
class ScanCursor {
 public:
  ScanCursor(BlockSource& device, const KnownLeaves& known, const TreeGeometry& geometry,
             std::vector<BlockRange> ranges, uint64_t segment_bytes);

  // The next segment, or nothing at the end. `skipped_blocks` counts the unchanged blocks in holes that were
  // passed over.
  std::optional<Segment> next(uint64_t& skipped_blocks);

 private:
  uint64_t block_at_or_after(uint64_t byte_offset) const;
  void find_data();

  BlockSource& device_;
  const KnownLeaves& known_;
  const TreeGeometry geometry_;
  const std::vector<BlockRange> ranges_;
  const uint64_t segment_blocks_;
  size_t range_ = 0;
  uint64_t at_ = 0;
  // The stretch of data blocks [data_begin_, data_end_) at or after at_, once found.
  uint64_t data_begin_ = 0;
  uint64_t data_end_ = 0;
  uint64_t sequence_ = 0;
};

}  // namespace stillpoint
