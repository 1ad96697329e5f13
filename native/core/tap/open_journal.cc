#include "core/tap/open_journal.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/base/error.h"
#include "core/tap/clock/write_clock.h"
#include "core/tap/files/tap_file.h"

namespace stillpoint {
namespace {

Id random_id() {
  Id id;
  // So few bytes come whole.
  if (::getrandom(id.data(), id.size(), 0) < 0) throw_errno(errno, "getting random bytes");
  return id;
}

std::unique_ptr<WriteClock> open_clock(const TapJournalOptions& options) {
  WriteClock::Options clock;
  clock.word_path = options.clock_word_path;
  clock.lock_path = options.clock_lock_path;
  clock.reservation = TapFile::open_named(options.clock_reservation_path);
  clock.new_id = random_id();
  auto opened = std::make_unique<WriteClock>(std::move(clock));
  opened->start_keeper();
  return opened;
}

constexpr uint64_t kSegmentsMin = 8;

}  // namespace

std::unique_ptr<TapJournal> open_journal(const TapJournalOptions& options, const std::string& distrust,
                                         const std::optional<Id>& goes_on) {
  TapJournal::Options journal;
  journal.files = SpoolFiles::own(options.directory);
  journal.clock = open_clock(options);
  journal.head_directory = options.head_directory;
  journal.bytes_max = options.bytes_max;
  // Room comes back in whole segments.
  journal.segment_bytes = std::min(TapJournal::kSegmentBytes, options.bytes_max / kSegmentsMin);
  journal.distrust = distrust;
  journal.goes_on = goes_on;
  journal.random_id = random_id;
  return std::make_unique<TapJournal>(std::move(journal));
}

}  // namespace stillpoint
