#include "core/snapshot.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "core/aligned_buffer.h"
#include "core/error.h"

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
      done_(geometry.block_count()),
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

bool Snapshot::must_preserve(uint64_t begin, uint64_t end) const {
  for (uint64_t block = begin; block < end; block++) {
    if (must_preserve(block)) return true;
  }
  return false;
}

Snapshot::Preserved Snapshot::preserve(uint64_t begin, uint64_t end) {
  for (uint64_t block = begin; block < end; block++) {
    if (!preserve_one(block)) return Preserved::no_room;
  }
  return Preserved::yes;
}

// One block at a time: nobody holds one while waiting for another.
bool Snapshot::preserve_one(uint64_t block_index) {
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return busy_.count(block_index) == 0; });
    if (!must_preserve(block_index)) return true;
    if (throttle_ && !area_->has_room()) return false;
    busy_.insert(block_index);
  }
  store_original(block_index);
  {
    std::lock_guard lock(mutex_);
    busy_.erase(block_index);
  }
  changed_.notify_all();
  // With throttle, another writer may have taken the last slot.
  return !must_preserve(block_index);
}

void Snapshot::store_original(uint64_t block_index) {
  try {
    const AlignedBuffer buffer(geometry_.block_size);
    const auto original = buffer.first(geometry_.block_length(block_index));
    const uint64_t byte_offset = block_index * geometry_.block_size;
    if (const int error = device_->read(byte_offset, original, Patience::may_wait); error != 0) {
      invalidate("the original of byte " + std::to_string(byte_offset) +
                 " could not be read: " + describe_errno(error));
      return;
    }
    const int error = area_->store(block_index, original);
    if (error == PreserveArea::kFull && throttle_) return;
    if (error == PreserveArea::kFull) {
      invalidate("the preserve area of " + std::to_string(area_->bytes_max()) + " bytes is full");
    } else if (error != 0) {
      invalidate("the preserve area could not be written: " + describe_errno(error));
    } else {
      done_.mark(block_index, block_index + 1);
      if (released_.test(block_index)) area_->release(block_index);
    }
  } catch (const std::bad_alloc&) {
    invalidate("there is no memory to preserve a block");
  }
}

void Snapshot::wait_for_room() {
  std::unique_lock lock(mutex_);
  for (;;) {
    const uint64_t releases = release_count_;
    const auto changed = [&] {
      return state_ != State::held || area_->has_room() || release_count_ != releases;
    };
    if (!changed_.wait_for(lock, throttle_patience_, changed)) {
      lock.unlock();
      invalidate("writes waited for room in the preserve area, and the session did not go on");
      return;
    }
    if (state_ != State::held || area_->has_room()) return;
  }
}

// ---- the session ----

// After the device was looked at: whoever has changed it without preserving has found the state changed
// before.
int Snapshot::still_held() const { return state_ == State::held ? 0 : ESHUTDOWN; }

int Snapshot::load(uint64_t block_index, uint64_t byte_offset, std::span<uint8_t> into) {
  const int error =
      area_->load(block_index, static_cast<uint32_t>(byte_offset - block_index * geometry_.block_size), into);
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
  return error != 0 ? error : still_held();
}

int Snapshot::read_original(uint64_t byte_offset, std::span<uint8_t> into) {
  const uint64_t end = byte_offset + into.size();
  const auto block_of = [&](uint64_t at) { return at / geometry_.block_size; };
  const auto end_of = [&](uint64_t block) { return std::min(end, (block + 1) * geometry_.block_size); };
  const auto part = [&](uint64_t from, uint64_t to) { return into.subspan(from - byte_offset, to - from); };
  for (uint64_t at = byte_offset; at < end;) {
    if (done_.test(block_of(at))) {
      const uint64_t to = end_of(block_of(at));
      if (const int error = load(block_of(at), at, part(at, to)); error != 0) return error;
      at = to;
      continue;
    }
    uint64_t to = end_of(block_of(at));
    while (to < end && !done_.test(block_of(to))) to = end_of(block_of(to));
    if (const int error = device_->read(at, part(at, to), Patience::may_wait); error != 0) return error;
    // What a writer has preserved meanwhile it may have overwritten before it was read here.
    while (at < to) {
      const uint64_t block_end = end_of(block_of(at));
      if (done_.test(block_of(at))) {
        if (const int error = load(block_of(at), at, part(at, block_end)); error != 0) return error;
      }
      at = block_end;
    }
  }
  return 0;
}

void Snapshot::release(uint64_t byte_offset, uint64_t byte_length) {
  const uint64_t end = byte_offset + byte_length;
  uint64_t block = (byte_offset + geometry_.block_size - 1) / geometry_.block_size;
  for (; block < geometry_.block_count(); block++) {
    if (block * geometry_.block_size + geometry_.block_length(block) > end) break;
    released_.mark(block, block + 1);
    done_.mark(block, block + 1);
    area_->release(block);
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
    const uint64_t end_block = (end - 1) / geometry_.block_size + 1;
    while (at < end) {
      const uint64_t block = at / geometry_.block_size;
      const bool preserved = extent.flags != 0 && done_.test(block);
      const uint64_t next = extent.flags == 0 ? end_block
                            : preserved       ? done_.next_clear(block, end_block)
                                              : done_.next_set(block, end_block);
      const uint64_t to = std::min(end, next * geometry_.block_size);
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
