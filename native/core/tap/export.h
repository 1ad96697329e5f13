// The mass-storage read/write block (docs/design.md sections 4 and 9: figures 4 to 6 of the patent): passes
// reads and writes through to the device, marks what changes, and holds the snapshot of one instant.
//
// The way of a write: enter the gate -> mark the snapshot map -> is the mark safe on disk? (if not: leave
// the gate, make it so, start again) -> preserve originals that the snapshot needs (no room, with throttle:
// leave, wait, start again) -> write -> leave the gate -> answer. With a journal, the write itself is: lock
// its range against others that overlap -> write -> draw ordinal and stamp -> fill the record -> unlock. The
// way of a hold (with a journal, cut() draws the instant's record and stores it when the gate is open
// again):
//
// state       prepare()     close_gate()       cut()                open_gate()  abort()   goes on to
// ----------  ------------  -----------------  -------------------  -----------  --------  -----------
// nothing     session into  -                  -                    -            -         prepared
//             the map file
// prepared    EBUSY         nobody inside, or  `gate-open`          -            nothing   closed
//                           barrier-timeout
// closed      EBUSY         closes again       cuts the maps,       prepared     nothing,  held
//                                              publishes the                     open
//                                              snapshot, opens,
//                                              merges
// closed, at  EBUSY         closes again       `gate-open`          prepared     nothing
// its limit
// held        EBUSY         -                  -                    -            nothing   by commit(),
//                                                                                          adopt()
//
// Locking: control_ lets one of these calls, commit, void or the end happen at a time. If holding_ is false,
// there is no snapshot, and no lock is needed to know it; snapshot_mutex_ guards the pointer. Writers never
// take control_.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/nbd/exports/export.h"
#include "core/tap/journal/journal.h"
#include "core/tap/maps/change_map.h"
#include "core/tap/snapshot/snapshot.h"
#include "core/tap/write_gate.h"

namespace stillpoint {

class TapExport final : public NbdExport {
 public:
  struct HoldOptions {
    std::optional<Id> base_point;
    Snapshot::Options snapshot;
    std::unique_ptr<TapFile> preserve_file;
    uint64_t preserve_bytes_max = 0;
  };

  // How long the gate may stay closed, from when closing begins; and of that, how long for writes in flight.
  struct GateLimits {
    std::chrono::milliseconds barrier{1000};
    std::chrono::milliseconds closed{10'000};
  };

  struct Hold {
    std::shared_ptr<Snapshot> snapshot;
    std::chrono::system_clock::time_point instant;
    bool map_used;
    std::string reason;
    uint64_t changed_blocks;
    std::chrono::nanoseconds closed;  // how long nobody could write
    std::optional<JournalPosition> journal;
  };

  struct Status {
    std::vector<Id> points;
    std::string reason;
    uint64_t changed_blocks;
    uint64_t written_blocks;
    bool persistent;
    std::optional<Snapshot::Status> snapshot;
    std::chrono::nanoseconds longest_stall;
    std::optional<std::chrono::nanoseconds> quiet;
  };

  // `journal` null: there is none, or it comes by set_journal() if that is said.
  TapExport(std::shared_ptr<NbdExport> device, const TreeGeometry& geometry, std::unique_ptr<ChangeMap> map,
            std::unique_ptr<TapJournal> journal = nullptr, bool may_come = false);
  ~TapExport() override;

  // All that takes time. NativeError `EBUSY` (one is prepared or held), `ETRUNCATED` (the device was cut).
  void prepare(HoldOptions options);
  // Nobody writes from here on, until the limit at most. Returns how long nothing had been written by then.
  // NativeError `barrier-timeout`, `ETRUNCATED`, `argument` (nothing is prepared): it is open then.
  std::chrono::nanoseconds close_gate(const GateLimits& limits);
  // Back to prepared: there was no instant. Harmless.
  void open_gate();
  // The instant; writes go on after it. NativeError `gate-open`: the limit has come before; `argument`.
  Hold cut();
  // What is held was committed, whether or not it still stands. An errno name: the device can't be flushed,
  // and the map is void.
  void commit();
  // Blocks [begin, end) count as written.
  void mark(uint64_t begin, uint64_t end) { map_->mark(begin, end); }
  // What is held was compared with a committed point, and what differed has been marked; it is released.
  // `argument`: nothing is held, or it was given up, or (not complete) the map does not know the point.
  void adopt(const Id& point, bool complete);
  // Whatever is prepared, closed or held is given back.
  void abort();
  void make_void(const std::string& reason);
  // What has become of the device. What others may have changed past the map makes it void, and what is held
  // is given up.
  SourceState check_source();
  // Writes a record into the journal that no earlier stamp follows. Nothing: there is none, or it is broken.
  std::optional<JournalPosition> stamp();
  // There was none; none of what it has goes on. From the next hold on.
  void set_journal(std::unique_ptr<TapJournal> journal);
  // Null: there is none.
  TapJournal* journal() const { return published_journal_; }
  // No write is in flight or comes. An errno: the map file stays a superset. The journal is closed after it,
  // and only if there is none: it goes on only after a map that counts.
  int close_clean(const std::string& continuity);
  Status status() const;

