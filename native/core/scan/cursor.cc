#include "core/scan/cursor.h"

#include <algorithm>
#include <utility>

namespace stillpoint {
namespace {

// Bounds the zero runs that one segment can give.
constexpr uint64_t kHoleBlocksMax = 65536;

}  // namespace

ScanCursor::ScanCursor(BlockSource& device, const KnownLeaves& known, const TreeGeometry& geometry,
                       std::vector<BlockRange> ranges, uint64_t segment_bytes)
    : device_(device),
      known_(known),
      geometry_(geometry),
      ranges_(std::move(ranges)),
      segment_blocks_(segment_bytes / geometry_.block_size),
      at_(ranges_.empty() ? 0 : ranges_.front().begin) {}

uint64_t ScanCursor::block_at_or_after(uint64_t byte_offset) const {
  return (byte_offset + geometry_.block_size - 1) / geometry_.block_size;
}

void ScanCursor::find_data() {
  const uint64_t data = device_.next_data(at_ * geometry_.block_size);
  if (data >= geometry_.size_bytes) {
    data_begin_ = data_end_ = geometry_.block_count();
    return;
  }
  data_begin_ = std::max(at_, data / geometry_.block_size);
  data_end_ = block_at_or_after(device_.next_hole(data));
  // Holes that contain no whole block are read over, so that fine-grained holes don't make segments of single
  // blocks.
  while (data_end_ - data_begin_ < segment_blocks_ && data_end_ < geometry_.block_count()) {
    const uint64_t more = device_.next_data(data_end_ * geometry_.block_size);
    if (more / geometry_.block_size > data_end_ || more >= geometry_.size_bytes) break;
    data_end_ = block_at_or_after(device_.next_hole(more));
  }
}

std::optional<Segment> ScanCursor::next(uint64_t& skipped_blocks) {
  for (; range_ < ranges_.size(); range_++) {
    const uint64_t end = ranges_[range_].end;
    at_ = std::max(at_, ranges_[range_].begin);
    while (at_ < end) {
      if (at_ >= data_end_) find_data();
      if (at_ >= data_begin_) {
        const uint64_t segment_end = std::min({at_ + segment_blocks_, data_end_, end});
        return Segment{sequence_++, std::exchange(at_, segment_end), segment_end, false};
      }
      const uint64_t hole_end = std::min(data_begin_, end);
      const uint64_t changed = known_.next_non_null(at_, hole_end);
      skipped_blocks += changed - at_;
      at_ = changed;
      if (at_ < hole_end) {
        const uint64_t segment_end = std::min(at_ + kHoleBlocksMax, hole_end);
        return Segment{sequence_++, std::exchange(at_, segment_end), segment_end, true};
      }
    }
  }
  return std::nullopt;
}

}  // namespace stillpoint
