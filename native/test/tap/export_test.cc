#include <thread>

#include "test/worlds/tap_world.h"

namespace stillpoint::test {

using namespace std::chrono_literals;

TEST_CASE("tap: what the session has read costs writes nothing, and is not read again") {
  World world;
  REQUIRE(world.write(2, 'a') == 0);
  REQUIRE(world.write(3, 'a') == 0);
  const auto hold = hold_at_once(*world.tap, world.options());
  CHECK(hold.changed_blocks == 2);
  REQUIRE(world.write(2, 'b') == 0);
  CHECK(World::holds(hold, 2, 'a'));
  CHECK(World::holds(hold, 3, 'a'));
  hold.snapshot->release(2 * kBlock, 2 * kBlock);
  CHECK(hold.snapshot->status().preserved_bytes == 0);
  REQUIRE(world.write(3, 'b') == 0);
  CHECK(hold.snapshot->status().preserved_bytes == 0);
  std::vector<uint8_t> bytes;
  CHECK(World::read(hold, 2, bytes) == ESHUTDOWN);
  CHECK(World::read(hold, 3, bytes) == ESHUTDOWN);
}

TEST_CASE("tap: a release of half a block releases nothing; the short last block goes too") {
  World world;
  REQUIRE(world.write(kBlocks - 1, 'a') == 0);
  REQUIRE(world.write(0, 'a') == 0);
  const auto hold = hold_at_once(*world.tap, world.options());
  hold.snapshot->release(0, kBlock - 512);
  CHECK(World::holds(hold, 0, 'a'));
  hold.snapshot->release((kBlocks - 1) * kBlock, kBlock - 512);
  std::vector<uint8_t> bytes;
  CHECK(World::read(hold, kBlocks - 1, bytes) == ESHUTDOWN);
}

TEST_CASE("tap: a map that does not know the base point is not used") {
  for (const bool void_map : {false, true}) {
    World world(void_map ? std::vector<Id>{} : std::vector<Id>{Id{7}});
    const auto hold = hold_at_once(*world.tap, world.options());
    CHECK_FALSE(hold.map_used);
    CHECK(hold.changed_blocks == kBlocks);
    REQUIRE(world.write(5, 'z') == 0);
    CHECK(World::holds(hold, 5, 0));
    world.tap->commit();
    CHECK(world.tap->status().points == std::vector<Id>{hold.snapshot->status().session_id});
    CHECK(world.tap->status().written_blocks == 1);
  }
}

TEST_CASE("tap: a session that may have been committed is a base too") {
  World world;
  REQUIRE(world.write(5, 'a') == 0);
  auto hold = hold_at_once(*world.tap, world.options());
  world.tap->abort();
  REQUIRE(world.write(6, 'a') == 0);
  auto options = world.options();
  options.base_point = hold.snapshot->status().session_id;
  options.snapshot.session_id.fill(10);
  hold = hold_at_once(*world.tap, std::move(options));
  CHECK(hold.map_used);
  CHECK(hold.changed_blocks == 2);
  world.tap->commit();
  auto later = world.options();
  later.base_point = Id{9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9};
  CHECK_FALSE(hold_at_once(*world.tap, std::move(later)).map_used);
}

TEST_CASE("tap: a sample is preserved, although the map calls it unchanged") {
  World world;
  auto options = world.options();
  options.snapshot.sample = {11};
  const auto hold = hold_at_once(*world.tap, std::move(options));
  CHECK(hold.changed_blocks == 0);
  REQUIRE(world.write(11, 'x') == 0);
  REQUIRE(world.write(12, 'x') == 0);
  CHECK(World::holds(hold, 11, 0));
  std::vector<uint8_t> bytes;
  CHECK(World::read(hold, 12, bytes) == ESHUTDOWN);
  world.tap->abort();
  auto wrong = world.options();
  wrong.snapshot.sample = {kBlocks};
  CHECK(code_of([&] { hold_at_once(*world.tap, std::move(wrong)); }) == "argument");
}

TEST_CASE("tap: a small write costs a small copy") {
  constexpr uint32_t kLarge = 65536;
  const TreeGeometry geometry{2 * kLarge - 512, kLarge};
  const auto device = std::make_shared<MemoryExport>(geometry.size_bytes);
  TapExport tap(device, geometry,
                std::make_unique<ChangeMap>(geometry, std::make_unique<BlockMap>(2), nullptr,
                                            ChangeMap::Start{{kBase}, ""}));
  const auto write = [&](uint64_t byte_offset, size_t length, uint8_t content) {
    const std::vector<uint8_t> bytes(length, content);
    REQUIRE(tap.write(byte_offset, bytes, false, Patience::may_wait) == 0);
  };
  write(0, geometry.size_bytes, 'a');
  TapExport::HoldOptions options;
  options.base_point = kBase;
  options.preserve_file = std::make_unique<RecordingFile>(std::make_shared<Recording>());
  options.preserve_bytes_max = 2 * kLarge;
  const auto hold = hold_at_once(tap, std::move(options));
  const auto preserved = [&] { return hold.snapshot->status().preserved_bytes; };
  write(4096 + 100, 10, 'b');
  CHECK(preserved() == 4096);
  write(4096, 8192, 'c');  // one more cell
  CHECK(preserved() == 8192);
  write(3 * 4096, 1, 'd');
  write(kLarge - 1, 2, 'e');  // a cell of each block
  CHECK(preserved() == 5 * 4096);
  write(geometry.size_bytes - 1, 1, 'f');  // the last cell is short
  CHECK(preserved() == 6 * 4096 - 512);
  std::vector<uint8_t> bytes(geometry.size_bytes);
  REQUIRE(hold.snapshot->read(0, bytes) == 0);
  CHECK(bytes == std::vector<uint8_t>(bytes.size(), 'a'));
  bytes.resize(9000);
  REQUIRE(hold.snapshot->read(4000, bytes) == 0);
  CHECK(bytes == std::vector<uint8_t>(bytes.size(), 'a'));
  hold.snapshot->release(kLarge, kLarge - 512);
  CHECK(preserved() == 4 * 4096);
  write(kLarge + 8192, 4096, 'g');
  CHECK(preserved() == 4 * 4096);
  hold.snapshot->release(0, geometry.size_bytes);
  CHECK(preserved() == 0);
}

TEST_CASE("tap: a session of larger blocks gets whole ones") {
  World world;
  REQUIRE(world.write(5, 'a') == 0);
  auto options = world.options();
  options.snapshot.group_blocks = 4;
  options.snapshot.sample = {13};
  const auto hold = hold_at_once(*world.tap, std::move(options));
  for (uint64_t i = 0; i < 16; i++) REQUIRE(world.write(i, 'z') == 0);
  for (uint64_t i = 0; i < 16; i++) {
    CAPTURE(i);
    std::vector<uint8_t> bytes;
    const bool needed = i / 4 == 1 || i / 4 == 3;
    CHECK(World::read(hold, i, bytes) == (needed ? 0 : ESHUTDOWN));
    if (needed) CHECK(bytes[0] == (i == 5 ? 'a' : 0));
  }
}

TEST_CASE("tap: a full preserve area gives the snapshot up, not the write") {
  World world;
  for (uint64_t i = 0; i < 8; i++) REQUIRE(world.write(i, 'a') == 0);
  const auto hold = hold_at_once(*world.tap, world.options(3));
  for (uint64_t i = 0; i < 8; i++) REQUIRE(world.write(i, 'b') == 0);
  const auto status = hold.snapshot->status();
  CHECK(status.state == Snapshot::State::invalid);
  CHECK(status.reason.find("full") != std::string::npos);
  CHECK(status.needed_blocks == 8);
  std::vector<uint8_t> bytes;
  for (uint64_t i = 0; i < 8; i++) CHECK(World::read(hold, i, bytes) == ESHUTDOWN);
  CHECK_FALSE(world.preserve->removed);  // not while a write waits for it
  world.tap->abort();
  CHECK(world.preserve->removed);
  CHECK(world.tap->status().changed_blocks == 8);
}

TEST_CASE("tap: errors of the preserve area and of originals fail the snapshot, not the host") {
  World world;
  REQUIRE(world.write(1, 'a') == 0);
  SUBCASE("write") {
    const auto hold = hold_at_once(*world.tap, world.options());
    world.preserve->write_error = EIO;
    REQUIRE(world.write(1, 'b') == 0);
    CHECK(hold.snapshot->status().state == Snapshot::State::invalid);
  }
  SUBCASE("original") {
    const auto hold = hold_at_once(*world.tap, world.options());
    world.device->read_error = EIO;
    REQUIRE(world.write(1, 'b') == 0);
    CHECK(hold.snapshot->status().state == Snapshot::State::invalid);
    world.device->read_error = 0;
  }
  std::vector<uint8_t> bytes(kBlock);
  REQUIRE(world.device->read(kBlock, bytes, Patience::may_wait) == 0);
  CHECK(bytes[0] == 'b');
}

TEST_CASE("tap: the thread that serves a connection preserves what it has not to wait for") {
  World world;
  for (uint64_t i = 0; i < 32; i++) REQUIRE(world.write(i, 'a') == 0);
  auto options = world.options(24);
  options.snapshot.throttle = true;
  const auto hold = hold_at_once(*world.tap, std::move(options));
  const auto would_wait = [&](uint64_t block) {
    const bool answer = world.write(block, 'b', Patience::immediate) == kWouldWait;
    CHECK(hold.snapshot->status().state == Snapshot::State::held);
    return answer;
  };
  // A thread that was off its processor for long has seen slow I/O, and waits before it tries again.
  const auto goes_soon = [&](uint64_t block) {
    for (int tries = 0; tries < 100; tries++) {
      if (!would_wait(block)) return true;
      std::this_thread::sleep_for(20ms);
    }
    return false;
  };
  SUBCASE("the original is cached") {
    CHECK(goes_soon(1));
    CHECK(hold.snapshot->status().preserved_bytes == kBlock);
  }
  SUBCASE("the original is not cached") {
    world.device->not_cached = true;
    CHECK(would_wait(1));
    CHECK(hold.snapshot->status().preserved_bytes == 0);
  }
  SUBCASE("the write itself would wait: its original is preserved once") {
    world.device->writes_would_wait = true;
    CHECK(would_wait(1));
    CHECK(hold.snapshot->status().preserved_bytes == kBlock);
  }
  SUBCASE("many blocks at once") {
    const std::vector<uint8_t> bytes(17 * kBlock, 'b');
    CHECK(world.tap->write(0, bytes, false, Patience::immediate) == kWouldWait);
    CHECK(hold.snapshot->status().preserved_bytes == 0);
  }
  SUBCASE("no room") {
    for (uint64_t i = 2; i < 26; i++) CHECK(goes_soon(i));
    CHECK(would_wait(1));
    hold.snapshot->release(2 * kBlock, kBlock);
  }
  SUBCASE("the preserve area is slow") {
    world.preserve->write_takes = 30ms;
    CHECK(goes_soon(2));
    CHECK(would_wait(1));
    world.preserve->write_takes = 0ms;
    CHECK(goes_soon(3));
  }
  CHECK(World::holds(hold, 1, 'a'));
  world.device->not_cached = false;
  REQUIRE(world.write(1, 'c') == 0);
  CHECK(hold.snapshot->status().state == Snapshot::State::held);
  CHECK(World::holds(hold, 1, 'a'));
}

TEST_CASE("tap: with throttle, writes wait until the session has read more") {
  World world;
  for (uint64_t i = 0; i < 4; i++) REQUIRE(world.write(i, 'a') == 0);
  auto options = world.options(2);
  options.snapshot.throttle = true;
  const auto hold = hold_at_once(*world.tap, std::move(options));
  std::atomic<int> written{0};
  std::thread writer([&] {
    for (uint64_t i = 0; i < 4; i++) {
      REQUIRE(world.write(i, 'b') == 0);
      written++;
    }
  });
  while (written < 2) std::this_thread::yield();
  std::this_thread::sleep_for(20ms);
  CHECK(written == 2);
  for (uint64_t i = 0; i < 4; i++) {
    CHECK(World::holds(hold, i, 'a'));
    hold.snapshot->release(i * kBlock, kBlock);
  }
  writer.join();
  CHECK(hold.snapshot->status().state == Snapshot::State::held);
}

TEST_CASE("tap: writes don't wait for a session that does not go on") {
  World world;
  REQUIRE(world.write(0, 'a') == 0);
  auto options = world.options(0);
  options.snapshot.throttle = true;
  options.snapshot.throttle_patience = 20ms;
  const auto hold = hold_at_once(*world.tap, std::move(options));
  REQUIRE(world.write(0, 'b') == 0);
  CHECK(hold.snapshot->status().state == Snapshot::State::invalid);
  CHECK(hold.snapshot->status().reason.find("did not go on") != std::string::npos);
}

TEST_CASE("tap: what was shipped is on the device before its mark goes") {
  World world;
  REQUIRE(world.write(1, 'a') == 0);
  hold_at_once(*world.tap, world.options());
  CHECK(world.device->flushes == 0);
  world.tap->commit();
  CHECK(world.device->flushes == 1);
  CHECK(world.tap->status().changed_blocks == 0);

  REQUIRE(world.write(2, 'a') == 0);
  auto options = world.options();
  options.base_point = world.tap->status().points.at(0);
  options.snapshot.session_id.fill(10);
  hold_at_once(*world.tap, std::move(options));
  world.device->flush_error = EIO;
  CHECK(code_of([&] { world.tap->commit(); }) == "EIO");
  CHECK(world.tap->status().points.empty());
  CHECK_FALSE(world.tap->status().snapshot.has_value());
}

TEST_CASE("tap: a snapshot that was given up tells of no holes") {
  World world;
  REQUIRE(world.write(1, 'a') == 0);
  REQUIRE(world.write(2, 'a') == 0);
  const auto hold = hold_at_once(*world.tap, world.options(1));
  SnapshotExport view(hold.snapshot);
  REQUIRE(world.write(1, 'b') == 0);
  REQUIRE(world.write(2, 'b') == 0);
  REQUIRE(hold.snapshot->status().state == Snapshot::State::invalid);
  REQUIRE(world.tap->trim(2 * kBlock, kBlock, false) == 0);
  std::vector<NbdExtent> extents;
  CHECK(view.block_status(0, 0, kGeometry.size_bytes, 10, extents) == ESHUTDOWN);
  CHECK(view.block_status(1, 0, kGeometry.size_bytes, 10, extents) == ESHUTDOWN);
}

TEST_CASE("tap: writes that wait for room go on when the snapshot ends") {
  World world;
  REQUIRE(world.write(0, 'a') == 0);
  auto options = world.options(0);
  options.snapshot.throttle = true;
  const auto hold = hold_at_once(*world.tap, std::move(options));
  std::thread writer([&] { REQUIRE(world.write(0, 'b') == 0); });
  std::this_thread::sleep_for(10ms);
  world.tap->abort();
  writer.join();
}

TEST_CASE("tap: a failed write leaves its block marked") {
  World world;
  world.device->write_error = ENOSPC;
  CHECK(world.write(4, 'a') == ENOSPC);
  world.device->write_error = 0;
  CHECK(world.tap->status().written_blocks == 1);
  CHECK(hold_at_once(*world.tap, world.options()).changed_blocks == 1);
}

TEST_CASE("tap: trims leave alone what the snapshot needs; zeroing preserves it") {
  World world;
  for (uint64_t i = 0; i < 4; i++) REQUIRE(world.write(i, 'a') == 0);
  const auto hold = hold_at_once(*world.tap, world.options());
  REQUIRE(world.write(1, 'b') == 0);
  REQUIRE(world.tap->trim(0, 3 * kBlock, false) == 0);
  CHECK(hold.snapshot->status().preserved_bytes == kBlock);
  REQUIRE(world.tap->zero(2 * kBlock, 2 * kBlock, {}, false) == 0);
  CHECK(hold.snapshot->status().preserved_bytes == 3 * kBlock);
  for (uint64_t i = 0; i < 4; i++) CHECK(World::holds(hold, i, 'a'));
  const auto on_device = [&](uint64_t block) {
    std::vector<uint8_t> bytes(kBlock);
    REQUIRE(world.device->read(block * kBlock, bytes, Patience::may_wait) == 0);
    return bytes[0];
  };
  CHECK(on_device(0) == 'a');  // needed: not trimmed
  CHECK(on_device(1) == 0);    // preserved already: trimmed
  CHECK(on_device(2) == 0);
  CHECK(world.tap->status().written_blocks == 4);
}

TEST_CASE("tap: holes of the device that were preserved are data in the view") {
  World world;
  REQUIRE(world.write(1, 'a') == 0);
  REQUIRE(world.write(2, 'a') == 0);
  const auto hold = hold_at_once(*world.tap, world.options());
  REQUIRE(world.tap->zero(kBlock, kBlock, {}, false) == 0);
  world.device->hole_everywhere = true;
  SnapshotExport view(hold.snapshot);
  std::vector<NbdExtent> extents;
  REQUIRE(view.block_status(0, 0, 4 * kBlock, 10, extents) == 0);
  REQUIRE(extents.size() == 3);
  CHECK(extents[0].byte_length == kBlock);
  CHECK(extents[0].flags == 3);
  CHECK(extents[1].byte_length == kBlock);
  CHECK(extents[1].flags == 0);
  CHECK(extents[2].byte_length == 2 * kBlock);
  extents.clear();
  REQUIRE(view.block_status(1, 0, kGeometry.size_bytes, 10, extents) == 0);
  REQUIRE(extents.size() == 3);
  CHECK(extents[1].byte_length == 2 * kBlock);
  CHECK(extents[1].flags == 1);
  CHECK(extents[2].byte_length == kGeometry.size_bytes - 3 * kBlock);
  CHECK(view.write(0, {}, false, Patience::may_wait) == EPERM);
}

}  // namespace stillpoint::test
