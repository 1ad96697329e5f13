// How a spool ends and is found again: spool.h has the table.
#include <array>
#include <cerrno>
#include <utility>

#include "core/base/error.h"
#include "core/tap/journal/spool.h"

namespace stillpoint {
namespace {

constexpr std::chrono::milliseconds kClosingPatience{60'000};

}  // namespace

void Spool::close() {
  settle(head().last_ordinal, kClosingPatience);
  stop_storing();
  if (is_done() || head().ordinal == 0) return drop();
  std::lock_guard lock(mutex_);
  const bool was_open = is_open();
  open_ = false;
  if (was_open && head_.ordinal != head_.last_ordinal)
    throw_errno(ETIMEDOUT, "storing the journal's last records", journal_name(head_.journal));
  JournalHead last = head_;
  last.last_ordinal = last.ordinal;
  if (was_open) last.state = JournalHead::State::closed;
  int error = 0;
  for (const Segment& segment : segments_) {
    if (segment.file != nullptr && error == 0) error = segment.file->sync();
  }
  if (error == 0) {
    const std::unique_ptr<TapFile> file = world_.files.make_closed(head_.journal);
    error = file->write(0, encode_head(last));
    if (error == 0) error = file->sync();
  }
  if (error != 0) throw_errno(error, "closing the journal's spool", journal_name(head_.journal));
  head_ = last;
  publish();
}

std::unique_ptr<Spool> Spool::reopen(const World& world, const Id& journal, const std::string& distrust) {
  std::unique_ptr<Spool> spool(new Spool(world, journal));
  try {
    return spool->load(distrust) ? std::move(spool) : nullptr;
  } catch (const NativeError& error) {
    // Damaged: nothing of it can be shipped. What can't be read, or is of a newer program, is left alone.
    static constexpr const char* kDamage[] = {"bad-magic", "bad-kind", "bad-length", "bad-checksum",
                                              "truncated"};
    for (const char* const code : kDamage) {
      if (error.code() == code) return nullptr;
    }
    throw;
  }
}

// What a clean end has left, or else what the tap that was killed has published last. After a restart of the
// machine, there is only the first.
std::optional<JournalHead> Spool::left_head() {
  if (const auto file = world_.files.open_closed(head_.journal)) {
    std::array<uint8_t, kHeadBytes> bytes;
    if (const int error = file->read(0, bytes); error != 0)
      throw_errno(error, "reading the journal's head", file->path());
    // A power cut may have come before it was written.
    if (!is_all_zero(bytes)) return decode_head(bytes);
  }
  std::optional<JournalHead> head = read_head(head_path(world_, head_.journal), world_.boot);
  if (head && head->state != JournalHead::State::broken) head->state = JournalHead::State::open;
  return head;
}

bool Spool::load(const std::string& distrust) {
  const std::optional<JournalHead> left = left_head();
  if (!left || left->journal != head_.journal || left->ordinal == 0) return false;
  head_ = *left;
  last_stamp_ = head_.stamp;
  load_segments();
  if (segments_.empty() || segments_.back().number != head_.segment || !ends_as_said()) return false;
  head_.oldest_segment = segments_.front().number;
  std::string reason = distrust;
  if (reason.empty() && head_.state == JournalHead::State::open) reason = "the tap did not end cleanly";
  if (reason.empty() && (head_.clock != world_.clock.id() || head_.stamp > world_.clock.last()))
    reason = "the write clock it had is lost";
  if (reason.empty() && head_.state == JournalHead::State::closed)
    segments_.push_back({head_.segment + 1, 0, 0, world_.files.make_segment(journal(), head_.segment + 1)});
  head_file_ = std::make_unique<HeadFile>(head_path(world_, head_.journal), world_.boot);
  const bool goes_on = reason.empty() && head_.state == JournalHead::State::closed;
  if (head_.state != JournalHead::State::broken) {
    head_.state = JournalHead::State::open;
    // Before it is told: a tap that dies here must not be followed by one that finds a clean end.
    if (!goes_on) world_.files.remove_closed(head_.journal);
  }
  if (goes_on) {
    publish();
    world_.files.remove_closed(head_.journal);
    open_ = true;
    start_storing();
  } else {
    // What was drawn and not whole when the tap was killed is not in it.
    const bool lacks = head_.ordinal < head_.last_ordinal || head_.state == JournalHead::State::open;
    break_at(reason, lacks ? head_.stamp + 1 : head_.broken_stamp, head_.ordinal);
  }
  return true;
}

// Without gaps, up to the head; what is beyond it goes.
void Spool::load_segments() {
  for (const auto& [number, bytes] : world_.files.segments(head_.journal)) {
    if (number > head_.segment) {
      world_.files.remove_segment(head_.journal, number);
      continue;
    }
    // What was released may have come back after a power cut.
    if (!segments_.empty() && segments_.back().number + 1 != number) {
      uncount(counted_bytes_);
      segments_.clear();
    }
    std::array<uint8_t, kJournalHeaderBytes> header;
    const auto file = world_.files.open_segment(head_.journal, number);
    const int error = file == nullptr ? ENOENT : file->read(0, header);
    if (error != 0) throw_errno(error, "reading a segment", journal_name(head_.journal));
    segments_.push_back({number, parse_journal_header(header).ordinal, bytes, nullptr});
    count(bytes);
  }
}

bool Spool::ends_as_said() {
  const auto file = world_.files.open_segment(head_.journal, head_.segment);
  const uint64_t bytes = head_.end_offset - head_.record_offset;
  if (file == nullptr || bytes > kJournalHeaderBytes + kJournalPayloadBytesMax) return false;
  std::vector<uint8_t> record(bytes);
  if (const int error = file->read(head_.record_offset, record); error != 0)
    throw_errno(error, "reading a segment", file->path());
  const JournalRecordView view = parse_journal_record(record);
  check_journal_record(view);
  return view.record.ordinal == head_.ordinal && view.record.stamp == head_.stamp;
}

}  // namespace stillpoint
