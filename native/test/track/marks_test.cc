// Marks while somebody sets them, and a tracker of a device that nobody writes to.
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <string>
#include <thread>

#include "core/base/error.h"
#include "core/track/tracker.h"
#include "test/helpers/helpers.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

constexpr uint64_t kWords = 32;

MarkMap marks() {
  UniqueFd fd(memfd_create("test", MFD_CLOEXEC));
  REQUIRE(ftruncate(fd.get(), kWords * 8) == 0);
  return {std::move(fd), kWords};
}

}  // namespace

TEST_CASE("marks: runs of bits in a word") {
  const uint64_t seed = random_seed();
  INFO("seed " << seed);
  Random random(seed);
  for (int i = 0; i < 2000; i++) {
    uint64_t bits = 0;
    for (uint64_t bit = 0; bit < 64; bit++)
      bits |= uint64_t{random.one_in(1 + static_cast<uint64_t>(i) % 5)} << bit;
    uint64_t told = 0;
    uint64_t last_end = 0;
    bool is_first = true;
    for_runs(bits, [&](uint64_t begin, uint64_t end) {
      CHECK(begin < end);
      CHECK((is_first || begin > last_end));
      for (uint64_t bit = begin; bit < end; bit++) told |= uint64_t{1} << bit;
      last_end = end;
      is_first = false;
    });
    CHECK(told == bits);
  }
}

TEST_CASE("marks: moved while others set them, none is lost") {
  MarkMap from = marks();
  MarkMap kept = marks();
  std::array<std::atomic<uint64_t>, kWords * 64> set{};
  std::array<uint64_t, kWords * 64> told{};
  std::atomic<bool> over{false};
  const uint64_t seed = random_seed();
  std::thread setter([&] {
    Random random(seed);
    for (int i = 0; i < 100'000; i++) {
      const uint64_t grain = random.below(kWords * 64);
      set[grain]++;
      from.set(grain / 64, uint64_t{1} << grain % 64);
    }
    over = true;
  });
  const auto move = [&] {
    move_marks(from, kept, [&](uint64_t word, uint64_t bits) {
      for_runs(bits, [&](uint64_t begin, uint64_t end) {
        for (uint64_t bit = begin; bit < end; bit++) told[word * 64 + bit] = set[word * 64 + bit];
      });
    });
  };
  while (!over) move();
  setter.join();
  move();
  // What was set last is told of after it was set.
  for (uint64_t grain = 0; grain < kWords * 64; grain++) {
    CHECK(told[grain] == set[grain]);
    CHECK(((kept.load(grain / 64) >> grain % 64 & 1) != 0) == (set[grain] > 0));
  }
  CHECK(from.count() == 0);
}

TEST_CASE("tracker: attached, opened, taken apart; for every size and grain the kernel takes the programs") {
  try {
    Tracker::check_support();
  } catch (const NativeError& error) {
    MESSAGE("skipped: nothing can be tracked here: " << error.what());
    return;
  }
  const std::string directory = "/sys/fs/bpf/stillpoint/test_" + std::to_string(getpid());
  struct Cleanup {
    std::string directory;
    ~Cleanup() { Tracker::detach(directory); }
  } const cleanup{directory};
  const uint64_t tib = uint64_t{2} << 30;  // in sectors
  for (const auto& [sectors, grain] : {std::pair<uint64_t, uint32_t>{1, 4096},
                                       {8 * 64, 4096},
                                       {8 * 64 + 1, 4096},
                                       {1'000'003, 8192},
                                       {tib, 65'536},
                                       {16 * tib, 65'536}}) {
    for (const bool has_request_queue : {true, false}) {
      const uint64_t sector_count = sectors;
      CAPTURE(sector_count);
      // No disk has this number.
      const TrackTarget target{4095, 1'000'000, 2048, sectors, grain, has_request_queue};
      {
        Tracker tracker = Tracker::attach(directory, target);
        CHECK_THROWS_AS(Tracker::attach(directory, target), NativeError);
        CHECK_FALSE(tracker.record());
        tracker.write_record(std::vector<uint8_t>{1, 2, 3});
        tracker.mark(0, 1);
      }
      Tracker tracker = Tracker::open(directory);
      CHECK(tracker.target().sector_count == sectors);
      CHECK(tracker.record() == std::vector<uint8_t>{1, 2, 3});
      CHECK(tracker.marked_grains() == 1);
      CHECK(tracker.counters().completion_misses == 0);
      CHECK_THROWS_AS(tracker.write_record({}), NativeError);
      CHECK_THROWS_AS(tracker.write_record(std::vector<uint8_t>(Tracker::kRecordBytesMax + 1)), NativeError);
      REQUIRE(unlink((directory + "/link1").c_str()) == 0);
      CHECK_THROWS_WITH(Tracker::open(directory), doctest::Contains("removed"));
      Tracker::detach(directory);
      CHECK_THROWS_AS(Tracker::open(directory), NativeError);
      Tracker::detach(directory);
    }
  }
  CHECK_THROWS_AS(Tracker::attach(directory, {7, 0, 0, 0, 4096, true}), NativeError);
  CHECK_THROWS_AS(Tracker::attach(directory, {7, 0, 0, 8, 5000, true}), NativeError);
  CHECK_THROWS_AS(Tracker::attach(directory, {7, 0, 0, 8, 512, true}), NativeError);
}
