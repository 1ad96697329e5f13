#include "core/live/cut.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

namespace stillpoint {
namespace {

// One read: large enough for a disk, small enough for several in flight.
constexpr uint64_t kReadBytesMax = uint64_t{256} << 10;
// Reading ahead: so often, unless it finds less than this, or not much less than before.
constexpr unsigned kAheadRounds = 6;
constexpr uint64_t kAheadBytesMin = uint64_t{1} << 20;
constexpr double kAheadProgress = 0.8;

uint64_t ns_since(std::chrono::steady_clock::time_point begin) {
  return static_cast<uint64_t>(std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin).count());
}

}  // namespace

Cut::Cut(CutArea area, CutMaps maps, UniqueFd device)
    : area_(std::move(area)),
      maps_(std::move(maps)),
      device_(std::move(device)),
      result_(area_.result()),
      ahead_(area_.geometry().unit_words()) {
  result_ = {};
  readers_.reserve(kReaders);
  for (unsigned i = 0; i < kReaders; i++) {
    readers_.emplace_back([this] {
      for (uint32_t round = 1;; round++) {
        rounds_.wait(round - 1);
        if (over_) return;
        read_pieces();
      }
    });
  }
}

Cut::~Cut() {
  stop();
  over_ = true;
  rounds_++;
  rounds_.notify_all();
  for (std::thread& reader : readers_) reader.join();
}

void Cut::read_ahead() {
  has_read_ahead_ = true;
  uint64_t least = ~uint64_t{0};
  for (unsigned round = 0; round < kAheadRounds; round++) {
    begin_pieces();
    const uint64_t before = result_.wanted_bytes;
    take_done(round == 0);
    if (overflown_) return;
    read_all();
    if (stopping_) return;
    const uint64_t found = result_.wanted_bytes - before;
    result_.ahead_bytes = result_.wanted_bytes;
    // Half of the memory is for the freeze.
    const bool is_full = result_.wanted_bytes > area_.data().size() / 2;
    if (is_full || found < kAheadBytesMin ||
        static_cast<double>(found) > kAheadProgress * static_cast<double>(least))
      return;
    least = found;
  }
}

void Cut::run() {
  const auto begin = std::chrono::steady_clock::now();
  begin_pieces();
  take_marks();
  result_.marks_ns = ns_since(begin);
  if (overflown_) {
    result_.state = CutState::too_much;
    return;
  }
  const auto reading = std::chrono::steady_clock::now();
  read_all();
  result_.read_ns = ns_since(reading);
  if (failed_) result_.state = CutState::failed;
  if (stopping_) return;
  note_written();
  result_.state = CutState::complete;
}

void Cut::begin_pieces() {
  first_piece_ = result_.piece_count;
  planned_units_end_ = 0;
}

// As a pass of the agent does. What is taken is pending until the cut is accepted: before it is cleared, so
// that the agent knows of it if this process is killed here.
void Cut::take_done(bool also_pending) {
  const auto pending = area_.pending();
  for (uint64_t word = 0; word < pending.size() && !stopping_; word++) {
    const uint64_t done = maps_.done.load(word);
    if (done != 0) {
      pending[word] |= done;
      maps_.kept.set(word, done);
      maps_.done.clear(word, done);
    }
    add_bits(word, also_pending ? pending[word] : done);
  }
}

// What was marked as done since, and what was queued and never seen to be done since the last point: normally
// nothing. And what is pending, if it was not read ahead. From here on `queued` and `done` have what is
// written after this instant.
void Cut::take_marks() {
  const auto pending = area_.pending();
  for (uint64_t word = 0; word < pending.size() && !stopping_; word++) {
    const uint64_t done = maps_.done.load(word);
    const uint64_t queued = maps_.queued.load(word);
    uint64_t bits = has_read_ahead_ ? 0 : pending[word];
    if ((done | queued) != 0) {
      const uint64_t found = done | (queued & ~maps_.kept.load(word));
      bits |= found;
      pending[word] |= found;
      maps_.kept.set(word, done | queued);
      if (done != 0) maps_.done.clear(word, done);
      if (queued != 0) maps_.queued.clear(word, queued);
    }
    add_bits(word, bits);
  }
}

