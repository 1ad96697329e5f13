// Memory that O_DIRECT accepts on every device: aligned to a page, its size rounded up to whole pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <span>
#include <utility>

#include "core/base/buffer_pool.h"

namespace stillpoint {

class AlignedBuffer {
 public:
  static constexpr size_t kAlignment = 4096;

  AlignedBuffer() = default;
  // Contents are undefined.
  explicit AlignedBuffer(size_t size) : size_((size + kAlignment - 1) & ~(kAlignment - 1)) {
    if (size_ == 0) return;
    if (size_ >= BufferPool::kPooledBytesMin) {
      data_ = static_cast<uint8_t*>(allocate_buffer(size_));
    } else {
      data_ = static_cast<uint8_t*>(std::aligned_alloc(kAlignment, size_));
      if (data_ == nullptr) throw std::bad_alloc();
    }
  }
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer() {
    if (size_ < BufferPool::kPooledBytesMin) {
      std::free(data_);
    } else {
      free_buffer(data_, size_);
    }
  }

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  std::span<uint8_t> first(size_t count) const { return std::span(data_, size_).first(count); }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace stillpoint
