// Memory for buffers of megabytes, used again. The allocator gives such memory back to the kernel as soon as
// it is free, and clearing fresh pages would then cost more than the work on the buffer.
#pragma once

#include <array>
#include <cstddef>
#include <mutex>
#include <vector>

namespace stillpoint {

class BufferPool {
 public:
  // Smaller ones are the allocator's business.
  static constexpr size_t kPooledBytesMin = size_t{128} << 10;
  // Of unused memory that is kept.
  static constexpr size_t kKeptBytesMax = size_t{32} << 20;

  // The process's own; lives as long as it.
  static BufferPool& shared();

  BufferPool() = default;
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;
  ~BufferPool();

  // Page-aligned, contents undefined. std::bad_alloc. From any thread.
  void* allocate(size_t size);
  // `size` as it was asked for.
  void free(void* memory, size_t size) noexcept;
  size_t kept_bytes();

 private:
  // Of powers of two from kPooledBytesMin on.
  static constexpr size_t kClassCount = 8;

  std::mutex mutex_;
  size_t kept_bytes_ = 0;
  std::array<std::vector<void*>, kClassCount> kept_;
};

// From the process's pool, but for builds with a sanitizer: what is used again is hidden from it.
void* allocate_buffer(size_t size);
void free_buffer(void* memory, size_t size) noexcept;

}  // namespace stillpoint