void Cut::add_bits(uint64_t word, uint64_t bits) {
  for_runs(bits, [&](uint64_t from, uint64_t to) { add_grains(word * 64 + from, word * 64 + to); });
}

// Of units that are held the grains alone, of others all.
void Cut::add_grains(uint64_t begin, uint64_t end) {
  const CutGeometry& geometry = area_.geometry();
  const uint64_t per_unit = geometry.unit_bytes / geometry.grain_bytes;
  while (begin < end) {
    const uint64_t unit = begin / per_unit;
    const uint64_t unit_end = std::min(end, (unit + 1) * per_unit);
    if (unit >= planned_units_end_) {
      if (has_bit(area_.staged(), unit) || has_bit(ahead_, unit)) {
        add_piece(begin * geometry.grain_bytes, unit_end * geometry.grain_bytes);
      } else {
        planned_units_end_ = unit + 1;
        set_bit(ahead_, unit);
        add_piece(unit * geometry.unit_bytes, (unit + 1) * geometry.unit_bytes);
      }
    }
    begin = unit_end;
  }
}

void Cut::add_piece(uint64_t begin, uint64_t end) {
  const CutGeometry& geometry = area_.geometry();
  end = std::min(end, geometry.device_bytes);
  if (begin >= end) return;
  const uint64_t data_offset = result_.wanted_bytes;
  // A device may end in the middle of a page; what follows stays aligned.
  result_.wanted_bytes += (end - begin + 4095) & ~uint64_t{4095};
  const auto pieces = area_.pieces();
  if (result_.wanted_bytes > area_.data().size()) overflown_ = true;
  if (overflown_) return;
  if (result_.piece_count > first_piece_) {
    CutPiece& last = pieces[result_.piece_count - 1];
    if (last.byte_offset + last.byte_length == begin && last.byte_length + (end - begin) <= kReadBytesMax &&
        last.data_offset + last.byte_length == data_offset) {
      last.byte_length += end - begin;
      return;
    }
  }
  if (result_.piece_count == pieces.size()) {
    overflown_ = true;
    return;
  }
  pieces[result_.piece_count++] = {begin, end - begin, data_offset};
}

void Cut::read_all() {
  next_piece_ = first_piece_;
  reading_ = kReaders;
  rounds_++;
  rounds_.notify_all();
  for (uint32_t left = reading_; left != 0; left = reading_) reading_.wait(left);
}

void Cut::read_pieces() {
  const auto pieces = area_.pieces();
  for (uint64_t i = next_piece_++; i < result_.piece_count && !stopping_; i = next_piece_++) {
    const CutPiece& piece = pieces[i];
    uint8_t* const into = area_.data().data() + piece.data_offset;
    for (uint64_t at = 0; at < piece.byte_length;) {
      const ssize_t length =
          pread(device_.get(), into + at, piece.byte_length - at, static_cast<off_t>(piece.byte_offset + at));
      if (length < 0 && errno == EINTR) continue;
      if (length <= 0) {
        fail(length == 0 ? ENODATA : errno, piece.byte_offset + at);
        break;
      }
      at += static_cast<uint64_t>(length);
    }
  }
  if (--reading_ == 0) reading_.notify_all();
}

// The first failure is told.
void Cut::fail(int error, uint64_t byte_offset) {
  stopping_ = true;
  if (failed_.exchange(true)) return;
  result_.error = error;
  result_.error_offset = byte_offset;
}

// What writes although nobody should: past the frozen file systems, or where there is none.
void Cut::note_written() {
  for (uint64_t word = 0; word < maps_.done.word_count(); word++) {
    const uint64_t bits = maps_.done.load(word) | maps_.queued.load(word);
    for_runs(bits, [&](uint64_t from, uint64_t to) {
      if (result_.written_count == CutResult::kWrittenMax) {
        result_.written_more = true;
        return;
      }
      result_.written[result_.written_count++] = {word * 64 + from, word * 64 + to};
    });
  }
}

}  // namespace stillpoint
