// Tracks which grains of a device are written, by programs in the kernel (programs.h). Programs, links and
// maps are pinned in a directory of the BPF file system, so tracking outlives the process that began it,
// until the next boot.
//
// Maps of marks:
//
//   map      a bit is set                           and cleared
//   ------   ------------------------------------   --------------------------------------------
//   done     when a write has been completed        by each pass, before it reads the grain
//   queued   when a write has been submitted        at an instant, when it is moved to `kept`
//   kept     when one of the others is cleared      when a point was made of an instant
//
// What may differ from the last point is in one of the three, at any time, whoever is killed when. Why there
// have to be two kinds of marks: docs/live.md.
//
//   state      directory            what leads on
//   --------   ------------------   ---------------------------------------------------
//   none       missing              attach() -> tracked
//   partial    DIRECTORY+part       debris of an attach() that was killed; the next one removes it
//   tracked    complete             detach() -> none; a link that is removed -> broken, which open() says
//
// Locking: one process at a time works with it (a lock on the directory, which the caller takes). The maps
// may be read by others at any time.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/digest.h"
#include "core/track/marks.h"
#include "core/track/programs.h"

namespace stillpoint {

class Tracker {
 public:
  static constexpr size_t kRecordBytesMax = 4000;

  // Throws `no-btf`, `old-kernel`, `no-bpf`, EPERM and others: why this kernel can't, or this process may
  // not. Nothing stays behind.
  static void check_support();

  // When a write is marked as done. `queued` is wrong, for a test of the tests: a write that has its mark may
  // not have reached the device yet.
  enum class DoneAt { completion, queued };

  // EEXIST if there is one; also what check_support() throws. The record is empty.
  static Tracker attach(const std::string& directory, const TrackTarget& target,
                        DoneAt done_at = DoneAt::completion);
  // ENOENT: nothing is tracked there. `track-broken`: something is missing or not what it was; what was
  // written since is not known.
  static Tracker open(const std::string& directory);
  // Removes every pin, and what an attach() has left. Harmless where there is none.
  static void detach(const std::string& directory);

  const TrackTarget& target() const { return target_; }
  MarkMap& done() { return done_; }
  MarkMap& queued() { return queued_; }
  MarkMap& kept() { return kept_; }

  struct Counters {
    uint64_t passed_through;
    uint64_t not_noted;
    uint64_t queue_misses;
    // The fewest that any of the copies has missed: only if it grows, an event may have been seen by none.
    uint64_t completion_misses;
    uint64_t run_ns;
  };
  Counters counters() const;

  // What the caller remembers beside the marks; it is lost with them. Null: torn by a crash, or never
  // written.
  std::optional<std::vector<uint8_t>> record() const;
  void write_record(Bytes bytes);

  // Into `kept`, as if these bytes had been written.
  void mark(uint64_t byte_begin, uint64_t byte_end);
  // Of all maps together.
  uint64_t marked_grains() const;
  uint64_t memory_bytes() const;

 private:
  struct Meta;

  Tracker(const TrackTarget& target, MarkMap queued, MarkMap done, MarkMap kept, MarkMap meta,
          std::vector<UniqueFd> programs, std::vector<UniqueFd> links);
  Meta& meta() const;

  TrackTarget target_;
  MarkMap queued_;
  MarkMap done_;
  MarkMap kept_;
  MarkMap meta_;
  std::vector<UniqueFd> programs_;  // the queue's first, then the copies of the other
  // Held, so that the programs run on while it is open, whoever removes a pin meanwhile.
  std::vector<UniqueFd> links_;
};

}  // namespace stillpoint
