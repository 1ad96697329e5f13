// The thread of a spool: stores what is filled. spool.h has the rules.
#include <cstring>
#include <utility>

#include "core/base/error.h"
#include "core/tap/journal/spool.h"

namespace stillpoint {
namespace {

constexpr size_t kBatchBytesMax = 1 << 20;
// Waking a thread costs a writer more than its copy. So the thread looks by itself for a while, and only then
// has to be woken.
constexpr auto kNap = std::chrono::milliseconds(1);
constexpr int kNapsMax = 20;

}  // namespace

void Spool::start_storing() {
  thread_ = std::thread([this] { store_all(); });
}

void Spool::stop_storing() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Spool::store_all() {
  Lock lock(mutex_);
  for (int naps = 0; !stopping_;) {
    if (const size_t count = filled(); count > 0) {
      store(lock, count);
      naps = 0;
    } else if (naps++ < kNapsMax) {
      wake_.wait_for(lock, kNap);
    } else {
      is_idle_ = true;
      wake_.wait(lock, [this] { return stopping_ || filled() > 0; });
      is_idle_ = false;
    }
  }
}

// Records at the front that are filled, and lie in the ring one behind the other.
size_t Spool::filled() const {
  size_t count = 0, bytes = 0;
  for (const Drawn& drawn : drawn_) {
    bytes += drawn.record.record_bytes();
    const bool goes_on =
        count == 0 || drawn_[0].place.at + bytes == drawn.place.at + drawn.record.record_bytes();
    if (!drawn.is_filled || !goes_on || (count > 0 && bytes > kBatchBytesMax)) break;
    count++;
  }
  return count;
}

// Under mutex_, but for the I/O.
void Spool::store(Lock& lock, size_t count) {
  const std::vector<Drawn> batch(drawn_.begin(), drawn_.begin() + static_cast<std::ptrdiff_t>(count));
  const JournalRecord& first = batch.front().record;
  const JournalRecord& last = batch.back().record;
  std::string failure;
  try {
    if (segments_.back().bytes >= world_.segment_bytes) begin_segment(lock);
    const Segment& segment = segments_.back();
    lock.unlock();
    const int error = write_out(batch, segment);
    lock.lock();
    if (error != 0) failure = describe_errno(error);
  } catch (const std::exception& error) {
    if (!lock.owns_lock()) lock.lock();
    failure = error.what();
  }
  if (!failure.empty()) {
    // What was drawn behind it can't be read either.
    drawn_.clear();
    return break_at("its spool can't be written: " + failure, first.stamp, first.ordinal - 1);
  }
  Segment& segment = segments_.back();
  if (segment.first_ordinal == 0) segment.first_ordinal = first.ordinal;
  for (const Drawn& drawn : batch) {
    head_.record_offset = segment.bytes;
    segment.bytes += drawn.record.record_bytes();
    drawn_.pop_front();
  }
  head_.ordinal = last.ordinal;
  head_.stamp = last.stamp;
  head_.segment = segment.number;
  head_.end_offset = segment.bytes;
  head_.oldest_segment = segments_.front().number;
  ring_.give_back(batch.back().place.until);
  update_crowded();
  publish();
  moved_.notify_all();
}

void Spool::begin_segment(Lock& lock) {
  const uint64_t number = segments_.back().number + 1;
  lock.unlock();
  std::unique_ptr<TapFile> file = world_.files.make_segment(head_.journal, number);
  lock.lock();
  segments_.push_back({number, 0, 0, std::move(file)});
}

int Spool::write_out(const std::vector<Drawn>& batch, const Segment& segment) {
  const size_t begin = batch.front().place.at;
  size_t bytes = 0;
  for (const Drawn& drawn : batch) {
    const auto record = ring_.bytes(drawn.place.at, drawn.record.record_bytes());
    const auto header = encode_journal_header(drawn.record, record.subspan(kJournalHeaderBytes));
    std::memcpy(record.data(), header.data(), header.size());
    bytes += record.size();
  }
  return segment.file->write(segment.bytes, ring_.bytes(begin, bytes));
}

}  // namespace stillpoint
