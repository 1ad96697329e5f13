// The cut: while nobody writes (the file systems are frozen), the last marks are taken and what they name is
// read. It runs in stillpoint-freezer. All memory, maps and threads are there before the freeze; between
// prepare and the end of run() nothing is allocated, logged or written to a file.
//
//   state      set by                    meaning
//   --------   -----------------------   -----------------------------------
//   prepared   the constructor           readers wait
//   running    run()                     readers read pieces
//   ended      run(), the destructor     readers have ended
//
// Threads: run() is called once, by one thread; stop() by any, at any time: reads that have not begun are
// left out, and the cut is not complete then.
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
  static constexpr unsigned kReaders = 4;

  // `device` is open with O_DIRECT.
  Cut(CutArea area, CutMaps maps, UniqueFd device);
  ~Cut();
  Cut(const Cut&) = delete;
  Cut& operator=(const Cut&) = delete;

  // The result is in the area.
  void run();
  void stop() { stopping_ = true; }

 private:
  void take_marks();
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
  uint64_t planned_units_end_ = 0;  // whole units below it are in pieces already
  bool overflown_ = false;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> failed_{false};
  std::atomic<uint32_t> begun_{0};  // readers wait for it
  std::atomic<uint64_t> next_piece_{0};
  std::atomic<uint32_t> reading_{0};  // readers that have not ended
  std::vector<std::thread> readers_;
};

}  // namespace stillpoint
