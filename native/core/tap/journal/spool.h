// The spool of one journal: its records in segments on disk, and its head (docs/journal.md, "The spool").
//
// state     draw()                       a reason to break             close()             goes on
//                                                                                          by
// -------   --------------------------   ---------------------------   -----------------   ----------------
// open      ordinal, stamp and room      -> broken, with the first     what it has is      reopen(), with
//           in memory together           stamp that is not in it       synced and stays;   the same id
//                                                                      -> closed
// broken    nothing                      an earlier such stamp counts  stays, broken       reopen(), broken
// closed    nothing                      -                             -                   reopen()
//
// A record is drawn and then filled; between the two, others do the same. A thread of the spool stores what
// is filled, in the order of ordinals and many at once, and moves the head behind it. So a writer pays for a
// copy in memory. It waits only while the memory is full, and not for longer than kPatience: then the
// journal breaks.
//
// Locking: mutex_ guards all but open_ and crowded_, which are read without it, and is never held during I/O.
// The thread alone writes to segments and begins them.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/journal/record.h"
#include "core/tap/clock/write_clock.h"
#include "core/tap/journal/head.h"
#include "core/tap/journal/record_ring.h"
#include "core/tap/journal/spool_files.h"

namespace stillpoint {

// The bytes that all journals of a tap may have.
struct SpoolRoom {
  const uint64_t bytes_max;
  std::atomic<uint64_t> used{0};
};

class Spool {
 public:
  // The payload of one record; larger writes are several.
  static constexpr size_t kPayloadBytesMax = 1 << 20;
  static constexpr std::chrono::milliseconds kPatience{2000};

  // All outlive it.
  struct World {
    SpoolFiles& files;
    WriteClock& clock;
    SpoolRoom& room;
    std::string head_directory;
    std::string boot;
    uint64_t segment_bytes;
    size_t ring_bytes = 8 << 20;  // more than two of the largest records
  };

  struct Ticket {
    uint64_t ordinal;
    uint64_t stamp;
    size_t place;  // of the payload, in the ring
  };

  // A new journal, open. Nothing is published before its first record. Errno names.
  static std::unique_ptr<Spool> create(const World& world, const Id& journal);
  // What an earlier tap left. Null: nothing can be used of it. `distrust` not empty: it does not go on, and
  // why. Errno names; `bad-version`: it is of a newer program.
  static std::unique_ptr<Spool> reopen(const World& world, const Id& journal, const std::string& distrust);
  // Where it is published.
  static std::string head_path(const World& world, const Id& journal);
  // What is not stored by now never is.
  ~Spool();

  bool is_open() const { return open_.load(std::memory_order_relaxed); }
  // Somebody may have to wait for room.
  bool is_crowded() const { return crowded_.load(std::memory_order_relaxed); }

  // Nothing: it is not open, or not any more.
  std::optional<Ticket> draw(JournalKind kind, uint64_t byte_offset, uint64_t byte_length,
                             uint32_t payload_bytes) noexcept;
  // The payload of what was drawn.
  void fill(const Ticket& ticket, Bytes payload) noexcept;
  // A clause.
  void break_off(const std::string& reason) noexcept;
  // Waits until the head is there. False: it never will be, or not in time.
  bool settle(uint64_t ordinal, std::chrono::milliseconds patience = kPatience) noexcept;

  // The receiver has all up to there. Segments without later records are removed. Errno names.
  void release(uint64_t ordinal);
  // Broken and wholly released, or dropped.
  bool is_done() const;
  // Whatever it has is removed, and counts no more. Errno names.
  void drop();
  // Nobody draws any more. Errno names: it did not end cleanly then.
  void close();

  const Id& journal() const { return head_.journal; }
  JournalHead head() const;

 private:
  struct Segment {
    uint64_t number;
    uint64_t first_ordinal;  // 0: has no record yet
    uint64_t bytes;
    std::unique_ptr<TapFile> file;
  };
  struct Drawn {
    JournalRecord record;
    RecordRing::Place place;
    bool is_filled;
  };
  using Lock = std::unique_lock<std::mutex>;

  Spool(const World& world, const Id& journal);

  std::optional<RecordRing::Place> take_room(Lock& lock, JournalKind kind, size_t bytes);
  void break_at(const std::string& reason, uint64_t stamp, uint64_t last_ordinal);
  void publish() { head_file_->publish(head_); }
  void update_crowded() { crowded_ = ring_.used() > ring_.capacity() / 2; }
  void count(uint64_t bytes);
  void uncount(uint64_t bytes);

  // storing.cc
  void start_storing();
  void stop_storing();
  void store_all();
  size_t filled() const;
  void store(Lock& lock, size_t count);
  int write_out(const std::vector<Drawn>& batch, const Segment& segment);
  void begin_segment(Lock& lock);

  // ends.cc
  bool load(const std::string& distrust);
  std::optional<JournalHead> left_head();
  void load_segments();
  bool ends_as_said();

  const World world_;
  std::unique_ptr<HeadFile> head_file_;

  std::atomic<bool> open_{false};
  std::atomic<bool> crowded_{false};
  mutable std::mutex mutex_;
  std::condition_variable wake_;   // of the thread
  std::condition_variable moved_;  // the head, or the state
  bool is_idle_ = false;           // the thread has to be woken
  bool stopping_ = false;
  JournalHead head_;
  uint64_t last_stamp_ = 0;
  uint64_t released_ = 0;
  uint64_t counted_bytes_ = 0;  // of the room
  bool dropped_ = false;
  RecordRing ring_;
  std::deque<Drawn> drawn_;       // from the head on
  std::deque<Segment> segments_;  // the last one is written to
  std::thread thread_;
};

}  // namespace stillpoint
