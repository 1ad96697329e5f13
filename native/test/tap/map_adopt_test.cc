// A map that counts for a point that the device was compared with (ChangeMap::adopt, TapExport::adopt): never
// a change too few, whatever is written meanwhile, and wherever the power fails.
#include <algorithm>
#include <set>
#include <thread>

#include "test/worlds/tap_world.h"

namespace stillpoint::test {
namespace {

const Id kPoint{5};

std::set<uint64_t> blocks_of(const BlockMap& map) {
  std::set<uint64_t> blocks;
  for (uint64_t i = map.next_set(0); i < map.block_count(); i = map.next_set(i + 1)) blocks.insert(i);
  return blocks;
}

// What the map names for a session over the point; empty and `used` false where it is not used.
struct Next {
  bool used;
  std::set<uint64_t> changed;
};

Next next_session(World& world, const Id& base) {
  auto options = world.options();
  options.base_point = base;
  options.snapshot.session_id.fill(11);
  const auto hold = hold_at_once(*world.tap, std::move(options));
  Next next{hold.map_used, {}};
  std::vector<uint8_t> bytes;
  for (uint64_t block = 0; block < kBlocks; block++)
    if (World::read(hold, block, bytes) == 0) next.changed.insert(block);
  world.tap->abort();
  return next;
}

}  // namespace

TEST_CASE(
    "tap: an adopted map names what was marked and what was written since the instant, void or not before") {
  for (const bool was_void : {false, true}) {
    CAPTURE(was_void);
    World world(was_void ? std::vector<Id>{} : std::vector<Id>{kBase});
    REQUIRE(world.write(1, 'a') == 0);
    auto options = world.options();
    options.snapshot.full = true;
    const auto hold = hold_at_once(*world.tap, std::move(options));
    REQUIRE(world.write(7, 'b') == 0);  // while it is compared
    world.tap->mark(20, 23);
    REQUIRE(world.write(21, 'b') == 0);
    world.tap->adopt(kPoint, true);
    REQUIRE(world.write(40, 'c') == 0);
    CHECK(world.tap->status().points == std::vector<Id>{kPoint});
    const Next next = next_session(world, kPoint);
    CHECK(next.used);
    CHECK(next.changed == std::set<uint64_t>{7, 20, 21, 22, 40});
    CHECK_FALSE(next_session(world, kBase).used);
    std::vector<uint8_t> bytes;
    CHECK(World::read(hold, 1, bytes) == ESHUTDOWN);
  }
}

TEST_CASE("tap: after a comparison of a part, what the map named stays, and so do its points") {
  World world;
  REQUIRE(world.write(1, 'a') == 0);
  auto options = world.options();
  options.snapshot.full = true;
  hold_at_once(*world.tap, std::move(options));
  world.tap->mark(30, 31);
  CHECK(code_of([&] { world.tap->adopt(kPoint, false); }) == "argument");
  CHECK(world.tap->status().points.front() == kBase);
  world.tap->adopt(kBase, false);
  const Next next = next_session(world, kBase);
  CHECK(next.used);
  CHECK(next.changed == std::set<uint64_t>{1, 30});
}

TEST_CASE("tap: nothing is adopted without a snapshot that stands, or where the device can't be flushed") {
  World world;
  CHECK(code_of([&] { world.tap->adopt(kPoint, true); }) == "argument");
  for (uint64_t i = 0; i < 8; i++) REQUIRE(world.write(i, 'a') == 0);
  auto options = world.options(1);
  options.snapshot.full = true;
  hold_at_once(*world.tap, std::move(options));
  for (uint64_t i = 0; i < 8; i++) REQUIRE(world.write(i, 'b') == 0);
  CHECK(code_of([&] { world.tap->adopt(kPoint, true); }) == "argument");
  world.tap->abort();
  CHECK(next_session(world, kBase).changed.size() == 8);
  auto again = world.options();
  again.snapshot.full = true;
  hold_at_once(*world.tap, std::move(again));
  world.device->flush_error = EIO;
  CHECK(code_of([&] { world.tap->adopt(kPoint, true); }) == "EIO");
  world.device->flush_error = 0;
  CHECK(world.tap->status().points.empty());
  CHECK_FALSE(next_session(world, kPoint).used);
}

TEST_CASE("tap: writes on other threads while a map is adopted are never left out") {
  for (int round = 0; round < 20; round++) {
    World world(std::vector<Id>{});
    auto options = world.options();
    options.snapshot.full = true;
    hold_at_once(*world.tap, std::move(options));
    std::vector<std::thread> writers;
    for (uint64_t writer = 0; writer < 4; writer++)
      writers.emplace_back([&world, writer] {
        for (uint64_t i = writer; i < 32; i += 4) CHECK(world.write(i, 'w') == 0);
      });
    world.tap->mark(50, 52);
    world.tap->adopt(kPoint, true);
    for (std::thread& writer : writers) writer.join();
    const Next next = next_session(world, kPoint);
    CHECK(next.used);
    std::set<uint64_t> expected{50, 51};
    for (uint64_t i = 0; i < 32; i++) expected.insert(i);
    CHECK(next.changed == expected);
  }
}

TEST_CASE(
    "change map: a power cut at any write of an adoption leaves what was known before, or the adopted map") {
  const uint64_t seed = random_seed();
  INFO("seed " << seed);
  Random random(seed);
  // 64 blocks a region.
  const TreeGeometry geometry{uint64_t{40} * 64 * 65536, 65536};
  for (const bool was_void : {false, true}) {
    for (const bool complete : {false, true}) {
      if (was_void && !complete) continue;
      const auto recording = std::make_shared<Recording>();
      const std::vector<Id> points = was_void ? std::vector<Id>{} : std::vector<Id>{kBase};
      const auto backup = [&] { return std::make_unique<BlockMap>(geometry.block_count()); };
      const auto file = [&] {
        return std::make_unique<MapFile>(std::make_unique<RecordingFile>(recording), "device", geometry,
                                         points, *backup());
      };
      ChangeMap map(geometry, backup(), file(), ChangeMap::Start{points, "as made"});
      const auto write = [&](uint64_t block) {
        map.mark(block, block + 1);
        map.make_ready(block, block + 1);
      };
      write(3);
      write(700);
      map.begin(Id{9});
      map.cut();
      map.merge();
      write(1400);
      map.mark(2000, 2001);
      const size_t from = recording->steps.size();
      const Id point = complete ? kPoint : kBase;
      map.adopt(point, complete);
      const std::set<uint64_t> before{3, 700, 1400};
      std::set<uint64_t> after{1400, 2000};
      if (!complete) after.insert({3, 700});
      for (size_t cut = from; cut <= recording->steps.size(); cut++) {
        for (int variant = 0; variant < 8; variant++) {
          const auto left = file_of(recording->after_power_cut(cut, random));
          const MapHeader header = read_map_header(*left);
          BlockMap found(geometry.block_count());
          read_map_blocks(*left, found);
          const std::set<uint64_t> blocks = blocks_of(found);
          const auto has = [&](const std::set<uint64_t>& wanted) {
            return std::includes(blocks.begin(), blocks.end(), wanted.begin(), wanted.end());
          };
          const bool knows_point = !header.points.empty() && header.points.front() == point;
          CAPTURE(cut);
          if (complete ? knows_point : cut == recording->steps.size())
            CHECK(has(after));
          else if (!header.points.empty())
            CHECK(has(before));
          if (cut == recording->steps.size()) CHECK(knows_point);
        }
      }
      CHECK(map.knows(point));
      CHECK(map.backup().count() == 0);
      CHECK(map.written_blocks() == after.size());
    }
  }
}

}  // namespace stillpoint::test
