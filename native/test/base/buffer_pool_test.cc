#include "core/base/buffer_pool.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <thread>

#include "core/base/byte_vector.h"
#include "test/helpers/helpers.h"

using namespace stillpoint;
using namespace stillpoint::test;

TEST_CASE("a buffer is used again for sizes of its class, and no more is kept than the bound") {
  BufferPool pool;
  void* const first = pool.allocate(1'000'000);
  CHECK(reinterpret_cast<uintptr_t>(first) % 4096 == 0);
  std::memset(first, 1, 1'000'000);
  pool.free(first, 1'000'000);
  CHECK(pool.kept_bytes() == 1 << 20);
  void* const other = pool.allocate(600'000);
  CHECK(other == first);
  CHECK(pool.kept_bytes() == 0);
  void* const larger = pool.allocate((1 << 20) + 1);
  CHECK(larger != first);
  pool.free(other, 600'000);
  pool.free(larger, (1 << 20) + 1);
  CHECK(pool.kept_bytes() == 3 << 20);

  std::vector<void*> many;
  for (int i = 0; i < 20; i++) many.push_back(pool.allocate(4 << 20));
  for (void* const memory : many) pool.free(memory, 4 << 20);
  CHECK(pool.kept_bytes() <= BufferPool::kKeptBytesMax);
  const size_t kept = pool.kept_bytes();
  // Too large for any class.
  pool.free(pool.allocate(size_t{200} << 20), size_t{200} << 20);
  CHECK(pool.kept_bytes() == kept);
}

TEST_CASE("buffers of several threads never overlap") {
  BufferPool pool;
  std::vector<std::thread> threads;
  threads.reserve(4);
  std::atomic<int> wrong{0};
  for (uint8_t id = 1; id <= 4; id++) {
    threads.emplace_back([&pool, &wrong, id] {
      for (int round = 0; round < 200; round++) {
        const size_t size = BufferPool::kPooledBytesMin << (round % 3);
        auto* const bytes = static_cast<uint8_t*>(pool.allocate(size));
        std::memset(bytes, id, size);
        std::this_thread::yield();
        if (bytes[0] != id || bytes[size / 2] != id || bytes[size - 1] != id) wrong++;
        pool.free(bytes, size);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("a byte vector keeps its contents when it grows over the pool's limit") {
  ByteVector bytes;
  for (size_t i = 0; i < 300'000; i++) bytes.push_back(static_cast<uint8_t>(i * 7));
  bytes.resize(500'000);
  bool same = true;
  for (size_t i = 0; i < 300'000; i++) same = same && bytes[i] == static_cast<uint8_t>(i * 7);
  CHECK(same);
}
