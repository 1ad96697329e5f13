// What the write clock keeps on disk (docs/journal.md, "The write clock"): which clock it is, and the stamp
// up to which any may have been given out. One sector, which disks write whole or not at all.
#pragma once

#include <cstdint>
#include <optional>

#include "core/base/id.h"
#include "core/tap/files/tap_file.h"

namespace stillpoint {

struct ClockReservation {
  Id clock;
  uint64_t stamp;  // the last that may be given out
};

// Nothing: the file is empty or damaged, so what it said is unknown. `bad-version` (that of a newer program
// is never written over); errno names.
std::optional<ClockReservation> read_reservation(TapFile& file);
// Synced afterwards. An errno.
int write_reservation(TapFile& file, const ClockReservation& reservation);

}  // namespace stillpoint
