#include <thread>

#include "test/worlds/tap_world.h"

namespace stillpoint::test {

using namespace std::chrono_literals;

TEST_CASE("tap: the instant waits for writes in flight, and not for ever") {
  World world;
  world.device->hold_writes(true);
  std::thread writer([&] { REQUIRE(world.write(1, 'a') == 0); });
  while (world.device->writes_waiting == 0) std::this_thread::yield();
  auto options = world.options();
  options.barrier = 30ms;
  CHECK(code_of([&] { world.tap->hold(std::move(options)); }) == "barrier-timeout");
  CHECK_FALSE(world.tap->status().snapshot.has_value());
  // While somebody waits for the instant, others are not served at once, but they are not refused either.
  world.device->hold_writes(false);
  writer.join();
  CHECK(world.write(2, 'a') == 0);
  CHECK(world.tap->hold(world.options()).changed_blocks == 2);
}

TEST_CASE("tap: a quiet instant") {
  World world;
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    while (!stop) {
      REQUIRE(world.write(1, 'a') == 0);
      std::this_thread::sleep_for(2ms);
    }
  });
  while (!world.tap->status().quiet) std::this_thread::yield();
  auto options = world.options();
  options.quiet = 500ms;
  options.quiet_deadline = 50ms;
  CHECK(code_of([&] { world.tap->hold(std::move(options)); }) == "not-quiet");
  stop = true;
  writer.join();
  auto again = world.options();
  {
    // Nothing was written yet, but who knows what was before.
    World fresh;
    auto early = fresh.options();
    early.quiet = 500ms;
    CHECK(code_of([&] { fresh.tap->hold(std::move(early)); }) == "not-quiet");
  }
  again.quiet = 30ms;
  again.quiet_deadline = 10s;
  world.tap->hold(std::move(again));
  CHECK(*world.tap->status().quiet >= 30ms);
}

TEST_CASE("tap: who waits for quiet can be told to give up") {
  World world;
  REQUIRE(world.write(1, 'a') == 0);
  auto waiting = world.options();
  waiting.abort_count = world.tap->abort_count();
  std::thread holder([&world, options = std::move(waiting)]() mutable {
    options.quiet = 3600s;
    options.quiet_deadline = 3600s;
    CHECK(code_of([&] { world.tap->hold(std::move(options)); }) == "cancelled");
  });
  // It is ended by an abort since it was asked for, whenever it begins to wait.
  world.tap->abort();
  holder.join();
  world.tap->hold(world.options());
}

TEST_CASE("tap: one snapshot at a time") {
  World world;
  const auto hold = world.tap->hold(world.options());
  CHECK(code_of([&] { world.tap->hold(world.options()); }) == "EBUSY");
  world.tap->abort();
  world.tap->abort();
  CHECK(code_of([&] { world.tap->commit(); }) == "argument");
  world.tap->hold(world.options());
}

}  // namespace stillpoint::test
