// What changed on a tapped device, since when (docs/design.md section 4): the snapshot map, the backup map,
// their file.
//
// snapshot map   blocks written since the latest instant; the one that writes mark
// backup map     blocks changed between the points and the latest instant
// points         both maps together name all changes since each of these: the committed point, and sessions
//                that may have been committed without our hearing of it; none: the map is void
//
// event            snapshot map       backup map           points                 map file
// ---------------  -----------------  -------------------  ---------------------  ---------------------------
// start            empty              what the file names  the file's             open
// begin (session)  -                  -                    + session, if any are  points, before the instant
// cut              -> cut, a new one  -                    -                      -
// merge            -                  |= cut               -                      -
// commit           -                  cleared              session alone          regions of the snapshot map
// adopt            |= backup, or -    cleared              the point compared     regions of the snapshot map
// void             -                  -                    none                   points
// end              -                  -                    -                      clean, precise
//
// An aborted session changes nothing: its cut is in the backup map already. OR, not copy: an earlier session
// may have failed.
//
// Locking: mark(), ready(), make_ready() on any thread, inside the write gate; cut() with nobody inside;
// everything else by one thread at a time, except the counts.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/tap/maps/block_map.h"
#include "core/tap/maps/map_file.h"

namespace stillpoint {

class ChangeMap {
 public:
  struct Start {
    std::vector<Id> points;
    std::string reason;  // why the map is void, or how it was found
  };

  // `file` null: nothing survives this process. `changed` is what the map names at the start.
  ChangeMap(const TreeGeometry& geometry, std::unique_ptr<BlockMap> changed, std::unique_ptr<MapFile> file,
            Start start);

  void mark(uint64_t begin, uint64_t end) { current_.load()->mark(begin, end); }
  bool ready(uint64_t begin, uint64_t end) const { return !file_ || file_->ready(begin, end); }
  void make_ready(uint64_t begin, uint64_t end) {
    if (file_) file_->make_ready(begin, end);
  }

  bool knows(const Id& point) const;
  // A session prepares its instant: the cut is empty, and the map file knows that it may become a point.
  void begin(const Id& session);
  // The blocks that become the cut at the next cut().
  const BlockMap& next_cut() const { return *current_; }
  // Nobody is inside the gate. Takes no time.
  void cut();
  void merge();
  void commit(const Id& session);
  // The device was compared with a committed point at the last instant, and what differed is marked in the
  // current map. `complete`: all of it was compared, so that this is all that the map need know. Else the map
  // must know the point, and what it names already stays.
  void adopt(const Id& point, bool complete);
  void make_void(const std::string& reason);
  // No write is in flight or comes. `journal`: that has all writes; zeros: none. An errno: the file stays a
  // superset.
  int close_clean(const std::string& continuity, const Id& journal = {});

  const BlockMap& backup() const { return *backup_; }
  uint64_t written_blocks() const { return current_.load()->count(); }
  std::vector<Id> points() const;
  std::string reason() const;
  bool persistent() const { return file_ && file_->persistent(); }

 private:
  BlockMap& other();

  BlockMap maps_[2];  // the current one, and the last cut
  std::atomic<BlockMap*> current_;
  const std::unique_ptr<BlockMap> backup_;
  const std::unique_ptr<MapFile> file_;

  mutable std::mutex mutex_;  // points_ and reason_
  std::vector<Id> points_;
  std::string reason_;
};

}  // namespace stillpoint
