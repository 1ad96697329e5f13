#include "core/tap/journal/journal.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/base/error.h"

namespace stillpoint {

TapJournal::TapJournal(Options options)
    : files_(std::move(options.files)),
      clock_(std::move(options.clock)),
      room_{options.bytes_max},
      world_{*files_,
             *clock_,
             room_,
             std::move(options.head_directory),
             std::move(options.boot),
             options.segment_bytes},
      random_id_(std::move(options.random_id)) {
  for (const Id& journal : files_->journals()) {
    const bool is_other = options.goes_on && *options.goes_on != journal;
    const std::string distrust = options.distrust.empty() && is_other ? kRanWithout : options.distrust;
    std::unique_ptr<Spool> spool = Spool::reopen(world_, journal, distrust);
    if (spool == nullptr) {
      files_->remove_journal(journal);
      std::filesystem::remove(Spool::head_path(world_, journal));
      continue;
    }
    spools_.push_back(std::move(spool));
  }
  // There is one at most that goes on; the others are as old as their last stamps.
  std::sort(spools_.begin(), spools_.end(), [](const auto& a, const auto& b) {
    return std::pair(a->is_open(), a->head().stamp) < std::pair(b->is_open(), b->head().stamp);
  });
  if (!spools_.empty()) current_ = spools_.back().get();
}

TapJournal::~TapJournal() = default;

// ---- holds ----

std::vector<std::shared_ptr<Spool>> TapJournal::all() const {
  std::lock_guard lock(mutex_);
  return spools_;
}

void TapJournal::set_failure(const std::string& reason) {
  std::lock_guard lock(mutex_);
  failure_ = reason;
}

void TapJournal::prepare() noexcept {
  try {
    set_failure("");
    if (recording() != nullptr) return;
    remove_done();
    give_up_older();
    {
      std::lock_guard lock(mutex_);
      if (prepared_) return;
      spools_.reserve(spools_.size() + 1);
    }
    std::shared_ptr<Spool> made = Spool::create(world_, random_id_());
    std::lock_guard lock(mutex_);
    prepared_ = std::move(made);
  } catch (const std::exception& error) {
    set_failure(std::string("no journal can be begun: ") + error.what());
  }
}

// A writer may still be putting a record into one that broke: its files stay open for that.
void TapJournal::give_up_older() {
  for (const auto& spool : all()) {
    if (room_.used <= room_.bytes_max / 2) return;
    spool->drop();
  }
}

// But for the current one: a writer may be inside the gate with it.
void TapJournal::remove_done() {
  for (const auto& spool : all()) {
    if (spool.get() == current_.load() || !spool->is_done()) continue;
    spool->drop();
    std::lock_guard lock(mutex_);
    std::erase(spools_, spool);
  }
}

std::optional<Spool::Ticket> TapJournal::cut() noexcept {
  if (recording() == nullptr) {
    std::lock_guard lock(mutex_);
    if (!prepared_) return std::nullopt;
    current_ = prepared_.get();
    spools_.push_back(std::move(prepared_));
  }
  return current_.load()->draw(JournalKind::instant, 0, 0, sizeof(Id));
}

std::optional<JournalPosition> TapJournal::finish_cut(const std::optional<Spool::Ticket>& ticket,
                                                      const Id& session) {
  Spool* const spool = current_.load();
  if (ticket) {
    spool->fill(*ticket, session);
    if (spool->settle(ticket->ordinal))
      return JournalPosition{spool->journal(), clock_->id(), ticket->ordinal, ticket->stamp};
  }
  if (spool != nullptr && failure().empty()) set_failure("the journal broke: " + spool->head().reason);
  return std::nullopt;
}

std::optional<JournalPosition> TapJournal::stamp() noexcept {
  Spool* const spool = recording();
  if (spool == nullptr) return std::nullopt;
  const auto ticket = spool->draw(JournalKind::stamp, 0, 0, 0);
  if (!ticket) return std::nullopt;
  spool->fill(*ticket, {});
  return JournalPosition{spool->journal(), clock_->id(), ticket->ordinal, ticket->stamp};
}

// ---- others ----

void TapJournal::record(Spool& spool, JournalKind kind, uint64_t byte_offset, uint64_t byte_length,
                        Bytes payload) noexcept {
  // A write larger than a record is several, one behind the other; a crash of the machine may part it, too.
  do {
    const Bytes part = payload.first(std::min(payload.size(), Spool::kPayloadBytesMax));
    const uint64_t length = kind == JournalKind::write ? part.size() : byte_length;
    const auto ticket = spool.draw(kind, byte_offset, length, static_cast<uint32_t>(part.size()));
    if (!ticket) return;
    spool.fill(*ticket, part);
    payload = payload.subspan(part.size());
    byte_offset += part.size();
  } while (!payload.empty());
}

bool TapJournal::settle() noexcept {
  bool settled = true;
  for (const auto& spool : all()) settled = spool->settle(spool->head().last_ordinal) && settled;
  return settled;
}

void TapJournal::break_off(const std::string& reason) noexcept {
  if (Spool* const spool = current_.load()) spool->break_off(reason);
}

void TapJournal::break_off(const Id& journal, const std::string& reason) noexcept {
  for (const auto& spool : all()) {
    if (spool->journal() == journal) spool->break_off(reason);
  }
}

void TapJournal::release(const Id& journal, uint64_t ordinal) {
  for (const auto& spool : all()) {
    if (spool->journal() == journal) spool->release(ordinal);
  }
  remove_done();
}

std::vector<JournalHead> TapJournal::heads() const {
  std::vector<JournalHead> heads;
  for (const auto& spool : all()) heads.push_back(spool->head());
  return heads;
}

std::string TapJournal::failure() const {
  std::lock_guard lock(mutex_);
  return failure_;
}

void TapJournal::close() {
  std::shared_ptr<Spool> unused;
  {
    std::lock_guard lock(mutex_);
    unused = std::move(prepared_);
  }
  if (unused) unused->drop();
  for (const auto& spool : all()) spool->close();
}

}  // namespace stillpoint
