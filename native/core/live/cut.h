// The cut: while nobody writes (the file systems are frozen), the last marks are taken and what they name is
// read. It runs in stillpoint-freezer. All memory, maps and threads are there before the freeze; between
// prepare and the end of run() nothing is allocated, logged or written to a file.
//
//   state      set by                    meaning
//   --------   -----------------------   -------------------------------------------
//   prepared   the constructor           readers wait
//   ahead      read_ahead()              what was pending is read, while others write
//   ended      run()                     what was written since is read, too
//
// A piece that was read ahead may be outdated in part: then a later piece has that part. Pieces are good in
// their order.
//
// Threads: read_ahead() and run() are called once, in this order, by one thread; the first may be left out.
// stop() by any, at any time: no more marks are taken, reads that have not begun are left out, and the cut is
// not complete then.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "core/live/cut_area.h"
#include "core/track/marks.h"

namespace stillpoint {

struct CutMaps {
  MarkMap done;
  MarkMap queued;
  MarkMap kept;
};

class Cut {
 public:
  static constexpr unsigned kReaders = 16;

  // `device` is open with O_DIRECT.
  Cut(CutArea area, CutMaps maps, UniqueFd device);
  ~Cut();
  Cut(const Cut&) = delete;
  Cut& operator=(const Cut&) = delete;

  // Before the freeze: reads what is pending now, so that little is left. Several times, as long as each one
  // finds much less than the one before.
  void read_ahead();
  // In the freeze. The result is in the area.
  void run();
  void stop() { stopping_ = true; }

 private:
  void begin_pieces();
  void take_done(bool also_pending);
  void take_marks();
  void add_bits(uint64_t word, uint64_t bits);
  void add_grains(uint64_t begin, uint64_t end);
  void add_piece(uint64_t begin, uint64_t end);
  void read_all();
  void read_pieces();
  void fail(int error, uint64_t byte_offset);
  void note_written();

  CutArea area_;
  CutMaps maps_;
  UniqueFd device_;
  CutResult& result_;
  std::vector<uint64_t> ahead_;  // units that were read as a whole, one bit each
  bool has_read_ahead_ = false;
  uint64_t first_piece_ = 0;        // of those that are being put together or read,
  uint64_t planned_units_end_ = 0;  // and whole units below it are among them
  bool overflown_ = false;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> failed_{false};
  std::atomic<uint32_t> rounds_{0};  // of reading; readers wait for the next one
  std::atomic<bool> over_{false};
  std::atomic<uint64_t> next_piece_{0};
  std::atomic<uint32_t> reading_{0};  // readers at work in this round
  std::vector<std::thread> readers_;
};

}  // namespace stillpoint
