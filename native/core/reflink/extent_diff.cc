#include "core/reflink/extent_diff.h"

#include <algorithm>

namespace stillpoint {
namespace {

// What a file has at a position that only moves on.
class Cursor {
 public:
  explicit Cursor(ExtentSource& source) : source_(source), extent_(source.next()) {}

  void move_to(uint64_t at) {
    while (extent_ && extent_->end() <= at) extent_ = source_.next();
    at_ = at;
  }

  // The first position behind this one where something else may begin.
  uint64_t until(uint64_t end) const {
    if (!extent_) return end;
    return std::min(end, in_extent() ? extent_->end() : extent_->logical);
  }

  bool same_as(const Cursor& other) const {
    if (reads_zeros() || other.reads_zeros()) return reads_zeros() && other.reads_zeros();
    return is_data() && other.is_data() && physical() == other.physical();
  }

 private:
  bool in_extent() const { return extent_ && extent_->logical <= at_; }
  bool reads_zeros() const { return !in_extent() || extent_->kind == Extent::Kind::zeros; }
  bool is_data() const { return in_extent() && extent_->kind == Extent::Kind::data; }
  uint64_t physical() const { return extent_->physical + (at_ - extent_->logical); }

  ExtentSource& source_;
  std::optional<Extent> extent_;
  uint64_t at_ = 0;
};

}  // namespace

std::vector<BlockRange> differing_blocks(ExtentSource& one, ExtentSource& other, uint64_t size_bytes,
                                         uint32_t block_size) {
  std::vector<BlockRange> ranges;
  Cursor left(one), right(other);
  for (uint64_t at = 0; at < size_bytes;) {
    left.move_to(at);
    right.move_to(at);
    const uint64_t end = std::min(left.until(size_bytes), right.until(size_bytes));
    if (!left.same_as(right)) {
      const uint64_t first = at / block_size;
      const uint64_t last = (end - 1) / block_size;
      if (!ranges.empty() && ranges.back().end >= first) {
        ranges.back().end = last + 1;
      } else {
        ranges.push_back({first, last + 1});
      }
    }
    at = end;
  }
  return ranges;
}

}  // namespace stillpoint
