#include "core/scan/known_leaves.h"

#include <algorithm>
#include <array>
#include <optional>

namespace stillpoint {

KnownLeaves::KnownLeaves(const TreeFile& base, const LeafOverlay* overlay)
    : base_(base), overlay_(overlay != nullptr && overlay->present_count() > 0 ? overlay : nullptr) {}

void KnownLeaves::read(uint64_t first_index, uint64_t count, Digest* leaves) const {
  base_.read_leaves(first_index, count, leaves);
  if (overlay_ != nullptr) overlay_->read_present(first_index, count, leaves);
}

bool KnownLeaves::has_content_of(uint64_t block_index) const {
  if (overlay_ == nullptr) return false;
  const std::optional<Digest> leaf = overlay_->get(block_index);
  return leaf && !is_null(*leaf);
}

uint64_t KnownLeaves::next_in_base(uint64_t from, bool is_null_wanted) const {
  return is_null_wanted ? base_.next_null(from) : base_.next_non_null(from);
}

// From node to node of the overlay; what lies between them is the base's.
uint64_t KnownLeaves::next(uint64_t from, uint64_t end, bool is_null_wanted) const {
  if (from >= end) return end;
  uint64_t in_base = next_in_base(from, is_null_wanted);
  if (overlay_ == nullptr) return std::min(in_base, end);
  std::array<Digest, kTreeFanout> leaves;
  for (uint64_t at = from; at < end;) {
    const uint64_t node = overlay_->next_node(at / kTreeFanout);
    const uint64_t node_begin = node == LeafOverlay::kNoNode ? end : std::min(node * kTreeFanout, end);
    if (node_begin > at) {
      if (in_base < at) in_base = next_in_base(at, is_null_wanted);
      if (in_base < node_begin) return in_base;
      at = node_begin;
      continue;
    }
    const uint64_t length = std::min(kTreeFanout - at % kTreeFanout, end - at);
    read(at, length, leaves.data());
    for (uint64_t i = 0; i < length; i++) {
      if (is_null(leaves[i]) == is_null_wanted) return at + i;
    }
    at += length;
  }
  return end;
}

}  // namespace stillpoint
