// A tap whose device is cut, or written to by somebody else.
#include <doctest/doctest.h>

#include <cerrno>

#include "test/worlds/tap_world.h"

using namespace stillpoint;
using namespace stillpoint::test;

TEST_CASE("tap: a device that was cut gives no snapshot, and makes the map void") {
  World world;
  SUBCASE("before") {
    world.device->size_now = kBlock;
    CHECK(code_of([&] { hold_at_once(*world.tap, world.options()); }) == "ETRUNCATED");
    CHECK(world.tap->status().points.empty());
    // It has grown again, and what lay behind the end is gone.
    world.device->size_now = kGeometry.size_bytes;
    const auto hold = hold_at_once(*world.tap, world.options());
    CHECK_FALSE(hold.map_used);
    CHECK(hold.reason ==
          "it shrank from " + std::to_string(kGeometry.size_bytes) + " to 4096 bytes under its tap");
    world.tap->commit();
    CHECK(world.tap->status().points.size() == 1);
  }
  SUBCASE("while the gate is closed, which is closed again") {
    world.tap->prepare(world.options());
    world.tap->close_gate({});
    world.device->size_now = kBlock;
    CHECK(code_of([&] { world.tap->close_gate({}); }) == "ETRUNCATED");
    CHECK(world.write(0, 'a', Patience::immediate) == 0);
  }
  SUBCASE("while it is held") {
    auto options = world.options();
    options.snapshot.full = true;
    const auto hold = hold_at_once(*world.tap, std::move(options));
    REQUIRE(World::holds(hold, 0, 0));
    std::vector<uint8_t> bytes;
    SUBCASE("seen by a read") {
      world.device->read_error = kPastEnd;
      CHECK(World::read(hold, 1, bytes) == ESHUTDOWN);
      world.device->read_error = 0;
    }
    SUBCASE("seen by a write that preserves") {
      world.device->read_error = world.device->write_error = kPastEnd;
      CHECK(world.write(1, 'b') == kPastEnd);
      world.device->read_error = 0;
    }
    SUBCASE("seen by the check") {
      world.device->size_now = kBlock;
      CHECK(world.tap->check_source().size_bytes == kBlock);
      CHECK(world.tap->status().points.empty());
    }
    CHECK(hold.snapshot->status().state == Snapshot::State::invalid);
    CHECK(World::read(hold, 2, bytes) == ESHUTDOWN);
  }
}

TEST_CASE("tap: what somebody else may have written makes the map void, whenever it happens") {
  World world;
  SUBCASE("before the instant") {
    world.device->foreign_writers = 1;
    CHECK_FALSE(hold_at_once(*world.tap, world.options()).map_used);
  }
  SUBCASE("after it: neither the snapshot nor what follows a commit") {
    const auto hold = hold_at_once(*world.tap, world.options());
    REQUIRE(hold.map_used);
    world.device->foreign_writers = 1;
    SUBCASE("seen before the commit") {
      world.tap->check_source();
      CHECK(hold.snapshot->status().state == Snapshot::State::invalid);
    }
    world.tap->commit();
    CHECK(world.tap->status().points.empty());
  }
  SUBCASE("before a comparison is believed") {
    const auto hold = hold_at_once(*world.tap, world.options());
    world.device->foreign_writers = 1;
    CHECK(code_of([&] { world.tap->adopt(Id{7}, true); }) == "argument");
  }
  SUBCASE("before a clean end") {
    world.device->foreign_writers = 1;
    CHECK(world.tap->close_clean("") == 0);
  }
  CHECK(world.tap->status().points.empty() == (world.device->foreign_writers == 1));
}
