// Many writers over few bytes, and instants: whatever they do, the journal gives the device's content, at
// each instant and at the end, and each of its beginnings is a state that could have been.
//
// Writes carry their own number, and a clock ticks when they begin and end. In the order of the journal, none
// may come after another that began only when it had ended.
#include <limits>

#include "core/base/little_endian.h"
#include "test/worlds/journaled_tap.h"

namespace stillpoint::test {
namespace {

constexpr uint64_t kBlocks = 12;
constexpr uint64_t kSector = 512;
constexpr uint64_t kSectors = kBlocks * JournaledTap::kBlock / kSector;

struct Times {
  uint64_t begin;
  uint64_t end;
};

struct Load {
  Load(JournaledTap& tap, uint64_t seed, uint64_t writers) : world(tap), times(writers) {
    for (uint64_t i = 0; i < writers; i++) {
      threads.emplace_back([this, seed, i] {
        Random random(seed + i);
        while (!stop) {
          if (quota-- > 0) {
            one(i, random);
          } else {
            std::this_thread::sleep_for(std::chrono::microseconds(100));
          }
        }
      });
    }
  }
  ~Load() { end(); }
  void end() {
    stop = true;
    for (std::thread& thread : threads) thread.join();
    threads.clear();
  }

  void one(uint64_t writer, Random& random) {
    const uint64_t first = random.below(kSectors);
    const uint64_t count = std::min(kSectors - first, 1 + random.below(random.one_in(5) ? 60 : 12));
    const uint64_t kind = random.below(12);
    TapExport& tap = *world.tap;
    int error = 0;
    if (kind == 0) {
      error = tap.zero(first * kSector, count * kSector, {}, false);
    } else if (kind == 1) {
      error = tap.trim(first * kSector, count * kSector, false);
    } else if (kind == 2 && random.one_in(4)) {
      tap.stamp();
    } else {
      std::vector<uint8_t> bytes(count * kSector);
      const uint64_t number = times[writer].size() << 8 | writer;
      for (size_t at = 0; at < bytes.size(); at += 8) store_le(bytes.data() + at, number + 1);
      const uint64_t begin = ++clock;
      error = tap.write(first * kSector, bytes, false, Patience::immediate);
      if (error == kWouldWait) error = tap.write(first * kSector, bytes, false, Patience::may_wait);
      times[writer].push_back({begin, ++clock});
    }
    if (error != 0) std::abort();
  }

  // In the order of the journal.
  void check_order(const std::vector<StoredRecord>& records) const {
    uint64_t latest_begin = 0;
    for (const StoredRecord& stored : records) {
      if (stored.record.kind != JournalKind::write) continue;
      const uint64_t number = load_le<uint64_t>(stored.payload.data()) - 1;
      const Times& write = times[number & 0xff].at(number >> 8);
      REQUIRE(write.end > latest_begin);
      latest_begin = std::max(latest_begin, write.begin);
    }
  }

  JournaledTap& world;
  std::atomic<bool> stop{false};
  // All is kept until the end, and a hold may take long.
  std::atomic<int> quota{1000};
  std::atomic<uint64_t> clock{0};
  std::vector<std::vector<Times>> times;
  std::vector<std::thread> threads;
};

void run_world(uint64_t seed) {
  Random random(seed);
  JournaledTap world(kBlocks);
  world.segment_bytes = 40'000;
  world.device->not_cached = random.one_in(2);
  world.device->writes_would_wait = random.one_in(3);
  world.device->slow_one_in = random.one_in(3) ? 0 : 5;
  world.faults->slow_one_in = random.one_in(2) ? 0 : 6;
  world.start();
  std::vector<uint8_t> image, later;
  std::vector<std::pair<uint64_t, std::vector<uint8_t>>> instants;  // ordinal, content
  Id journal{};
  {
    Load load(world, seed * 10, 3);
    for (int i = 0; i < 6; i++) {
      load.quota = 300;
      std::this_thread::sleep_for(std::chrono::milliseconds(random.below(8)));
      load.quota = 300;
      const auto hold = world.hold(&image);
      REQUIRE(hold.journal.has_value());
      if (i == 0) journal = hold.journal->journal;
      REQUIRE(hold.journal->journal == journal);
      instants.emplace_back(hold.journal->ordinal, image);
      // A head at any time: all up to it is whole, and in order.
      if (const auto head = world.published(journal)) world.read_to(*head);
      random.one_in(2) ? world.tap->commit() : world.tap->abort();
      if (const auto head = world.published(journal)) world.read_to(*head);
    }
    load.end();
    instants.emplace_back(world.current().ordinal, world.content());
    const auto records = world.read_to(world.current());
    load.check_order(records);
    REQUIRE(world.current().ordinal == world.current().last_ordinal);
    CAPTURE(world.current().reason);
    REQUIRE(world.current().state == JournalHead::State::open);
    for (size_t i = 0; i + 1 < instants.size(); i++) {
      CAPTURE(i);
      later = instants[i].second;
      for (uint64_t ordinal = instants[i].first + 1; ordinal <= instants[i + 1].first; ordinal++)
        replay(records.at(ordinal - 1), later);
      REQUIRE(later == instants[i + 1].second);
    }
  }
}

}  // namespace

TEST_CASE("tap journal stress: it gives the device's content, whatever is written at once") {
  const uint64_t seed = random_seed() % 100000;
  INFO("seed " << seed);
  for (uint64_t world = 0; world < 12; world++) run_world(seed + world);
}

TEST_CASE("tap journal stress: writes go on while it breaks, and its part before that is true") {
  const uint64_t seed = random_seed() % 100000;
  INFO("seed " << seed);
  for (uint64_t i = 0; i < 8; i++) {
    Random random(seed + i);
    JournaledTap world(kBlocks);
    world.segment_bytes = 40'000;
    if (i % 2 == 0) world.bytes_max = 300'000;
    world.start();
    std::vector<uint8_t> image;
    const auto hold = world.hold(&image);
    world.tap->abort();
    Load load(world, seed * 10 + i, 3);
    load.quota = std::numeric_limits<int>::max();
    if (i % 2 == 1) world.faults->fail_at = world.faults->steps + 20 + static_cast<int>(random.below(50));
    while (world.current().state == JournalHead::State::open) std::this_thread::yield();
    load.end();
    const JournalHead head = world.current();
    REQUIRE(head.ordinal == head.last_ordinal);
    REQUIRE(head.broken_stamp > head.stamp);
    load.check_order(world.read_to(head));
    world.faults->fail_at = -1;
    std::vector<uint8_t> at_instant;
    REQUIRE(world.hold(&at_instant).journal.has_value());
    CHECK(at_instant == world.content());
  }
}

}  // namespace stillpoint::test
