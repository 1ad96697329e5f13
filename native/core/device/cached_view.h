// Looks at file contents in place in the page cache, without the copy that a read makes.
//
// Why: digesting is as fast as reading memory, so the copy costs a third of a scan of a cached image. Why the
// care: a mapped page that can no longer be read (the file was cut short, the disk failed after the page was
// reclaimed) raises SIGBUS, which would end the process. The handler that this installs on first use turns it
// into "not seen" on a thread that is looking, and passes every other SIGBUS on to the previous handler.
//
// One window of the file stays mapped between looks, for callers that go through it in order: to map and
// unmap each range would interrupt the other processors every time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

#include "core/base/digest.h"

namespace stillpoint {

class CachedView {
 public:
  // Calls look(bytes) with the range of the file if all of it is in the page cache, and answers true if the
  // call returned. `look` may be left in the middle: it takes no lock, allocates nothing and has nothing that
  // must be destroyed. Not nested. From any number of threads, always with the same file.
  bool look(int fd, uint64_t byte_offset, uint64_t byte_length, const std::function<void(Bytes)>& look);

 private:
  class Window;
  std::shared_ptr<const Window> window_over(int fd, uint64_t begin, uint64_t end);

  std::mutex mutex_;
  std::shared_ptr<const Window> window_;  // the last one; guarded
};

}  // namespace stillpoint
