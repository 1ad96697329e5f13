// Scans, encodings, cancels and restores at once: for ThreadSanitizer above all.
#include <doctest/doctest.h>

#include <thread>

#include "core/device/memory_device.h"
#include "core/restore/restore_writer.h"
#include "core/scan/scan.h"
#include "test/helpers/digesters.h"
#include "test/helpers/helpers.h"
#include "test/worlds/scan_world.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

constexpr Id kSession{4, 5, 6};

// Scans with several pullers that encode what they pull; each pull may be the one that cancels. Bodies by
// first block.
std::map<uint64_t, ByteVector> scan_and_encode(const ScanWorld& world, Scan& scan, uint64_t cancel_after) {
  std::mutex mutex;
  std::map<uint64_t, ByteVector> bodies;
  std::atomic<uint64_t> pulled{0};
  std::vector<std::thread> pullers;
  pullers.reserve(3);
  for (int i = 0; i < 3; i++) {
    pullers.emplace_back([&] {
      try {
        while (const auto chunk = scan.next()) {
          const uint64_t first = chunk->entries().front().block_index;
          ByteVector body = chunk->encode({kSession, 0, 0, {}, 1});
          decode_batch(body, {kSession, 0, world.geometry, kPlain}, ThreadPool::shared());
          if (++pulled == cancel_after) scan.cancel();
          (void)scan.progress();
          const std::lock_guard lock(mutex);
          bodies[first] = std::move(body);
        }
      } catch (const NativeError& error) {
        if (error.code() != "cancelled") throw;
      }
    });
  }
  for (std::thread& puller : pullers) puller.join();
  return bodies;
}

}  // namespace

TEST_CASE("scans, cancelled or not, and restores of what they found run side by side") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  const auto device = std::make_shared<MemoryDevice>((8 << 20) + 999);
  ScanWorld world(device, 8192);
  for (uint64_t i = 0; i < world.geometry.block_count(); i++) {
    if (!random.one_in(5)) device->write(i * 8192, random.bytes(world.geometry.block_length(i)));
  }
  const auto expected = world.expected(world.options().ranges);
  for (int round = 0; round < 6; round++) {
    ScanOptions options = world.options();
    options.memory_bytes = 2 << 20;
    options.chunk_bytes = 200'000;
    ScanOptions other = options;
    other.overlay.reset();
    world.new_overlay();
    options.overlay = world.overlay;
    Scan scan(options);
    Scan cancelled(other);
    const uint64_t cancel_after = 1 + random.below(10);
    std::thread beside([&] { scan_and_encode(world, cancelled, cancel_after); });
    const auto bodies = scan_and_encode(world, scan, ~uint64_t{0});
    beside.join();
    world.check_overlay(expected);

    // Restore what was encoded, several batches at once.
    const auto tree = std::shared_ptr(TreeFile::create(world.directory / "restored", world.geometry, kPlain));
    world.overlay->seal({kScanPoint, tree->root_with(*world.overlay)});
    tree->apply(*world.overlay);
    const auto target = std::make_shared<MemoryDevice>(device->size_bytes());
    RestoreWriter writer(target, tree, ThreadPool::shared());
    std::vector<const ByteVector*> work;
    work.reserve(bodies.size());
    for (const auto& [first, body] : bodies) work.push_back(&body);
    ThreadPool::shared().parallel_for(work.size(), [&](size_t i) { writer.write(*work[i], kSession); });
    std::vector<uint8_t> source_bytes(device->size_bytes()), target_bytes(device->size_bytes());
    device->read(0, source_bytes);
    target->read(0, target_bytes);
    REQUIRE(source_bytes == target_bytes);
    std::filesystem::remove(world.directory / "restored");
  }
}
