// A vector of bytes that are not zeroed first, for results of megabytes that are written right away.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "core/base/buffer_pool.h"

namespace stillpoint {

template <class T>
struct UninitializedAllocator : std::allocator<T> {
  T* allocate(size_t count) {
    const size_t size = count * sizeof(T);
    return size < BufferPool::kPooledBytesMin ? std::allocator<T>::allocate(count)
                                              : static_cast<T*>(allocate_buffer(size));
  }
  void deallocate(T* memory, size_t count) noexcept {
    const size_t size = count * sizeof(T);
    if (size < BufferPool::kPooledBytesMin) return std::allocator<T>::deallocate(memory, count);
    free_buffer(memory, size);
  }
  template <class U>
  struct rebind {
    using other = UninitializedAllocator<U>;
  };
  template <class U>
  void construct(U* at) noexcept {
    ::new (static_cast<void*>(at)) U;  // no value: contents are undefined
  }
  template <class U, class... Args>
  void construct(U* at, Args&&... args) {
    std::construct_at(at, std::forward<Args>(args)...);
  }
};

// resize() and the constructor with a size leave the new bytes undefined.
using ByteVector = std::vector<uint8_t, UninitializedAllocator<uint8_t>>;

}  // namespace stillpoint
