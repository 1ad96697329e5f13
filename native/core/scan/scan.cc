#include "core/scan/scan.h"

#include <algorithm>
#include <cstring>
#include <future>

#include "core/base/aligned_buffer.h"
#include "core/base/error.h"
#include "core/codec/patch.h"
#include "core/scan/reader.h"

namespace stillpoint {
namespace {

// A chunk fits into one batch, patched or not.
static_assert(Scan::kChunkBytesMax <= kPatchedBytesMax);

// Large enough for a disk, small enough that the bytes are still in the second-level cache when they are
// digested.
constexpr uint64_t kSegmentBytes = uint64_t{1} << 20;
// Segments between the oldest that is being read (and maybe retried for minutes) and the newest.
constexpr uint64_t kSegmentsAheadMax = 64;
constexpr size_t kReadyChunksMax = 16;

uint64_t segment_bytes_for(const ScanOptions& options) {
  return std::max<uint64_t>(kSegmentBytes, options.base->geometry().block_size);
}

void check_ranges(const std::vector<BlockRange>& ranges, uint64_t block_count) {
  uint64_t end = 0;
  for (const BlockRange& range : ranges) {
    if (range.begin < end || range.end <= range.begin || range.end > block_count) {
      throw NativeError("argument", "ranges: expected ascending, non-empty ranges below block " +
                                        std::to_string(block_count));
    }
    end = range.end;
  }
}

std::exception_ptr cancelled() {
  return std::make_exception_ptr(NativeError("cancelled", "the scan was cancelled"));
}

}  // namespace

Scan::Scan(ScanOptions options, std::function<void()> on_stopped)
    : options_(std::move(options)),
      geometry_(options_.base->geometry()),
      segment_bytes_(segment_bytes_for(options_)),
      // The open chunk may hold twice chunk_bytes (hold_changed) and a segment while one more is claimed: so
      // there is always progress.
      memory_bytes_(std::max(options_.memory_bytes, 4 * segment_bytes_)),
      known_(*options_.base, options_.overlay.get()),
      cursor_(*options_.device, known_, geometry_, options_.ranges, segment_bytes_),
      assembler_(std::min({options_.chunk_bytes, memory_bytes_ / 4, kChunkBytesMax})),
      on_stopped_(std::move(on_stopped)) {
  if (geometry_.size_bytes != options_.device->size_bytes()) {
    throw NativeError("geometry-mismatch",
                      "the device has " + std::to_string(options_.device->size_bytes()) +
                          " bytes, its tree " + std::to_string(geometry_.size_bytes),
                      options_.device->path());
  }
  if (options_.overlay && options_.overlay->geometry() != geometry_) {
    throw NativeError("geometry-mismatch", "the overlay's geometry is not the tree's",
                      options_.overlay->path());
  }
  check_ranges(options_.ranges, geometry_.block_count());
  running_readers_ = std::clamp(options_.readers, 1u, kReadersMax);
  const unsigned count = running_readers_;
  readers_.reserve(count);
  for (unsigned i = 0; i < count; i++) {
    try {
      readers_.emplace_back([this] { run_reader(); });
    } catch (const std::system_error&) {
      // Fewer threads do as well; none don't.
      if (i == 0) throw NativeError("EAGAIN", "no thread could be started");
      for (unsigned missing = i; missing < count; missing++) reader_ended();
      break;
    }
  }
}

Scan::~Scan() {
  cancel();
  for (std::thread& reader : readers_) reader.join();
}

void Scan::run_reader() {
  try {
    AlignedBuffer buffer;  // taken away with the bytes in it, if most of them changed
    bool expects_no_change = true;
    while (const std::optional<Segment> segment = claim()) {
      ScannedSegment result =
          segment->hole ? process_hole(*segment) : process(*segment, buffer, expects_no_change);
      const uint64_t begin = segment->begin * geometry_.block_size;
      const uint64_t end = std::min(segment->end * geometry_.block_size, geometry_.size_bytes);
      // A scan for digests is followed by one that ships what differs.
      if (!options_.digest_only) options_.device->done_with(begin, end - begin);
      deliver(*segment, std::move(result));
    }
  } catch (...) {
    fail(std::current_exception());
  }
  reader_ended();
}

std::optional<Segment> Scan::claim() {
  std::vector<Delivery> deliveries;
  std::optional<Segment> segment;
  {
    std::unique_lock lock(budget_->mutex);
    budget_->changed.wait(lock, [this] {
      return stopping_ || exhausted_ ||
             (budget_->used_bytes + segment_bytes_ <= memory_bytes_ && ready_.size() < kReadyChunksMax &&
              next_claim_ - next_deliver_ < kSegmentsAheadMax);
    });
    if (stopping_ || exhausted_) return std::nullopt;
    uint64_t skipped_blocks = 0;
    segment = cursor_.next(skipped_blocks);
    zero_blocks_ += skipped_blocks;
    scanned_bytes_ += skipped_blocks * geometry_.block_size;
    if (segment) {
      next_claim_++;
      if (!segment->hole) budget_->used_bytes += segment_bytes_;
      return segment;
    }
    exhausted_ = true;
    end_if_complete();
    deliveries = match_waiters();
  }
  budget_->changed.notify_all();
  for (Delivery& delivery : deliveries) delivery.callback(std::move(delivery.chunk), delivery.failure);
  return std::nullopt;
}

ScannedSegment Scan::process_hole(const Segment& segment) {
  ScannedSegment result;
  const Digester& digester = options_.base->digester();
  for (uint64_t at = segment.begin; (at = known_.next_non_null(at, segment.end)) < segment.end;) {
    const uint64_t end = known_.next_null(at, segment.end);
    result.entries.push_back(
        {at, static_cast<uint32_t>(end - at), digester.zero_digest(geometry_.block_size), {}});
    changed_blocks_ += end - at;
    at = end;
  }
  zero_blocks_ += segment.end - segment.begin;
  scanned_bytes_ += std::min(segment.end * geometry_.block_size, geometry_.size_bytes) -
                    segment.begin * geometry_.block_size;
  put_overlay(result.entries);
  if (options_.digest_only) result.entries.clear();
  return result;
}

// A segment that looks unchanged where it lies in the page cache need not be copied. Anything else is read:
// what is kept must be bytes that nobody else can change between their digest and their shipping.
bool Scan::is_unchanged_in_place(const Segment& segment, const std::vector<Digest>& known) {
  const uint64_t begin = segment.begin * geometry_.block_size;
  const uint64_t end = std::min(segment.end * geometry_.block_size, geometry_.size_bytes);
  bool unchanged = false;
  uint64_t zero_blocks = 0;
  const Digester& digester = options_.base->digester();
  const bool looked = options_.device->look_at_cached(begin, end - begin, [&](Bytes bytes) {
    for (size_t i = 0; i < known.size(); i++) {
      const size_t at = i * geometry_.block_size;
      const size_t length = std::min<size_t>(geometry_.block_size, bytes.size() - at);
      if (digester.leaf_digest(bytes.subspan(at, length)) != known[i]) return;
      if (is_null(known[i])) zero_blocks++;
    }
    unchanged = true;
  });
  if (!looked || !unchanged) return false;
  read_bytes_ += end - begin;
  scanned_bytes_ += end - begin;
  zero_blocks_ += zero_blocks;
  return true;
}

// `expects_no_change` is the reader's guess for its next segment.
ScannedSegment Scan::process(const Segment& segment, AlignedBuffer& buffer, bool& expects_no_change) {
  ScannedSegment result;
  std::vector<Digest> known(segment.end - segment.begin);
  known_.read(segment.begin, known.size(), known.data());
  if (expects_no_change && is_unchanged_in_place(segment, known)) {
    hold_changed(result, buffer);
    return result;
  }

  if (buffer.size() == 0) buffer = AlignedBuffer(segment_bytes_);
  const uint64_t byte_offset = segment.begin * geometry_.block_size;
  const auto bytes = buffer.first(std::min<uint64_t>((segment.end - segment.begin) * geometry_.block_size,
                                                     geometry_.size_bytes - byte_offset));
  const std::vector<ByteRange> bad =
      read_what_is_readable(*options_.device, byte_offset, bytes, options_.read_retries, stopping_);
  read_bytes_ += bytes.size();

  const Digester& digester = options_.base->digester();
  auto next_bad = bad.begin();
  for (uint64_t block = segment.begin; block < segment.end; block++) {
    const uint64_t begin = block * geometry_.block_size;
    const Bytes content = bytes.subspan(begin - byte_offset, geometry_.block_length(block));
    const uint64_t end = begin + content.size();
    if (next_bad != bad.end() && next_bad->byte_offset < end) {
      BadBlock& bad_block = result.bad_blocks.emplace_back(BadBlock{block, content, {}});
      for (auto at = next_bad; at != bad.end() && at->byte_offset < end; at++) {
        const uint64_t from = std::max(begin, at->byte_offset);
        const uint64_t to = std::min(end, at->byte_offset + at->byte_length);
        bad_block.bad_ranges.push_back({from, to - from});
        bad_bytes_ += to - from;
        if (to == at->byte_offset + at->byte_length) next_bad = at + 1;
      }
      continue;
    }
    const Digest digest = digester.leaf_digest(content);
    const bool zero = is_null(digest);
    if (zero) zero_blocks_++;
    if (digest == known[block - segment.begin]) continue;
    changed_blocks_++;
    if (!zero && known_.has_content_of(block)) again_bytes_ += content.size();
    ScanEntry* const last = result.entries.empty() ? nullptr : &result.entries.back();
    if (zero && last != nullptr && is_null(last->digest) && last->block_index + last->block_count == block) {
      last->block_count++;
    } else {
      result.entries.push_back({block, 1, digest, zero ? Bytes{} : content});
    }
  }
  scanned_bytes_ += bytes.size();
  expects_no_change = result.entries.empty() && result.bad_blocks.empty();
  put_overlay(result.entries);
  if (options_.digest_only) result.entries.clear();
  hold_changed(result, buffer);
  return result;
}

// Keeps the reader's buffer if most of it changed; else copies what is kept out of it and gives back what the
// segment had reserved beyond that.
void Scan::hold_changed(ScannedSegment& result, AlignedBuffer& buffer) {
  uint64_t size = 0;
  for (const ScanEntry& entry : result.entries) size += entry.bytes.size();
  for (const BadBlock& bad : result.bad_blocks) size += bad.bytes.size();
  if (size >= segment_bytes_ / 2) {
    result.held = std::make_shared<HeldBytes>(budget_, std::exchange(buffer, {}), segment_bytes_);
    return;
  }
  {
    std::lock_guard lock(budget_->mutex);
    budget_->used_bytes -= segment_bytes_ - size;
  }
  budget_->changed.notify_all();
  if (size == 0) return;
  result.held = std::make_shared<HeldBytes>(budget_, AlignedBuffer(size), size);
  uint8_t* to = result.held->data();
  const auto keep = [&to](Bytes& bytes) {
    if (bytes.empty()) return;
    std::memcpy(to, bytes.data(), bytes.size());
    bytes = {to, bytes.size()};
    to += bytes.size();
  };
  for (ScanEntry& entry : result.entries) keep(entry.bytes);
  for (BadBlock& bad : result.bad_blocks) keep(bad.bytes);
}

void Scan::put_overlay(const std::vector<ScanEntry>& entries) {
  if (!options_.overlay) return;
  // Neighbours go together: each put is a write.
  std::vector<Digest> run;
  uint64_t run_begin = 0;
  const auto put_run = [&] {
    if (!run.empty()) options_.overlay->put(run_begin, run.data(), run.size());
    run.clear();
  };
  for (const ScanEntry& entry : entries) {
    if (is_null(entry.digest)) {
      options_.overlay->put_zeros(entry.block_index, entry.block_count);
      continue;
    }
    if (run_begin + run.size() != entry.block_index) put_run();
    if (run.empty()) run_begin = entry.block_index;
    run.push_back(entry.digest);
  }
  put_run();
}

void Scan::deliver(const Segment& segment, ScannedSegment result) {
  std::vector<Delivery> deliveries;
  ScannedSegment dropped;  // outlives the lock
  {
    std::lock_guard lock(budget_->mutex);
    if (stopping_) {
      dropped = std::move(result);
      return;
    }
    delivered_.emplace(segment.sequence, std::move(result));
    while (!delivered_.empty() && delivered_.begin()->first == next_deliver_) {
      assembler_.append(std::move(delivered_.begin()->second), ready_);
      delivered_.erase(delivered_.begin());
      next_deliver_++;
    }
    end_if_complete();
    deliveries = match_waiters();
  }
  budget_->changed.notify_all();
  for (Delivery& delivery : deliveries) delivery.callback(std::move(delivery.chunk), delivery.failure);
}

void Scan::end_if_complete() {
  if (!exhausted_ || next_deliver_ != next_claim_ || ended_) return;
  assembler_.close_chunk(ready_);
  ended_ = true;
}

std::vector<Scan::Delivery> Scan::match_waiters() {
  std::vector<Delivery> deliveries;
  while (!waiters_.empty() && (failure_ || !ready_.empty() || ended_)) {
    Delivery delivery{std::move(waiters_.front()), nullptr, failure_};
    waiters_.pop_front();
    if (!failure_ && !ready_.empty()) {
      delivery.chunk = std::move(ready_.front());
      ready_.pop_front();
    }
    deliveries.push_back(std::move(delivery));
  }
  return deliveries;
}

void Scan::next(NextCallback callback) {
  std::vector<Delivery> deliveries;
  {
    std::lock_guard lock(budget_->mutex);
    waiters_.push_back(std::move(callback));
    deliveries = match_waiters();
  }
  budget_->changed.notify_all();
  for (Delivery& delivery : deliveries) delivery.callback(std::move(delivery.chunk), delivery.failure);
}

std::shared_ptr<ScanChunk> Scan::next() {
  std::promise<std::shared_ptr<ScanChunk>> promise;
  next([&promise](std::shared_ptr<ScanChunk> chunk, const std::exception_ptr& failure) {
    if (failure) {
      promise.set_exception(failure);
    } else {
      promise.set_value(std::move(chunk));
    }
  });
  return promise.get_future().get();
}

ScanProgress Scan::progress() const {
  // Skipped blocks are counted as whole ones, and the last may be short.
  return {std::min<uint64_t>(scanned_bytes_, geometry_.size_bytes),
          read_bytes_,
          changed_blocks_,
          again_bytes_,
          zero_blocks_,
          bad_bytes_};
}

void Scan::cancel() { fail(cancelled()); }

void Scan::fail(const std::exception_ptr& failure) {
  std::vector<Delivery> deliveries;
  // Destroyed after the lock is gone: held bytes take it.
  std::map<uint64_t, ScannedSegment> delivered;
  std::deque<std::shared_ptr<ScanChunk>> ready;
  ChunkAssembler assembler(0);
  {
    std::lock_guard lock(budget_->mutex);
    if (!failure_) failure_ = failure;
    stopping_ = true;
    delivered.swap(delivered_);
    ready.swap(ready_);
    std::swap(assembler, assembler_);
    deliveries = match_waiters();
  }
  budget_->changed.notify_all();
  for (Delivery& delivery : deliveries) delivery.callback(nullptr, delivery.failure);
}

void Scan::reader_ended() {
  {
    std::lock_guard lock(budget_->mutex);
    if (--running_readers_ > 0) return;
  }
  // The last one: nobody else looks at these any more.
  options_.device.reset();
  options_.base.reset();
  options_.overlay.reset();
  if (on_stopped_) on_stopped_();
}

}  // namespace stillpoint
