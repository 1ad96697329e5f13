#include <thread>

#include "test/worlds/tap_world.h"

namespace stillpoint::test {

using namespace std::chrono_literals;

namespace {

// A writer that is at the gate, or past it.
struct Writer {
  explicit Writer(World& world, uint8_t content = 'a')
      : thread([this, &world, content] {
          REQUIRE(world.write(1, content) == 0);
          done = true;
        }) {}

  std::atomic<bool> done{false};
  std::thread thread;
};

}  // namespace

TEST_CASE("tap: the instant waits for writes in flight, and not for ever") {
  World world;
  world.device->hold_writes(true);
  std::thread writer([&] { REQUIRE(world.write(1, 'a') == 0); });
  while (world.device->writes_waiting == 0) std::this_thread::yield();
  world.tap->prepare(world.options());
  CHECK(code_of([&] { world.tap->close_gate({30ms, 10s}); }) == "barrier-timeout");
  CHECK_FALSE(world.tap->status().snapshot.has_value());
  // While somebody waits for the instant, others are not served at once, but they are not refused either.
  world.device->hold_writes(false);
  writer.join();
  CHECK(world.write(2, 'a') == 0);
  world.tap->close_gate({});
  CHECK(world.tap->cut().changed_blocks == 2);
}

TEST_CASE("tap: how long it was quiet is told when nobody can write any more") {
  World world;
  // Nothing was written yet, but who knows what was before it was made.
  world.tap->prepare(world.options());
  CHECK(world.tap->close_gate({}) < 10s);
  world.tap->open_gate();
  std::this_thread::sleep_for(30ms);
  CHECK(world.tap->close_gate({}) >= 30ms);
  world.tap->open_gate();
  REQUIRE(world.write(1, 'a') == 0);
  const auto written = std::chrono::steady_clock::now();
  CHECK(world.tap->close_gate({}) <= std::chrono::steady_clock::now() - written + 10ms);
}

TEST_CASE("tap: nobody writes from the closing to the instant, and all go on after it") {
  World world;
  REQUIRE(world.write(1, 'o') == 0);
  world.tap->prepare(world.options());
  REQUIRE(world.write(1, 'p') == 0);
  world.tap->close_gate({1s, 60s});
  CHECK(world.write(2, 'n', Patience::immediate) == kWouldWait);
  Writer writer(world, 'n');
  std::this_thread::sleep_for(20ms);
  CHECK_FALSE(writer.done);
  const auto hold = world.tap->cut();
  writer.thread.join();
  CHECK(hold.closed >= 20ms);
  CHECK(World::holds(hold, 1, 'p'));
}

TEST_CASE("tap: closed, and opened without an instant: it can be closed again, or given back") {
  World world;
  world.tap->prepare(world.options());
  CHECK(code_of([&] { world.tap->prepare(world.options()); }) == "EBUSY");
  CHECK(code_of([&] { world.tap->cut(); }) == "gate-open");
  world.tap->close_gate({1s, 60s});
  Writer stepped_back(world);
  world.tap->open_gate();
  stepped_back.thread.join();
  world.tap->close_gate({1s, 60s});
  Writer given_back(world);
  world.tap->abort();
  given_back.thread.join();
  CHECK(code_of([&] { world.tap->close_gate({}); }) == "argument");
  CHECK(code_of([&] { world.tap->cut(); }) == "argument");
  CHECK_FALSE(world.tap->status().snapshot.has_value());
}

TEST_CASE("tap: a closed gate opens by itself at its limit, and there is no instant then") {
  World world;
  world.tap->prepare(world.options());
  world.tap->close_gate({1s, 60ms});
  const auto began = std::chrono::steady_clock::now();
  REQUIRE(world.write(1, 'a') == 0);
  CHECK(std::chrono::steady_clock::now() - began >= 30ms);
  CHECK(code_of([&] { world.tap->cut(); }) == "gate-open");
  // Also where nobody has come to write meanwhile.
  world.tap->close_gate({1s, 20ms});
  std::this_thread::sleep_for(30ms);
  CHECK(code_of([&] { world.tap->cut(); }) == "gate-open");
  CHECK(world.write(2, 'a') == 0);
  world.tap->close_gate({});
  CHECK(World::holds(world.tap->cut(), 2, 'a'));
}

TEST_CASE("tap: what becomes of the map between preparing and the instant counts") {
  World world;
  world.tap->prepare(world.options());
  REQUIRE(world.write(3, 'a') == 0);
  world.tap->make_void("a test");
  world.tap->close_gate({});
  const auto hold = world.tap->cut();
  CHECK_FALSE(hold.map_used);
  CHECK(World::holds(hold, 0, 0));
}

TEST_CASE("tap: one snapshot at a time") {
  World world;
  const auto hold = hold_at_once(*world.tap, world.options());
  CHECK(code_of([&] { world.tap->prepare(world.options()); }) == "EBUSY");
  world.tap->abort();
  world.tap->abort();
  CHECK(code_of([&] { world.tap->commit(); }) == "argument");
  hold_at_once(*world.tap, world.options());
}

}  // namespace stillpoint::test