  const Properties& properties() const override { return properties_; }
  int read(uint64_t byte_offset, std::span<uint8_t> into, Patience patience) noexcept override;
  int write(uint64_t byte_offset, Bytes bytes, bool fua, Patience patience) noexcept override;
  int flush() noexcept override;
  int trim(uint64_t byte_offset, uint64_t byte_length, bool fua) noexcept override;
  int zero(uint64_t byte_offset, uint64_t byte_length, const ZeroOptions& options,
           bool fua) noexcept override;
  int cache(uint64_t byte_offset, uint64_t byte_length) noexcept override;
  int block_status(size_t context, uint64_t byte_offset, uint64_t byte_length, size_t extents_max,
                   std::vector<NbdExtent>& extents) noexcept override;

 private:
  using Clock = std::chrono::steady_clock;

  struct Prepared {
    std::shared_ptr<Snapshot> snapshot;
    std::optional<Id> base_point;
    bool base_known;  // before the session itself was
    bool everything;  // was asked for
  };

  struct Change {
    JournalKind kind;
    uint64_t byte_offset;
    uint64_t byte_length;
    Bytes payload;
    bool may_be_declined = false;  // ENOTSUP: nothing was done
  };

  std::shared_ptr<Snapshot> current_snapshot() const;
  int write_at_once(uint64_t byte_offset, Bytes bytes, bool fua) noexcept;
  // Runs `change` inside the gate, blocks marked and safe, with the snapshot if there is one.
  template <class Work>
  int modify(uint64_t byte_offset, uint64_t byte_length, bool preserve, Work work) noexcept;
  template <class Work>
  int change_device(const Change& change, Work work) noexcept;
  template <class Work>
  int change_device_at_once(const Change& change, Work work) noexcept;
  void record(Spool& spool, const Change& change, int error) noexcept;
  int zero_piece(uint64_t byte_offset, uint64_t byte_length, const ZeroOptions& options, bool fua) noexcept;
  int trim_piece(uint64_t byte_offset, uint64_t byte_length, bool fua, const Snapshot* snapshot) noexcept;
  void note_write_end();
  void note_stall(Clock::duration stall);
  Clock::time_point last_write_or_start() const;
  void release_snapshot();
  std::string why_read(const Prepared& prepared, bool map_used) const;
  SourceState account_for_source();
  void lose_track(const std::string& reason);
  void flush_before_unmarking();

  const std::shared_ptr<NbdExport> device_;
  const TreeGeometry geometry_;
  const std::unique_ptr<ChangeMap> map_;
  std::unique_ptr<TapJournal> journal_;  // guarded by control_
  // The same, for everybody. It is set before it records: a writer who has not seen it yet misses nothing.
  std::atomic<TapJournal*> published_journal_;
  const bool trims_zero_;
  Properties properties_;

  WriteGate gate_;
  mutable std::mutex control_;
  std::optional<Prepared> prepared_;  // guarded by control_
  Clock::time_point gate_closing_;    // since when; the same
  uint64_t foreign_writers_ = 0;      // for which the map was made void; the same
  uint64_t least_bytes_;              // the same
  std::string past_the_map_;          // why, since the last instant was asked for; the same
  std::atomic<bool> holding_{false};
  mutable std::mutex snapshot_mutex_;
  std::shared_ptr<Snapshot> snapshot_;

  const Clock::time_point started_ = Clock::now();
  std::atomic<int64_t> last_write_end_{0};  // steady clock, nanoseconds; 0: none yet
  std::atomic<int64_t> longest_stall_{0};   // nanoseconds
};

}  // namespace stillpoint
