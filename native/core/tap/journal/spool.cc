#include "core/tap/journal/spool.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "core/base/error.h"

namespace stillpoint {
namespace {

// For what may not wait: the instant, of which there is one at a time.
constexpr size_t kSpareBytes = 64 << 10;

}  // namespace

Spool::Spool(const World& world, const Id& journal) : world_(world), ring_(world.ring_bytes) {
  head_.journal = journal;
  head_.clock = world.clock.id();
}

Spool::~Spool() {
  stop_storing();
  uncount(counted_bytes_);
}

std::string Spool::head_path(const World& world, const Id& journal) {
  return world.head_directory + "/" + journal_name(journal) + ".head";
}

std::unique_ptr<Spool> Spool::create(const World& world, const Id& journal) {
  std::unique_ptr<Spool> spool(new Spool(world, journal));
  world.files.make_journal(journal);
  spool->head_file_ = std::make_unique<HeadFile>(head_path(world, journal), world.boot);
  spool->segments_.push_back({1, 0, 0, world.files.make_segment(journal, 1)});
  spool->open_ = true;
  spool->start_storing();
  return spool;
}

JournalHead Spool::head() const {
  std::lock_guard lock(mutex_);
  return head_;
}

bool Spool::is_done() const {
  std::lock_guard lock(mutex_);
  return dropped_ || (head_.state == JournalHead::State::broken && head_.ordinal == head_.last_ordinal &&
                      released_ >= head_.last_ordinal);
}

void Spool::count(uint64_t bytes) {
  counted_bytes_ += bytes;
  world_.room.used += bytes;
}

void Spool::uncount(uint64_t bytes) {
  counted_bytes_ -= bytes;
  world_.room.used -= bytes;
}

// ---- writers ----

// Under mutex_, which is let go while it waits. Nothing: it is broken.
std::optional<RecordRing::Place> Spool::take_room(Lock& lock, JournalKind kind, size_t bytes) {
  const size_t spare = kind == JournalKind::instant ? 0 : kSpareBytes;
  std::optional<RecordRing::Place> place;
  const auto found = [&] {
    if (ring_.used() + bytes + spare <= ring_.capacity()) place = ring_.take(bytes);
    return place.has_value();
  };
  if (!found() && kind != JournalKind::instant) {
    crowded_ = true;
    wake_.notify_one();
    moved_.wait_for(lock, kPatience, [&] { return !is_open() || found(); });
  }
  if (!place && is_open()) break_at("its spool is too slow", last_stamp_ + 1, head_.last_ordinal);
  update_crowded();
  return place;
}

std::optional<Spool::Ticket> Spool::draw(JournalKind kind, uint64_t byte_offset, uint64_t byte_length,
                                         uint32_t payload_bytes) noexcept {
  const uint64_t bytes = kJournalHeaderBytes + payload_bytes;
  Lock lock(mutex_);
  if (!is_open()) return std::nullopt;
  const std::optional<RecordRing::Place> place = take_room(lock, kind, bytes);
  if (!place) return std::nullopt;
  // From here on without a pause: the order of ordinals, of stamps and of places is one.
  const std::optional<uint64_t> stamp = world_.clock.draw();
  const uint64_t ordinal = head_.last_ordinal + 1;
  // An instant has room always: what begins a journal must not break it.
  if (!stamp || (kind != JournalKind::instant && world_.room.used + bytes > world_.room.bytes_max)) {
    break_at(stamp ? "its spool is full" : world_.clock.why(), stamp.value_or(last_stamp_ + 1), ordinal - 1);
    return std::nullopt;
  }
  try {
    drawn_.push_back({{kind, ordinal, *stamp, byte_offset, byte_length, payload_bytes}, *place, false});
  } catch (const std::bad_alloc&) {
    break_at("memory is short", *stamp, ordinal - 1);
    return std::nullopt;
  }
  count(bytes);
  head_.last_ordinal = ordinal;
  last_stamp_ = *stamp;
  return Ticket{ordinal, *stamp, place->at + kJournalHeaderBytes};
}

void Spool::fill(const Ticket& ticket, Bytes payload) noexcept {
  if (!payload.empty())
    std::memcpy(ring_.bytes(ticket.place, payload.size()).data(), payload.data(), payload.size());
  std::lock_guard lock(mutex_);
  // It may have broken before this record.
  if (drawn_.empty() || ticket.ordinal < drawn_.front().record.ordinal) return;
  drawn_[ticket.ordinal - drawn_.front().record.ordinal].is_filled = true;
  if (is_idle_) wake_.notify_one();
}

bool Spool::settle(uint64_t ordinal, std::chrono::milliseconds patience) noexcept {
  Lock lock(mutex_);
  wake_.notify_one();
  moved_.wait_for(lock, patience, [&] { return head_.ordinal >= ordinal || head_.last_ordinal < ordinal; });
  return head_.ordinal >= ordinal;
}

void Spool::break_off(const std::string& reason) noexcept {
  std::lock_guard lock(mutex_);
  if (!is_open()) return;
  break_at(reason, world_.clock.draw().value_or(last_stamp_ + 1), head_.last_ordinal);
}

// Under mutex_. What is not in the journal begins with the stamp.
void Spool::break_at(const std::string& reason, uint64_t stamp, uint64_t last_ordinal) {
  if (head_.state == JournalHead::State::open) {
    head_.state = JournalHead::State::broken;
    head_.reason = reason.substr(0, JournalHead::kReasonBytesMax);
    head_.broken_stamp = stamp;
    head_.last_ordinal = last_ordinal;
    open_ = false;
  } else if (head_.state == JournalHead::State::broken) {
    head_.broken_stamp = std::min(head_.broken_stamp, stamp);
    head_.last_ordinal = std::min(head_.last_ordinal, last_ordinal);
  }
  publish();
  moved_.notify_all();
}

// ---- what the receiver has ----

void Spool::release(uint64_t ordinal) {
  std::vector<Segment> released;
  {
    std::lock_guard lock(mutex_);
    released_ = std::max(released_, std::min(ordinal, head_.ordinal));
    // The last record stays, for a clean end to be proven by it.
    while (segments_.size() > 1 && segments_.front().number < head_.segment &&
           segments_[1].first_ordinal != 0 && segments_[1].first_ordinal - 1 <= released_) {
      uncount(segments_.front().bytes);
      released.push_back(std::move(segments_.front()));
      segments_.pop_front();
    }
    if (released.empty()) return;
    head_.oldest_segment = segments_.front().number;
    publish();
  }
  for (const Segment& segment : released) world_.files.remove_segment(head_.journal, segment.number);
}

void Spool::drop() {
  break_off("it was given up");
  stop_storing();
  {
    std::lock_guard lock(mutex_);
    uncount(counted_bytes_);
    segments_.clear();
    drawn_.clear();
    head_.last_ordinal = head_.ordinal;
    dropped_ = true;
    moved_.notify_all();
    head_file_->remove();
  }
  world_.files.remove_journal(head_.journal);
}

}  // namespace stillpoint
