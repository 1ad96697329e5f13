#include "core/tap/snapshot/snapshot.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "core/base/aligned_buffer.h"
#include "core/base/error.h"

namespace stillpoint {

Snapshot::Snapshot(const TreeGeometry& geometry, std::shared_ptr<NbdExport> device, const BlockMap& backup,
                   const BlockMap& cut, std::unique_ptr<PreserveArea> area, const Options& options)
    : geometry_(geometry),
      device_(std::move(device)),
      backup_(backup),
      cut_(cut),
      area_(std::move(area)),
      session_id_(options.session_id),
      group_blocks_(options.group_blocks),
      full_(options.full),
      throttle_(options.throttle),
      throttle_patience_(options.throttle_patience),
      sample_(geometry.block_count()),
      done_((geometry.size_bytes + kCellBytes - 1) / kCellBytes),
      released_(geometry.block_count()) {
  for (const uint64_t block : options.sample) sample_.mark(block, block + 1);
}

bool Snapshot::names(uint64_t block_index) const {
  return full_ || cut_.test(block_index) || backup_.test(block_index);
}

bool Snapshot::needed(uint64_t block_index) const {
  if (state_ != State::held) return false;
  if (names(block_index) || sample_.test(block_index)) return true;
  if (group_blocks_ == 1) return false;
  const uint64_t begin = block_index / group_blocks_ * group_blocks_;
  const uint64_t end = std::min(geometry_.block_count(), begin + group_blocks_);
  return cut_.any(begin, end) || backup_.any(begin, end) || sample_.any(begin, end);
}

// ---- writers ----

Snapshot::Cells Snapshot::cells_of(uint64_t byte_offset, uint64_t byte_end) const {
  return {byte_offset / kCellBytes, (byte_end + kCellBytes - 1) / kCellBytes};
}

uint64_t Snapshot::cell_offset(uint64_t cell) const {
  return std::min(cell * kCellBytes, geometry_.size_bytes);
}

bool Snapshot::must_preserve(uint64_t block_index, const Cells& cells) const {
  return needed(block_index) && !released_.test(block_index) &&
         done_.next_clear(cells.begin, cells.end) < cells.end;
}

bool Snapshot::must_preserve(uint64_t byte_offset, uint64_t byte_length) const {
  const uint64_t end = byte_offset + byte_length;
  for (uint64_t at = byte_offset; at < end;) {
    const uint64_t block = block_of(at);
    const uint64_t to = std::min(end, (block + 1) * geometry_.block_size);
    if (must_preserve(block, cells_of(at, to))) return true;
    at = to;
  }
  return false;
}

Snapshot::Preserved Snapshot::preserve(uint64_t byte_offset, uint64_t byte_length, Patience patience) {
  if (patience == Patience::immediate && byte_length > QuickIo::kBytesMax)
    return must_preserve(byte_offset, byte_length) ? Preserved::would_wait : Preserved::yes;
  const uint64_t end = byte_offset + byte_length;
  for (uint64_t at = byte_offset; at < end;) {
    const uint64_t block = block_of(at);
    const uint64_t to = std::min(end, (block + 1) * geometry_.block_size);
    const Preserved preserved = preserve_in_block(block, cells_of(at, to), patience);
    if (preserved != Preserved::yes) return preserved;
    at = to;
  }
  return Preserved::yes;
}

// One block at a time: nobody holds one while waiting for another.
Snapshot::Preserved Snapshot::preserve_in_block(uint64_t block_index, const Cells& cells, Patience patience) {
  if (!must_preserve(block_index, cells)) return Preserved::yes;
  {
    std::unique_lock lock(mutex_);
    const auto is_free = [&] { return busy_.count(block_index) == 0; };
    if (patience == Patience::may_wait) changed_.wait(lock, is_free);
    if (!must_preserve(block_index, cells)) return Preserved::yes;
    if (!is_free()) return Preserved::would_wait;
    busy_.insert(block_index);
  }
  const Preserved preserved = store_originals(block_index, cells, patience);
  {
    std::lock_guard lock(mutex_);
    busy_.erase(block_index);
  }
  changed_.notify_all();
  return preserved;
}

Snapshot::Preserved Snapshot::store_originals(uint64_t block_index, const Cells& cells, Patience patience) {
  try {
    for (uint64_t begin = done_.next_clear(cells.begin, cells.end); begin < cells.end;) {
      const uint64_t end = done_.next_set(begin, cells.end);
      const uint64_t byte_offset = cell_offset(begin);
      const AlignedBuffer buffer(cell_offset(end) - byte_offset);
      const auto original = buffer.first(cell_offset(end) - byte_offset);
      const int read_error = device_->read(byte_offset, original, patience);
      if (read_error == kWouldWait) return Preserved::would_wait;
      if (read_error != 0) {
        invalidate("the original of byte " + std::to_string(byte_offset) +
                   " could not be read: " + describe_failure(read_error));
        return Preserved::yes;
      }
      const int error = area_->store(byte_offset, original, patience);
      if (error == kWouldWait) return Preserved::would_wait;
      if (error == PreserveArea::kFull && throttle_) return Preserved::no_room;
      if (error != 0) {
        invalidate(error == PreserveArea::kFull
                       ? "the preserve area of " + std::to_string(area_->bytes_max()) + " bytes is full"
                       : "the preserve area could not be written: " + describe_errno(error));
        return Preserved::yes;
      }
      std::unique_lock lock(mutex_);
      if (released_.test(block_index)) {
        lock.unlock();
        area_->release(byte_offset, original.size(), original.size());
        return Preserved::yes;
      }
      done_.mark(begin, end);
      begin = done_.next_clear(end, cells.end);
    }
  } catch (const std::bad_alloc&) {
    invalidate("there is no memory to preserve a block");
  }
  return Preserved::yes;
}

void Snapshot::wait_for_room() {
  {
    std::unique_lock lock(mutex_);
    const uint64_t releases = release_count_;
    const auto changed = [&] {
      return state_ != State::held || area_->has_room(geometry_.block_size) || release_count_ != releases;
    };
    if (changed_.wait_for(lock, throttle_patience_, changed)) return;
  }
  invalidate("writes waited for room in the preserve area, and the session did not go on");
}

// ---- the session ----

// After the device was looked at: whoever has changed it without preserving has found the state changed
// before.
int Snapshot::still_held() const { return state_ == State::held ? 0 : ESHUTDOWN; }

int Snapshot::load(uint64_t byte_offset, std::span<uint8_t> into) {
  const int error = area_->load(byte_offset, into);
  if (error != 0 && error != ESHUTDOWN)
    invalidate("the preserve area could not be read: " + describe_errno(error));
  return error == 0 ? 0 : ESHUTDOWN;
}

int Snapshot::read(uint64_t byte_offset, std::span<uint8_t> into) {
  const uint64_t end = byte_offset + into.size();
  for (uint64_t block = byte_offset / geometry_.block_size; block * geometry_.block_size < end; block++) {
    if (!needed(block) || released_.test(block)) return ESHUTDOWN;
  }
  const int error = read_original(byte_offset, into);
  // Not a bad sector, in whose place something could be put.
  if (error == kPastEnd) invalidate("the device ends before byte " + std::to_string(end) + " now");
  return error != 0 && error != kPastEnd ? error : still_held();
}

int Snapshot::read_original(uint64_t byte_offset, std::span<uint8_t> into) {
  const uint64_t end = byte_offset + into.size();
  const Cells all = cells_of(byte_offset, end);
  const auto part = [&](uint64_t from, uint64_t to) {
    from = std::max(from, byte_offset);
    return into.subspan(from - byte_offset, std::min(to, end) - from);
  };
  // Loads the preserved cells among these.
  const auto load_done = [&](uint64_t cell, uint64_t cells_end) {
    for (uint64_t begin = done_.next_set(cell, cells_end); begin < cells_end;) {
      const uint64_t run_end = done_.next_clear(begin, cells_end);
      const uint64_t from = std::max(cell_offset(begin), byte_offset);
      if (const int error = load(from, part(from, cell_offset(run_end))); error != 0) return error;
      begin = done_.next_set(run_end, cells_end);
    }
    return 0;
  };
  for (uint64_t cell = all.begin; cell < all.end;) {
    const uint64_t run_end = done_.next_set(cell, all.end);
    if (run_end > cell) {
      const uint64_t from = std::max(cell_offset(cell), byte_offset);
      const int error = device_->read(from, part(from, cell_offset(run_end)), Patience::may_wait);
      if (error != 0) return error;
      // What a writer has preserved meanwhile it may have overwritten before it was read here.
      if (const int load_error = load_done(cell, run_end); load_error != 0) return load_error;
      cell = run_end;
    }
    const uint64_t done_end = done_.next_clear(cell, all.end);
    if (const int error = load_done(cell, done_end); error != 0) return error;
    cell = done_end;
  }
  return 0;
}

void Snapshot::release(uint64_t byte_offset, uint64_t byte_length) {
  const uint64_t end = byte_offset + byte_length;
  uint64_t block = (byte_offset + geometry_.block_size - 1) / geometry_.block_size;
  for (; block < geometry_.block_count(); block++) {
    const uint64_t begin = block * geometry_.block_size;
    const uint32_t length = geometry_.block_length(block);
    if (begin + length > end) break;
    const Cells cells = cells_of(begin, begin + length);
    uint64_t stored = 0;
    {
      std::lock_guard lock(mutex_);
      if (released_.test(block)) continue;
      released_.mark(block, block + 1);
      for (uint64_t cell = done_.next_set(cells.begin, cells.end); cell < cells.end;
           cell = done_.next_set(cell + 1, cells.end))
        stored += cell_offset(cell + 1) - cell_offset(cell);
    }
    area_->release(begin, length, stored);
  }
  {
    std::lock_guard lock(mutex_);
    release_count_++;
  }
  changed_.notify_all();
}

int Snapshot::allocation(uint64_t byte_offset, uint64_t byte_length, size_t extents_max,
                         std::vector<NbdExtent>& extents) {
  // The device first: what has become a hole since the instant was preserved before.
  std::vector<NbdExtent> now;
  if (const int error = device_->block_status(0, byte_offset, byte_length, extents_max, now); error != 0)
    return error;
  const auto append = [&](uint64_t length, uint32_t flags) {
    if (!extents.empty() && extents.back().flags == flags) {
      extents.back().byte_length += length;
    } else {
      extents.push_back({length, flags});
    }
  };
  uint64_t at = byte_offset;
  for (const NbdExtent& extent : now) {
    const uint64_t end = at + extent.byte_length;
    const uint64_t end_cell = cells_of(at, end).end;
    while (at < end) {
      const uint64_t cell = at / kCellBytes;
      const bool preserved = extent.flags != 0 && done_.test(cell);
      const uint64_t next = extent.flags == 0 ? end_cell
                            : preserved       ? done_.next_clear(cell, end_cell)
                                              : done_.next_set(cell, end_cell);
      const uint64_t to = std::min(end, next * kCellBytes);
      append(to - at, preserved ? 0 : extent.flags);
      at = to;
      if (extents.size() >= extents_max) return still_held();
    }
  }
  return still_held();
}

int Snapshot::changed(uint64_t byte_offset, uint64_t byte_length, size_t extents_max,
                      std::vector<NbdExtent>& extents) {
  const uint64_t end = byte_offset + byte_length;
  const uint64_t end_block = (end - 1) / geometry_.block_size + 1;
  for (uint64_t at = byte_offset; at < end && extents.size() < extents_max;) {
    const uint64_t block = at / geometry_.block_size;
    const bool is_named = names(block);
    uint64_t next = end_block;
    if (!full_ && is_named) {
      next = std::max(cut_.next_clear(block, end_block), backup_.next_clear(block, end_block));
    } else if (!full_) {
      next = cut_.next_set(block, backup_.next_set(block, end_block));
    }
    const uint64_t to = std::min(end, next * geometry_.block_size);
    if (!extents.empty() && extents.back().flags == (is_named ? 1u : 0u)) {
      extents.back().byte_length += to - at;
    } else {
      extents.push_back({to - at, is_named ? 1u : 0u});
    }
    at = to;
  }
  return still_held();
}

void Snapshot::invalidate(const std::string& reason) {
  {
    std::lock_guard lock(mutex_);
    State held = State::held;
    if (!state_.compare_exchange_strong(held, State::invalid)) return;
    reason_ = reason;
  }
  area_->abandon();
  changed_.notify_all();
}

void Snapshot::end() {
  {
    std::lock_guard lock(mutex_);
    state_ = State::ended;
  }
  area_->abandon();
  area_->give_back();
  changed_.notify_all();
}

// What is needed is settled at the instant: counted once, since on a large device that takes a while.
uint64_t Snapshot::needed_blocks() const {
  if (full_) return geometry_.block_count();
  std::call_once(needed_counted_, [this] {
    for (uint64_t i = 0; i < backup_.word_count(); i++) {
      const uint64_t bits = backup_.word(i) | cut_.word(i) | sample_.word(i);
      if (bits != 0) needed_blocks_ += static_cast<uint64_t>(std::popcount(bits));
    }
    // At most: each may be in a group of its own.
    needed_blocks_ = std::min(geometry_.block_count(), needed_blocks_ * group_blocks_);
  });
  return needed_blocks_;
}

Snapshot::Status Snapshot::status() const {
  const uint64_t needed = needed_blocks();
  const uint64_t preserved_bytes = area_->used_bytes();
  std::lock_guard lock(mutex_);
  return {session_id_, state_, reason_, needed, preserved_bytes, area_->bytes_max()};
}

}  // namespace stillpoint
