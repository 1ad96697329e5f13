// The leaf that each block is known by: the overlay's if it has one, otherwise the base's. A session that
// ships in passes compares a block with what it has shipped of it, not with the base: a block that went back
// to the base's content differs from what the receiver holds.
#pragma once

#include <cstdint>
#include <memory>

#include "core/tree/leaf_overlay.h"
#include "core/tree/tree_file.h"

namespace stillpoint {

// Thread-safe beside puts of blocks that are not asked about. An overlay that is empty at first costs
// nothing: what its own scan puts there is of blocks that this has read already.
class KnownLeaves {
 public:
  // `overlay` may be null.
  KnownLeaves(const TreeFile& base, const LeafOverlay* overlay);

  // Leaves [first_index, first_index + count).
  void read(uint64_t first_index, uint64_t count, Digest* leaves) const;
  // First block index in [from, end) whose leaf is not NULL, or end.
  uint64_t next_non_null(uint64_t from, uint64_t end) const { return next(from, end, false); }
  // The same for one whose leaf is NULL.
  uint64_t next_null(uint64_t from, uint64_t end) const { return next(from, end, true); }
  // An earlier scan put content of it into the overlay that is not zero.
  bool has_content_of(uint64_t block_index) const;

 private:
  uint64_t next(uint64_t from, uint64_t end, bool is_null_wanted) const;
  uint64_t next_in_base(uint64_t from, bool is_null_wanted) const;

  const TreeFile& base_;
  const LeafOverlay* const overlay_;  // null if it was empty
};

}  // namespace stillpoint
