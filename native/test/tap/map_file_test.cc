#include "core/tap/maps/map_file.h"

#include <algorithm>
#include <set>
#include <thread>

#include "core/tap/maps/change_map.h"
#include "core/tap/start.h"
#include "test/helpers/recording_file.h"

namespace stillpoint::test {
namespace {

constexpr uint32_t kBlock = 65536;
// 64 blocks a region, 200 regions.
const TreeGeometry kGeometry{uint64_t{200} * 64 * kBlock, kBlock};

Id id_of(uint8_t number) {
  Id id{};
  id.fill(number);
  return id;
}

std::set<uint64_t> blocks_of(const BlockMap& map) {
  std::set<uint64_t> blocks;
  for (uint64_t i = map.next_set(0); i < map.block_count(); i = map.next_set(i + 1)) blocks.insert(i);
  return blocks;
}

bool has_all(const std::set<uint64_t>& blocks, const std::set<uint64_t>& wanted) {
  return std::includes(blocks.begin(), blocks.end(), wanted.begin(), wanted.end());
}

struct Belief {
  std::vector<Id> points;
  std::set<uint64_t> changed;
};

// What a power cut anywhere in steps [from, to) leaves must be what was believed before or after.
void check_cuts(const Recording& recording, size_t from, size_t to, const Belief& before, const Belief& after,
                Random& random) {
  for (size_t cut = from; cut <= to; cut++) {
    for (int variant = 0; variant < 4; variant++) {
      const auto file = file_of(recording.after_power_cut(cut, random));
      const MapHeader header = read_map_header(*file);
      BlockMap found(kGeometry.block_count());
      read_map_blocks(*file, found);
      const bool is_old = header.points == before.points && has_all(blocks_of(found), before.changed);
      const bool is_new = header.points == after.points && has_all(blocks_of(found), after.changed);
      const bool is_exact = !header.clean || blocks_of(found) == after.changed;
      CAPTURE(cut);
      REQUIRE((cut == to ? is_new : is_old || is_new));
      REQUIRE(is_exact);
    }
  }
}

}  // namespace

TEST_CASE("map file: a power cut at any write leaves no change out") {
  const uint64_t seed = random_seed();
  INFO("seed " << seed);
  Random random(seed);
  for (int round = 0; round < 12; round++) {
    const auto recording = std::make_shared<Recording>();
    BlockMap changed(kGeometry.block_count());
    Belief belief{{id_of(1)}, {}};
    auto map = std::make_unique<MapFile>(std::make_unique<RecordingFile>(recording), "device", kGeometry,
                                         belief.points, changed);
    for (uint8_t step = 2; step < 40; step++) {
      const size_t from = recording->steps.size();
      Belief next = belief;
      switch (random.below(6)) {
        case 0: {  // a commit: only some blocks changed since
          changed.clear();
          next = {{id_of(step)}, {}};
          for (uint64_t i = random.below(5); i > 0; i--) {
            const uint64_t block = random.below(changed.block_count());
            changed.mark(block, block + 1);
            next.changed.insert(block);
          }
          REQUIRE(map->rebase(next.points, changed) == 0);
          break;
        }
        case 1:
          next.points.push_back(id_of(step));
          if (next.points.size() > MapHeader::kPointsMax) next.points.erase(next.points.begin());
          REQUIRE(map->set_points(next.points) == 0);
          break;
        case 2: {  // a clean end, and a start
          REQUIRE(map->close_clean({&changed}, "mark") == 0);
          next.changed = blocks_of(changed);
          check_cuts(*recording, from, recording->steps.size(), belief, next, random);
          map.reset();
          const size_t restart = recording->steps.size();
          map = std::make_unique<MapFile>(std::make_unique<RecordingFile>(recording), "device", kGeometry,
                                          belief.points, changed);
          check_cuts(*recording, restart, recording->steps.size(), next, next, random);
          break;
        }
        default: {
          const uint64_t begin = random.below(changed.block_count());
          const uint64_t end = std::min(changed.block_count(), begin + 1 + random.below(300));
          changed.mark(begin, end);
          map->make_ready(begin, end);
          REQUIRE(map->ready(begin, end));
          for (uint64_t i = begin; i < end; i++) next.changed.insert(i);
        }
      }
      check_cuts(*recording, from, recording->steps.size(), belief, next, random);
      belief = next;
    }
  }
}

TEST_CASE("map file: a region that is marked costs one sync, then none") {
  const auto recording = std::make_shared<Recording>();
  BlockMap changed(kGeometry.block_count());
  MapFile map(std::make_unique<RecordingFile>(recording), "device", kGeometry, {id_of(1)}, changed);
  REQUIRE_FALSE(map.ready(0, 1));
  const size_t steps = recording->steps.size();
  map.make_ready(0, 1);
  CHECK(recording->steps.size() == steps + 2);
  map.make_ready(5, 64);
  CHECK(recording->steps.size() == steps + 2);
  CHECK(map.ready(0, 64));
  CHECK_FALSE(map.ready(0, 65));
}

TEST_CASE("map file: void maps mark nothing") {
  const auto recording = std::make_shared<Recording>();
  BlockMap changed(kGeometry.block_count());
  MapFile map(std::make_unique<RecordingFile>(recording), "device", kGeometry, {}, changed);
  CHECK(map.ready(0, kGeometry.block_count()));
  REQUIRE(map.rebase({id_of(3)}, changed) == 0);
  CHECK_FALSE(map.ready(0, 1));
  REQUIRE(map.set_points({}) == 0);
  CHECK(map.ready(0, 1));
  RecordingFile again(recording);
  CHECK(read_map_header(again).points.empty());
}

TEST_CASE("map file: any flipped bit is found, or changes nothing that counts") {
  Random random(random_seed());
  const auto recording = std::make_shared<Recording>();
  BlockMap changed(kGeometry.block_count());
  changed.mark(70, 80);
  changed.mark(12000, 12001);
  for (const bool clean : {false, true}) {
    MapFile map(std::make_unique<RecordingFile>(recording), "device", kGeometry, {id_of(1)}, changed);
    if (clean) REQUIRE(map.close_clean({&changed}, "mark") == 0);
    int refused = 0;
    for (int i = 0; i < 4000; i++) {
      std::vector<uint8_t> bytes = recording->bytes;
      bytes[random.below(bytes.size())] ^= static_cast<uint8_t>(1u << random.below(8));
      const auto file = file_of(bytes);
      BlockMap found(kGeometry.block_count());
      try {
        const MapHeader header = read_map_header(*file);
        read_map_blocks(*file, found);
        REQUIRE(header.points == std::vector{id_of(1)});
        REQUIRE(has_all(blocks_of(found), blocks_of(changed)));
      } catch (const NativeError&) {
        refused++;
      }
    }
    CHECK(refused > 100);
  }
}

TEST_CASE("map file: the start of a tap uses a map of this device only") {
  BlockMap changed(kGeometry.block_count());
  changed.mark(7, 9);
  const auto recording = std::make_shared<Recording>();
  {
    MapFile map(std::make_unique<RecordingFile>(recording), "device", kGeometry, {id_of(1)}, changed);
    REQUIRE(map.close_clean({&changed}, "mark") == 0);
  }
  const std::vector<uint8_t> bytes = recording->bytes;
  const auto start = [&](const std::string& identity, const TreeGeometry& geometry,
                         const std::string& distrust) {
    return start_maps(file_of(bytes), identity, geometry, distrust).map;
  };
  {
    const auto map = start("device", kGeometry, "");
    CHECK(map->knows(id_of(1)));
    CHECK(blocks_of(map->backup()) == std::set<uint64_t>{7, 8});
  }
  CHECK_FALSE(start("another", kGeometry, "")->knows(id_of(1)));
  CHECK_FALSE(start("device", {kGeometry.size_bytes + kBlock, kBlock}, "")->knows(id_of(1)));
  CHECK_FALSE(start("device", {kGeometry.size_bytes, kBlock * 2}, "")->knows(id_of(1)));
  CHECK_FALSE(start("device", kGeometry, "it was written to")->knows(id_of(1)));
  CHECK(start("device", kGeometry, "it was written to")->reason() == "it was written to");
  CHECK(start_maps(file_of({}), "device", kGeometry, "").map->reason() == "there was no map yet");
  CHECK_FALSE(
      start_maps(file_of(std::vector<uint8_t>(9000, 7)), "device", kGeometry, "").map->knows(id_of(1)));
}

TEST_CASE("map file: one that can't be written is removed, and keeps no write") {
  for (const bool on_sync : {false, true}) {
    const auto recording = std::make_shared<Recording>();
    BlockMap changed(kGeometry.block_count());
    MapFile map(std::make_unique<RecordingFile>(recording), "device", kGeometry, {id_of(1)}, changed);
    (on_sync ? recording->sync_error : recording->write_error) = EIO;
    map.make_ready(0, 1);
    CHECK(map.ready(0, kGeometry.block_count()));
    CHECK_FALSE(map.persistent());
    CHECK(recording->removed);
    CHECK(map.rebase({id_of(2)}, changed) == 0);
    CHECK(map.ready(0, 1));
  }
}

TEST_CASE("map file: many writers, marks and rebases at once") {
  const auto recording = std::make_shared<Recording>();
  BlockMap changed(kGeometry.block_count());
  MapFile map(std::make_unique<RecordingFile>(recording), "device", kGeometry, {id_of(1)}, changed);
  std::vector<std::thread> writers;
  for (uint64_t writer = 0; writer < 4; writer++) {
    writers.emplace_back([&, writer] {
      for (uint64_t i = writer; i < kGeometry.block_count(); i += 37) {
        changed.mark(i, i + 1);
        while (!map.ready(i, i + 1)) map.make_ready(i, i + 1);
      }
    });
  }
  for (uint8_t i = 2; i < 30; i++) REQUIRE(map.rebase({id_of(i)}, changed) == 0);
  for (std::thread& writer : writers) writer.join();
  RecordingFile again(recording);
  BlockMap found(kGeometry.block_count());
  read_map_blocks(again, found);
  CHECK(has_all(blocks_of(found), blocks_of(changed)));
}

}  // namespace stillpoint::test
