#include "core/base/buffer_pool.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <new>

namespace stillpoint {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr bool kIsSanitized = sizeof(STILLPOINT_SANITIZER) > 1;

size_t class_of(size_t size) {
  return static_cast<size_t>(std::countr_zero(std::bit_ceil(size)) -
                             std::countr_zero(BufferPool::kPooledBytesMin));
}

void* allocate_pages(size_t size) {
  void* const memory = std::aligned_alloc(kPageBytes, (size + kPageBytes - 1) & ~(kPageBytes - 1));
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

BufferPool& BufferPool::shared() {
  static auto* const pool = new BufferPool;
  return *pool;
}

BufferPool::~BufferPool() {
  for (const auto& kept : kept_) {
    for (void* const memory : kept) std::free(memory);
  }
}

void* BufferPool::allocate(size_t size) {
  const size_t wanted = std::bit_ceil(std::max(size, kPooledBytesMin));
  const size_t index = class_of(wanted);
  if (index < kClassCount) {
    const std::lock_guard lock(mutex_);
    if (auto& kept = kept_[index]; !kept.empty()) {
      void* const memory = kept.back();
      kept.pop_back();
      kept_bytes_ -= wanted;
      return memory;
    }
  }
  return allocate_pages(wanted);
}

void BufferPool::free(void* memory, size_t size) noexcept {
  const size_t had = std::bit_ceil(std::max(size, kPooledBytesMin));
  const size_t index = class_of(had);
  if (index < kClassCount) {
    const std::lock_guard lock(mutex_);
    if (kept_bytes_ + had <= kKeptBytesMax) {
      try {
        kept_[index].push_back(memory);
        kept_bytes_ += had;
        return;
      } catch (const std::bad_alloc&) {
        // Then it is not kept.
      }
    }
  }
  std::free(memory);
}

size_t BufferPool::kept_bytes() {
  const std::lock_guard lock(mutex_);
  return kept_bytes_;
}

void* allocate_buffer(size_t size) {
  return kIsSanitized ? allocate_pages(size) : BufferPool::shared().allocate(size);
}

void free_buffer(void* memory, size_t size) noexcept {
  if (kIsSanitized) return std::free(memory);
  BufferPool::shared().free(memory, size);
}

}  // namespace stillpoint
