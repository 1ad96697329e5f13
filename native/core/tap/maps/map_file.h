// The file in which a tap's changes survive: precise after a clean end, a superset after anything else.
// Layout: docs/format.md section "Map file": two header slots, two areas of region bits, the precise bits.
//
// State        header          on disk                             after a crash
// ----------   -------------   ---------------------------------   -----------------------------------------
// at rest      clean           precise bits, mark of continuity    precise bits
// open         open, points    region bits: marked and synced      every block of a marked region
//                              before the first write into a
//                              region is let through
// open, void   open, none      nothing to be believed              no map: the next backup reads everything
// failed       -               file removed                        no map
//
// A header is one slot write. Once it is durable, the other slot is erased if its content would be wrong. So
// there is always one whole header, and never a wrong one to fall back to if the newest goes bad. rebase()
// writes the area that the header does not point to, then the header.
//
// Locking: mutex_ guards everything except durable_ and tracking_, which a write reads without it. busy_ is
// the right to do I/O, held while mutex_ is not. Marks that come while a thread is busy are written together
// in one sync.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/base/id.h"
#include "core/tap/files/tap_file.h"
#include "core/tap/maps/block_map.h"
#include "core/tap/maps/map_format.h"
#include "core/tree/geometry.h"

namespace stillpoint {

class MapFile {
 public:
  // Makes the file a map of these points, open: the blocks of `changed` are what it names. Whatever was
  // there is replaced, at one moment. errno names.
  MapFile(std::unique_ptr<TapFile> file, std::string identity, const TreeGeometry& geometry,
          const std::vector<Id>& points, const BlockMap& changed);
  ~MapFile();

  // A write to blocks [begin, end) that are marked in memory already may go ahead: the mark survives. Never
  // blocks.
  bool ready(uint64_t begin, uint64_t end) const;
  // Waits until they are ready. A file that can't be written is given up rather than keeping the write.
  void make_ready(uint64_t begin, uint64_t end);

  // From now on the map counts for these points, and names the blocks that are marked in `changed` now or
  // later. Durable on return. No points: it is void. An errno; then the file is given up.
  int rebase(const std::vector<Id>& points, const BlockMap& changed);
  // The same region marks, for these points.
  int set_points(const std::vector<Id>& points);
  // The end: no write is in flight or comes. `journal`: that has all writes; zeros: none. An errno; then it
  // stays open, a superset.
  int close_clean(const std::vector<const BlockMap*>& changed, const std::string& continuity,
                  const Id& journal = {});

  // False once the file was given up: removed, since it would be believed.
  bool persistent() const;

 private:
  uint64_t region_of(uint64_t block_index) const { return block_index / region_blocks_; }
  void collect_regions(const BlockMap& changed, BlockMap& regions) const;
  int prepare_area(const BlockMap& changed);
  int complete_area(const std::vector<Id>& points, const BlockMap& changed);
  int write_header(const MapHeader& header);
  int erase_older();
  void wake();
  int write_area(unsigned area, uint64_t epoch, const BlockMap& regions);
  int write_regions(const std::vector<uint64_t>& regions);
  void give_up();
  template <class Work>
  int exclusively(Work work);

  const std::unique_ptr<TapFile> file_;
  const std::string identity_;
  const TreeGeometry geometry_;
  const uint64_t region_blocks_;
  const uint64_t region_count_;

  std::atomic<bool> tracking_{false};
  BlockMap durable_;  // regions whose mark is on disk

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool busy_ = false;
  bool failed_ = false;
  std::vector<uint64_t> requested_;  // regions that writes wait for

  // Only for the thread that is busy.
  uint64_t sequence_ = 0;
  uint64_t epoch_ = 0;
  unsigned area_ = 0;
  std::vector<Id> points_;
  uint64_t precise_bytes_ = 0;
  Digest precise_checksum_{};
  BlockMap marked_;  // regions that the area names
};

}  // namespace stillpoint
