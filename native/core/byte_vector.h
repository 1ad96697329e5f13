// A vector of bytes that are not zeroed first: for results of megabytes that are written right away.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace stillpoint {

template <class T>
struct UninitializedAllocator : std::allocator<T> {
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
