// A look at file contents where they lie in the page cache, without the copy that a read makes.
//
// Why: digesting is as fast as memory is read, so the copy costs a third of a scan of a cached image. Why so
// careful: a mapped page that can't be read any more (the file was cut short, the disk failed after the page
// was reclaimed) raises SIGBUS, which would end the process. The handler that this installs on first use
// turns it into "not seen" on a thread that is looking, and passes every other SIGBUS on to whoever handled
// it before.
#pragma once

#include <cstdint>
#include <functional>

#include "core/digest.h"

namespace stillpoint {

// Calls look(bytes) with the range of the file if all of it is in the page cache, and answers true if the
// call returned. `look` may be left in the middle: it takes no lock, allocates nothing and has nothing that
// must be destroyed. Not nested.
bool look_at_cached_file(int fd, uint64_t byte_offset, uint64_t byte_length,
                         const std::function<void(Bytes)>& look);

}  // namespace stillpoint
