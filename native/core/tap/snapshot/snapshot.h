// The static view of a tapped device at one instant, and the copy-on-write that keeps it so (docs/design.md
// section 4).
//
// Each block, while the snapshot is held:
//
// needed  released   meaning                          a write                    the session's read
// ------  --------   ------------------------------   ------------------------   --------------------------
// no      -          the session won't read it        goes ahead                 ESHUTDOWN
// yes     no         the session has still to         preserves what it is to    each cell: done -> preserve
//                    read it                          overwrite, in cells        area; else device, then done
//                                                                                again?
// yes     yes        the session has read it          goes ahead                 ESHUTDOWN
//
// needed = everything, or the backup map, the writes since the instant before, and the sample, in whole
// groups: all decided before the instant. A cell is 4 KiB, whatever the size of a block: a small write costs
// a small copy. A writer marks `done` after the original is stored and before it writes, so a reader that
// finds a cell not done after it read the cell from the device has read the original.
//
// State     when                                           then
// -------   --------------------------------------------   ---------------------------------------------
// held      from the instant on                            as above
// invalid   preserve area full or failing,                 nothing is needed: writes go ahead, reads get
//           an original unreadable; the device cut,        ESHUTDOWN
//           or written to by others
// ended     committed or aborted                           the same
//
// Locking: bits and state are atomic. mutex_ guards busy_ (blocks in which a writer is preserving: others
// wait for that, or leave it to a thread that may), reason_, release_count_, and the marking of done_ and
// released_: a stored original is released once. No I/O under it.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

#include "core/base/id.h"
#include "core/nbd/exports/export.h"
#include "core/tap/maps/block_map.h"
#include "core/tap/snapshot/preserve_area.h"
#include "core/tree/geometry.h"

namespace stillpoint {

class Snapshot {
 public:
  enum class State { held, invalid, ended };
  enum class Preserved { yes, no_room, would_wait };

  struct Options {
    Id session_id{};
    bool full = false;
    uint64_t group_blocks = 1;     // the session reads whole groups of so many blocks: a power of two
    std::vector<uint64_t> sample;  // block indexes
    // Writes wait for room, for so long as the session goes on; else a full area makes the snapshot invalid.
    bool throttle = false;
    std::chrono::milliseconds throttle_patience{30'000};
  };

  struct Status {
    Id session_id;
    State state;
    std::string reason;
    uint64_t needed_blocks;
    uint64_t preserved_bytes;
    uint64_t preserve_bytes_max;
  };

  // `backup` and `cut` outlive it, and no bit of them is cleared while it is held.
  Snapshot(const TreeGeometry& geometry, std::shared_ptr<NbdExport> device, const BlockMap& backup,
           const BlockMap& cut, std::unique_ptr<PreserveArea> area, const Options& options);

  // As if it had been made so. Before the instant only.
  void need_everything() { full_ = true; }

  // ---- writers, inside the gate; ranges are not empty ----

  bool must_preserve(uint64_t byte_offset, uint64_t byte_length) const;
  // Afterwards (yes) the range may be overwritten. `no_room` only with throttle: leave the gate,
  // wait_for_room(), try again. `would_wait` only with Patience::immediate; a part may be preserved then.
  Preserved preserve(uint64_t byte_offset, uint64_t byte_length, Patience patience);
  void wait_for_room();

  // ---- the session ----

  const TreeGeometry& geometry() const { return geometry_; }
  // 0, ESHUTDOWN (not held, or not any more), or the device's error.
  int read(uint64_t byte_offset, std::span<uint8_t> into);
  // The whole blocks in the range were read for the last time.
  void release(uint64_t byte_offset, uint64_t byte_length);
  // As NbdExport::block_status.
  int allocation(uint64_t byte_offset, uint64_t byte_length, size_t extents_max,
                 std::vector<NbdExtent>& extents);
  int changed(uint64_t byte_offset, uint64_t byte_length, size_t extents_max,
              std::vector<NbdExtent>& extents);

  // It can't be what it was at the instant any more; a clause.
  void invalidate(const std::string& reason);
  void end();
  Status status() const;

 private:
  static constexpr uint64_t kCellBytes = 4096;
  // Cells [begin, end) of one block.
  struct Cells {
    uint64_t begin;
    uint64_t end;
  };

  uint64_t block_of(uint64_t byte_offset) const { return byte_offset / geometry_.block_size; }
  Cells cells_of(uint64_t byte_offset, uint64_t byte_end) const;
  uint64_t cell_offset(uint64_t cell) const;
  bool needed(uint64_t block_index) const;
  bool must_preserve(uint64_t block_index, const Cells& cells) const;
  bool names(uint64_t block_index) const;
  uint64_t needed_blocks() const;
  Preserved preserve_in_block(uint64_t block_index, const Cells& cells, Patience patience);
  Preserved store_originals(uint64_t block_index, const Cells& cells, Patience patience);
  int still_held() const;
  int load(uint64_t byte_offset, std::span<uint8_t> into);
  int read_original(uint64_t byte_offset, std::span<uint8_t> into);

  const TreeGeometry geometry_;
  const std::shared_ptr<NbdExport> device_;
  const BlockMap& backup_;
  const BlockMap& cut_;
  const std::unique_ptr<PreserveArea> area_;
  const Id session_id_;
  const uint64_t group_blocks_;
  bool full_;  // settled before the instant
  const bool throttle_;
  const std::chrono::milliseconds throttle_patience_;
  BlockMap sample_;
  BlockMap done_;  // cells
  BlockMap released_;
  mutable std::once_flag needed_counted_;
  mutable uint64_t needed_blocks_ = 0;

  std::atomic<State> state_{State::held};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_set<uint64_t> busy_;
  std::string reason_;
  uint64_t release_count_ = 0;
};

}  // namespace stillpoint
