// The write clock: one for all taps of a host. A stamp is max(now, last + 1), nanoseconds since 1970, so
// stamps ascend strictly over all processes, also when the clock is set back (docs/journal.md).
//
// Where           what                                     survives
// -------------   --------------------------------------   -----------------------------
// word file       last stamp, the last that is reserved,   its processes, not the machine:
//                 the clock's id, the boot; mapped         it is made anew after a boot
// reservation     the clock's id, the last reserved        everything
// lock file       nothing: byte 0 of it and of the word    -
//                 file is locked while anything is made or
//                 extended; byte 1 by all who use the clock
//
// At the start      reservation read            reservation missing or damaged
// ---------------   -------------------------   -----------------------------------------------------
// word of this      joins: last is as it is     joins; the reservation is written again from the word
// boot and clock
// no such word      last = what was reserved    a new clock: stamps may be lower than ever before, so a
//                                               journal of another clock does not go on (its id tells)
// no such word,     EBUSY: the word file was taken away under them, or is that of another clock
// others use it
//
// keep_ahead() reserves up to a minute ahead; it syncs, so it has a thread (start_keeper()), and draw() has
// not. If now is past what is reserved (the machine slept, the clock was set forward, the disk is slow),
// stamps go on by 1 ns, inside of what is reserved, and the keeper is woken. After kLateMax of that, or if
// nothing is left, draw() has none. A clock that was once far ahead leaves stamps there: order is worth more
// than time. `ahead()` tells.
//
// Locking: the words are atomics of shared memory; draw() takes no lock but for waking the keeper. keeping_
// lets one thread of the process reserve; mutex_ guards why_ and what the keeper waits for, never during I/O.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "core/base/id.h"
#include "core/tap/files/tap_file.h"

namespace stillpoint {

class WriteClock {
 public:
  struct Options {
    // In memory: where a file system copies on write and is full, a write to a mapping kills.
    std::string word_path;
    std::string lock_path;
    std::unique_ptr<TapFile> reservation;
    Id new_id;  // random: of the clock, if it has to be a new one
    std::function<uint64_t()> now = system_now;
    std::string boot = boot_id();
  };

  static constexpr uint64_t kReservedAhead = 60'000'000'000;  // nanoseconds
  static constexpr uint64_t kExtendBelow = 40'000'000'000;
  static constexpr std::chrono::nanoseconds kLateMax = std::chrono::seconds(10);

  static uint64_t system_now();
  static std::string boot_id();

  // Errno names, `bad-version` (of the reservation, or of the word of taps that run).
  explicit WriteClock(Options options);
  ~WriteClock();
  WriteClock(const WriteClock&) = delete;
  WriteClock& operator=(const WriteClock&) = delete;

  // Nothing: none can be given out that is sure to be later than all before. why() says so.
  std::optional<uint64_t> draw() noexcept;
  // At least the last that was drawn by now, anywhere.
  uint64_t last() const;
  // How far stamps are ahead of the time, nanoseconds.
  uint64_t ahead() const;
  const Id& id() const { return id_; }

  // Reserves more if less than kExtendBelow is left. An errno: of the locks or of the reservation.
  int keep_ahead();
  void start_keeper();
  // A clause; empty if all is well.
  std::string why() const;

 private:
  struct Word;
  class Making;

  void map_word();
  void join_or_make(const Id& new_id, const std::string& boot);
  int extend();
  int lock_both(off_t byte, short type, bool wait) const;
  bool late();
  void keep();

  const std::function<uint64_t()> now_;
  const std::unique_ptr<TapFile> reservation_;
  const std::string word_path_;
  const std::string lock_path_;
  int lock_fd_ = -1;
  int word_fd_ = -1;
  Word* word_ = nullptr;
  Id id_{};

  std::atomic<int64_t> late_since_{0};  // steady clock, nanoseconds; 0: not
  std::mutex keeping_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool wanted_ = false;
  bool ending_ = false;
  std::string why_;
  std::thread keeper_;
};

}  // namespace stillpoint
