#include "core/tap/journal/range_locks.h"

#include <array>
#include <atomic>
#include <thread>

#include "test/helpers/helpers.h"

namespace stillpoint::test {

using Range = RangeLocks::Range;

TEST_CASE("range locks: overlapping ranges wait, others don't") {
  RangeLocks locks;
  Range held(locks, 100, 50);
  held.lock();
  Range before(locks, 50, 50), after(locks, 150, 1);
  CHECK(before.try_lock());
  CHECK(after.try_lock());
  for (const auto& [offset, length] : {std::pair{149, 1}, {100, 1}, {0, 1000}, {120, 5}}) {
    Range other(locks, static_cast<uint64_t>(offset), static_cast<uint64_t>(length));
    CHECK_FALSE(other.try_lock());
  }
}

TEST_CASE("range locks: nobody passes a wider range that came before") {
  RangeLocks locks;
  std::atomic<int> order{0};
  int wide_was = 0, late_was = 0;
  std::thread wide, late;
  {
    Range held(locks, 100, 10);
    held.lock();
    wide = std::thread([&] {
      Range range(locks, 0, 1000);
      range.lock();
      wide_was = ++order;
    });
    // The wide one waits as soon as nobody gets its other parts.
    for (bool waits = false; !waits; std::this_thread::yield()) {
      Range probe(locks, 500, 1);
      waits = !probe.try_lock();
    }
    late = std::thread([&] {
      Range range(locks, 500, 1);
      range.lock();
      late_was = ++order;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK(order == 0);
  }
  wide.join();
  late.join();
  CHECK(wide_was == 1);
  CHECK(late_was == 2);
}

TEST_CASE("range locks: many threads, and no two of them in one place") {
  const uint64_t seed = random_seed();
  INFO("seed " << seed);
  constexpr size_t kPlaces = 32;
  RangeLocks locks;
  std::array<std::atomic<int>, kPlaces> inside{};
  std::array<int, kPlaces> counts{};  // unsynchronized but for the lock
  std::atomic<bool> wrong{false};
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 4; i++) {
    threads.emplace_back([&, i] {
      Random random(seed + i);
      for (int round = 0; round < 3000; round++) {
        const uint64_t first = random.below(kPlaces);
        const uint64_t count = 1 + random.below(std::min<uint64_t>(8, kPlaces - first));
        Range range(locks, first, count);
        if (random.one_in(3)) {
          if (!range.try_lock()) continue;
        } else {
          range.lock();
        }
        for (uint64_t at = first; at < first + count; at++) {
          if (inside[at]++ != 0) wrong = true;
          counts[at]++;
        }
        if (random.one_in(10)) std::this_thread::yield();
        for (uint64_t at = first; at < first + count; at++) inside[at]--;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(wrong);
}

}  // namespace stillpoint::test
