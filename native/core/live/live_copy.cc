#include "core/live/live_copy.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "core/base/error.h"

namespace stillpoint {
namespace {

constexpr unsigned kReaders = 16;
constexpr uint64_t kSectorBytes = 512;
// What is written between the last pass and the cut, by hooks too, is to find room.
constexpr uint64_t kCutDataBytesMin = uint64_t{48} << 20;
constexpr uint64_t kCutDataTimes = 4;
// Of what a cut wanted that was not accepted.
constexpr uint64_t kCutWantedTimes = 2;

CutGeometry cut_geometry(const BlockDevice& device, const Tracker& tracker, const LiveOptions& options) {
  const TrackTarget& target = tracker.target();
  if (target.sector_count * kSectorBytes != device.size_bytes()) {
    throw NativeError("geometry-mismatch", "what is tracked is not as large as the device", device.path());
  }
  const uint64_t unit = std::max<uint64_t>(options.block_bytes, target.grain_bytes);
  return {device.size_bytes(), target.grain_bytes, unit, std::max(options.cut_bytes_max, unit)};
}

// A descriptor of its own, for another process.
UniqueFd duplicate(const BlockDevice& device) {
  if (device.direct_fd() < 0) throw NativeError("argument", "the device has to be open with O_DIRECT");
  UniqueFd fd(fcntl(device.direct_fd(), F_DUPFD_CLOEXEC, 0));
  if (!fd) throw_errno(errno, "dup", device.path());
  return fd;
}

struct Read {
  uint64_t byte_offset;
  std::span<uint8_t> into;
};

// All of them, several at once. Throws the failure of one; others may have been read.
void read_all(BlockDevice& device, const std::vector<Read>& reads) {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::optional<NativeError> failure;
  const auto work = [&] {
    for (size_t i = next++; i < reads.size(); i = next++) {
      try {
        device.read(reads[i].byte_offset, reads[i].into);
      } catch (const NativeError& error) {
        const std::lock_guard lock(mutex);
        failure = error;
        next = reads.size();
      }
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < kReaders && i < reads.size(); i++) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  if (failure) throw NativeError(*failure);
}

void add_range(std::vector<CutRange>& ranges, uint64_t begin, uint64_t end) {
  if (!ranges.empty() && ranges.back().end >= begin) {
    ranges.back().end = std::max(ranges.back().end, end);
  } else {
    ranges.push_back({begin, end});
  }
}

}  // namespace

LiveCopy::LiveCopy(const std::shared_ptr<BlockDevice>& device, std::shared_ptr<Tracker> tracker,
                   const LiveOptions& options)
    : device_(device),
      tracker_(std::move(tracker)),
      options_(options),
      area_(CutArea::create(cut_geometry(*device, *tracker_, options))),
      staging_(area_.geometry().unit_bytes, options.staging_bytes_max + area_.geometry().data_bytes_max),
      direct_(duplicate(*device)),
      pending_(area_.pending()),
      changed_(area_.geometry().unit_words()) {}

void LiveCopy::need(State state) const {
  if (state_ != state) throw NativeError("argument", "a live copy that is in another state");
}

void LiveCopy::mark_pending(uint64_t word, uint64_t bits) {
  const CutGeometry& geometry = area_.geometry();
  pending_[word] |= bits;
  for_runs(bits, [&](uint64_t from, uint64_t to) {
    const uint64_t first = (word * 64 + from) * geometry.grain_bytes / geometry.unit_bytes;
    const uint64_t last = (word * 64 + to - 1) * geometry.grain_bytes / geometry.unit_bytes;
    for (uint64_t unit = first; unit <= last && unit < geometry.unit_count(); unit++) set_bit(changed_, unit);
  });
}

// Marks of `done` are moved before those of the others are looked at: a write that ends in between is still
// marked as done.
void LiveCopy::begin(const Begin& begin) {
  need(State::made);
  state_ = State::collecting;
  const CutGeometry& geometry = area_.geometry();
  move_marks(tracker_->done(), tracker_->kept(), [](uint64_t, uint64_t) {});
  pend_submitted();
  if (begin.everything) {
    pend_everything();
    return;
  }
  for (const uint64_t block : begin.sample_blocks) {
    const uint64_t unit = block * options_.block_bytes / geometry.unit_bytes;
    if (unit >= geometry.unit_count()) throw NativeError("argument", "sampleBlocks: behind the device's end");
    if (has_bit(changed_, unit)) continue;
    pend_unit(unit);
    sample_units_.push_back(unit);
  }
}

void LiveCopy::pend_submitted() {
  for (uint64_t word = 0; word < pending_.size(); word++) {
    const uint64_t bits = tracker_->queued().load(word) | tracker_->kept().load(word);
    if (bits != 0) mark_pending(word, bits);
  }
}

void LiveCopy::pend_everything() {
  for (uint64_t unit = 0; unit < area_.geometry().unit_count(); unit++) {
    set_bit(changed_, unit);
    pend_unit(unit);
  }
}

void LiveCopy::doubt(Doubt what) {
  need(State::collecting);
  if (what == Doubt::everything) {
    pend_everything();
    return;
  }
  // A cut that did not come about has moved marks of `queued` to `kept`, of writes that were on their way
  // then.
  pend_submitted();
}

// Without a mark.
void LiveCopy::pend_unit(uint64_t unit) {
  const CutGeometry& geometry = area_.geometry();
  const uint64_t grains = (geometry.device_bytes + geometry.grain_bytes - 1) / geometry.grain_bytes;
  const uint64_t per_unit = geometry.unit_bytes / geometry.grain_bytes;
  const uint64_t end = std::min(grains, (unit + 1) * per_unit);
  for (uint64_t grain = unit * per_unit; grain < end;) {
    const uint64_t in_word = grain % 64;
    const uint64_t count = std::min(64 - in_word, end - grain);
    const uint64_t bits = count == 64 ? ~uint64_t{0} : ((uint64_t{1} << count) - 1) << in_word;
    pending_[grain / 64] |= bits;
    grain += count;
  }
}

// Tells take(unit, grains) of each unit that has pending grains; `grains` are theirs, as ranges.
template <class Take>
void LiveCopy::for_pending_units(Take take) const {
  const uint64_t per_unit = area_.geometry().unit_bytes / area_.geometry().grain_bytes;
  std::vector<CutRange> grains;
  uint64_t unit = ~uint64_t{0};
  const auto end_unit = [&] {
    if (!grains.empty()) take(unit, grains);
    grains.clear();
  };
  for_set_words(pending_, [&](uint64_t word) {
    for_runs(pending_[word], [&](uint64_t from, uint64_t to) {
      for (uint64_t begin = word * 64 + from, end = word * 64 + to; begin < end;) {
        if (begin / per_unit != unit) {
          end_unit();
          unit = begin / per_unit;
        }
        const uint64_t here = std::min(end, (unit + 1) * per_unit);
        add_range(grains, begin, here);
        begin = here;
      }
    });
  });
  end_unit();
}

// Pages of the area in which nothing was ever set stay without memory.
void LiveCopy::clear_pending() {
  for_set_words(pending_, [&](uint64_t word) { pending_[word] = 0; });
}

LiveCopy::Pending LiveCopy::collect() {
  need(State::collecting);
  move_marks(tracker_->done(), tracker_->kept(),
             [this](uint64_t word, uint64_t bits) { mark_pending(word, bits); });
  const CutGeometry& geometry = area_.geometry();
  Pending pending{};
  for_pending_units([&](uint64_t unit, const std::vector<CutRange>& grains) {
    uint64_t count = 0;
    for (const CutRange& range : grains) count += range.end - range.begin;
    const bool staged = has_bit(area_.staged(), unit);
    pending.grains += count;
    pending.ship_bytes += geometry.unit_bytes;
    pending.stage_bytes += staged ? 0 : geometry.unit_bytes;
    pending.read_bytes += staged ? count * geometry.grain_bytes : geometry.unit_bytes;
  });
  return pending;
}

std::vector<CutRange> LiveCopy::to_blocks(const std::vector<CutRange>& units) const {
  const uint64_t blocks = (device_->size_bytes() + options_.block_bytes - 1) / options_.block_bytes;
  const uint64_t per_unit = area_.geometry().unit_bytes / options_.block_bytes;
  std::vector<CutRange> ranges;
  for (const CutRange& range : units) {
    ranges.push_back({range.begin * per_unit, std::min(range.end * per_unit, blocks)});
  }
  return ranges;
}

std::vector<CutRange> LiveCopy::ship() {
  need(State::collecting);
  std::vector<CutRange> units;
  std::vector<uint64_t> sample;
  for_pending_units([&](uint64_t unit, const std::vector<CutRange>&) {
    if (!has_bit(changed_, unit)) {
      sample.push_back(unit);
      return;
    }
    add_range(units, unit, unit + 1);
    staging_.drop(unit);
    clear_bit(area_.staged(), unit);
  });
  clear_pending();
  for (const uint64_t unit : sample) pend_unit(unit);
  return to_blocks(units);
}

void LiveCopy::stage() {
  need(State::collecting);
  const CutGeometry& geometry = area_.geometry();
  std::vector<Read> reads;
  std::vector<uint64_t> taken;
  for_pending_units([&](uint64_t unit, const std::vector<CutRange>& grains) {
    const bool staged = has_bit(area_.staged(), unit);
    uint8_t* const slot = staging_.slot(unit);
    if (slot == nullptr) throw NativeError("out-of-memory", "more is pending than may be held in memory");
    const uint64_t begin = unit * geometry.unit_bytes;
    const uint64_t unit_end = std::min(begin + geometry.unit_bytes, geometry.device_bytes);
    if (!staged) {
      taken.push_back(unit);
      reads.push_back({begin, {slot, unit_end - begin}});
      return;
    }
    for (const CutRange& range : grains) {
      const uint64_t from = range.begin * geometry.grain_bytes;
      const uint64_t to = std::min(range.end * geometry.grain_bytes, unit_end);
      reads.push_back({from, {slot + (from - begin), to - from}});
    }
  });
  read_all(*device_, reads);
  for (const uint64_t unit : taken) set_bit(area_.staged(), unit);
  clear_pending();
}

void LiveCopy::prepare_cut(uint64_t read_bytes) {
  need(State::collecting);
  // A flush on a busy disk takes long, and others write meanwhile: about as much the next time.
  const uint64_t wanted_bytes = area_.result().wanted_bytes;
  area_.result() = {};
  area_.limit_data(std::max({kCutDataBytesMin, kCutDataTimes * read_bytes, kCutWantedTimes * wanted_bytes}));
}

std::vector<int> LiveCopy::descriptors() const {
  return {area_.fd(), tracker_->done().fd(), tracker_->queued().fd(), tracker_->kept().fd(), direct_.get()};
}

const CutResult& LiveCopy::report() {
  need(State::collecting);
  const CutResult& result = area_.result();
  // Else `pending` is the other process's: what it sets there meanwhile would be lost.
  if (result.state == CutState::complete || cut_has_ended()) {
    for_set_words(pending_, [&](uint64_t word) { mark_pending(word, pending_[word]); });
  }
  return result;
}

void LiveCopy::accept() {
  need(State::collecting);
  const CutResult& result = area_.result();
  const CutGeometry& geometry = area_.geometry();
  if (result.state != CutState::complete || result.piece_count > area_.pieces().size()) {
    throw NativeError("argument", "the cut is not complete");
  }
  state_ = State::accepted;
  const auto pieces = area_.pieces().first(result.piece_count);
  for (const CutPiece& piece : pieces) {
    for (uint64_t at = 0; at < piece.byte_length;) {
      const uint64_t offset = piece.byte_offset + at;
      const uint64_t unit = offset / geometry.unit_bytes;
      const uint64_t in_unit = offset % geometry.unit_bytes;
      const uint64_t length = std::min(piece.byte_length - at, geometry.unit_bytes - in_unit);
      uint8_t* const slot = staging_.slot(unit);
      if (slot == nullptr) throw NativeError("out-of-memory", "the cut is more than may be held in memory");
      std::memcpy(slot + in_unit, area_.data().data() + piece.data_offset + at, length);
      set_bit(area_.staged(), unit);
      at += length;
    }
  }
}

bool LiveCopy::untouched(uint64_t begin_byte, uint64_t end_byte) const {
  need(State::accepted);
  const CutGeometry& geometry = area_.geometry();
  if (begin_byte >= end_byte || end_byte > geometry.device_bytes) {
    throw NativeError("argument", "bytes that the device does not have");
  }
  for (const CutPiece& piece : area_.pieces().first(area_.result().piece_count)) {
    if (piece.byte_offset < end_byte && piece.byte_offset + piece.byte_length > begin_byte) return false;
  }
  const uint64_t last = (end_byte - 1) / geometry.grain_bytes;
  for (uint64_t grain = begin_byte / geometry.grain_bytes; grain <= last; grain++) {
    const uint64_t marks = tracker_->done().load(grain / 64) | tracker_->queued().load(grain / 64);
    if (marks == 0) {
      grain |= 63;
    } else if ((marks >> (grain % 64) & 1) != 0) {
      return false;
    }
  }
  return true;
}

std::vector<CutRange> LiveCopy::changed_blocks() const {
  need(State::accepted);
  std::vector<CutRange> units;
  const auto staged = area_.staged();
  for_set_words(staged, [&](uint64_t word) {
    for_runs(staged[word] & changed_[word],
             [&](uint64_t from, uint64_t to) { add_range(units, word * 64 + from, word * 64 + to); });
  });
  return to_blocks(units);
}

std::vector<uint64_t> LiveCopy::unchanged_sample() const {
  need(State::accepted);
  std::vector<CutRange> units;
  for (const uint64_t unit : sample_units_) {
    if (has_bit(area_.staged(), unit) && !has_bit(changed_, unit)) add_range(units, unit, unit + 1);
  }
  std::vector<uint64_t> blocks;
  for (const CutRange& range : to_blocks(units)) {
    for (uint64_t block = range.begin; block < range.end; block++) blocks.push_back(block);
  }
  return blocks;
}

void LiveCopy::read(uint64_t byte_offset, std::span<uint8_t> into) const {
  need(State::accepted);
  const CutGeometry& geometry = area_.geometry();
  for (size_t at = 0; at < into.size();) {
    const uint64_t offset = byte_offset + at;
    const uint64_t unit = offset / geometry.unit_bytes;
    const uint64_t in_unit = offset % geometry.unit_bytes;
    const size_t length = std::min<uint64_t>(into.size() - at, geometry.unit_bytes - in_unit);
    const uint8_t* const slot =
        unit < geometry.unit_count() && has_bit(area_.staged(), unit) ? staging_.find(unit) : nullptr;
    if (slot == nullptr) {
      throw NativeError("not-held", "the live copy does not hold this block", device_->path(),
                        static_cast<int64_t>(offset));
    }
    std::memcpy(into.data() + at, slot + in_unit, length);
    at += length;
  }
}

void LiveView::write(uint64_t, Bytes) {
  throw NativeError("EROFS", "a snapshot can't be written to", path());
}

void LiveView::zero(uint64_t, uint64_t) {
  throw NativeError("EROFS", "a snapshot can't be written to", path());
}

}  // namespace stillpoint
