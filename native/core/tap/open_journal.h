// The journal of a tap, with real files and the write clock of the host.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/base/id.h"
#include "core/tap/journal/journal.h"

namespace stillpoint {

struct TapJournalOptions {
  std::string directory;       // of the spool; it is there, and is the tap's alone
  std::string head_directory;  // in memory
  uint64_t bytes_max = 0;
  std::string clock_word_path;  // in memory
  std::string clock_lock_path;
  std::string clock_reservation_path;
};

// `distrust` and `goes_on` as in TapJournal::Options. Errno names, `bad-version`; `EBUSY`: another tap has
// the directory, or the clock's word was taken away.
std::unique_ptr<TapJournal> open_journal(const TapJournalOptions& options, const std::string& distrust,
                                         const std::optional<Id>& goes_on);

}  // namespace stillpoint
