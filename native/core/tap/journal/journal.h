// The journal of a tap: the one that is being written, and older ones that are still to be shipped
// (docs/journal.md). It exists if the tap is to have a journal at all.
//
// state      prepare()                cut()                          a reason to break   goes on to
// --------   ----------------------   ----------------------------   -----------------   --------------
// off        makes a new one, beside  the new one is current;        -                   writing
//                                     -> writing: the instant is
//                                     its first record
// writing    nothing                  the instant is its next        -> broken           broken, ended
//                                     record
// broken     makes a new one, beside  as off; the broken one is      -                   writing
//                                     kept until it is released
//
// A new journal needs half of the room. What older ones have beyond that is given up, the oldest first.
//
// Locking: the current one changes in cut() only, with nobody inside the tap's gate; so a writer who is
// inside uses it without a lock. mutex_ guards the list, prepared_ and failure_, and is never held during
// I/O: a cut takes it, and users wait for the cut.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/tap/journal/range_locks.h"
#include "core/tap/journal/spool.h"

namespace stillpoint {

// Of a hold: base and records after `ordinal` give every later state.
struct JournalPosition {
  Id journal;
  Id clock;
  uint64_t ordinal;
  uint64_t stamp;
};

class TapJournal {
 public:
  static constexpr uint64_t kSegmentBytes = 64u << 20;
  static constexpr const char* kRanWithout = "the tap ran without it";

  struct Options {
    std::unique_ptr<SpoolFiles> files;
    std::unique_ptr<WriteClock> clock;
    std::string head_directory;  // in memory
    std::string boot = WriteClock::boot_id();
    uint64_t bytes_max;
    uint64_t segment_bytes = kSegmentBytes;
    std::string distrust;       // not empty: the device is not as the last tap left it, and why
    std::optional<Id> goes_on;  // the only one that may; nothing: whichever ended cleanly
    std::function<Id()> random_id;
  };

  // Errno names, `bad-version`.
  explicit TapJournal(Options options);
  ~TapJournal();

  // ---- writers, inside the gate ----

  // Null: there is none that records. What is answered holds until the writer leaves the gate, but it may
  // break.
  Spool* recording() const noexcept {
    Spool* const spool = current_.load(std::memory_order_acquire);
    return spool != nullptr && spool->is_open() ? spool : nullptr;
  }
  RangeLocks& ranges() { return ranges_; }
  // The device has it; the range is locked.
  static void record(Spool& spool, JournalKind kind, uint64_t byte_offset, uint64_t byte_length,
                     Bytes payload) noexcept;

  // ---- holds: one thread at a time ----

  // What takes time. Nothing is thrown: a hold does not fail for the sake of a journal; failure() says why.
  void prepare() noexcept;
  // The instant, with nobody inside the gate; no I/O. Nothing: there is no journal.
  std::optional<Spool::Ticket> cut() noexcept;
  // Writers may be inside again. The instant's record is stored. Nothing: it could not be.
  std::optional<JournalPosition> finish_cut(const std::optional<Spool::Ticket>& ticket, const Id& session);
  // A record that no earlier stamp follows. Inside the gate. Nothing: there is no journal.
  std::optional<JournalPosition> stamp() noexcept;

  // ---- others, at any time ----

  // A clause.
  void break_off(const std::string& reason) noexcept;
  // Only this one: another may have been begun meanwhile.
  void break_off(const Id& journal, const std::string& reason) noexcept;
  // All that was answered by now can be read then. False: not in time, or it broke before that.
  bool settle() noexcept;
  // As Spool::release; a journal that is unknown has been given up, or is done. Errno names.
  void release(const Id& journal, uint64_t ordinal);
  // Of all that there are, the current one last.
  std::vector<JournalHead> heads() const;
  const WriteClock& clock() const { return *clock_; }
  // Why the last hold has none; empty: it has one.
  std::string failure() const;
  // Nobody writes any more, and the device is synced. Errno names.
  void close();

 private:
  std::vector<std::shared_ptr<Spool>> all() const;
  void give_up_older();
  void remove_done();
  void set_failure(const std::string& reason);

  const std::unique_ptr<SpoolFiles> files_;
  const std::unique_ptr<WriteClock> clock_;
  SpoolRoom room_;
  const Spool::World world_;
  const std::function<Id()> random_id_;
  RangeLocks ranges_;

  std::atomic<Spool*> current_{nullptr};  // of spools_
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<Spool>> spools_;  // the current one is the last
  std::shared_ptr<Spool> prepared_;
  std::string failure_;
};

}  // namespace stillpoint
