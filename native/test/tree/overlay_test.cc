#include <doctest/doctest.h>
#include <sys/stat.h>

#include <atomic>
#include <thread>

#include "core/tree/leaf_overlay.h"
#include "core/tree/tree_file.h"
#include "test/helpers/helpers.h"
#include "test/worlds/tree_model.h"

using namespace stillpoint;
using namespace stillpoint::test;

TEST_CASE("overlay: puts, zero runs and repeated puts agree with the model") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  for (const uint64_t block_count :
       {uint64_t{1}, uint64_t{63}, uint64_t{64}, uint64_t{40'000}, uint64_t{300'000'000}}) {
    INFO("blocks ", block_count);
    const TemporaryDirectory directory;
    const TreeGeometry geometry{block_count * 4096 - random.below(4096), 4096};
    auto overlay = LeafOverlay::create(directory / "overlay", geometry, kNullDigest);
    std::map<uint64_t, Digest> model;
    for (int i = 0; i < 300; ++i) {
      const uint64_t first =
          random.one_in(2) ? random.below(block_count) : random.below(std::min<uint64_t>(block_count, 900));
      const uint64_t count = std::min(block_count - first, 1 + random.below(random.one_in(9) ? 5000 : 3));
      if (random.one_in(3)) {
        overlay->put_zeros(first, count);
        for (uint64_t b = first; b < first + count; ++b) model[b] = kNullDigest;
      } else {
        std::vector<Digest> digests(count);
        for (Digest& digest : digests) digest = random.one_in(5) ? kNullDigest : random.digest();
        overlay->put(first, digests.data(), count);
        for (uint64_t b = 0; b < count; ++b) model[first + b] = digests[b];
      }
    }
    if (random.one_in(2)) {
      const Digest root = random.digest();
      overlay->seal({{}, root});
      overlay->seal({{}, root});
      REQUIRE(code_of([&] { overlay->seal({{}, kNullDigest}); }) == "argument");
      REQUIRE(code_of([&] { overlay->put_zeros(0, 1); }) == "argument");
      overlay = LeafOverlay::open(directory / "overlay");
      REQUIRE(overlay->generation() == Generation{{}, root});
    }
    REQUIRE(overlay->present_count() == model.size());
    uint64_t visited = 0;
    LeafOverlay::NodeReader reader(*overlay);
    for (uint64_t at = overlay->next_node(0); at != LeafOverlay::kNoNode; at = overlay->next_node(at + 1)) {
      const LeafOverlay::Node node = reader.read(at);
      REQUIRE(node.digests == overlay->node(at).digests);
      REQUIRE(node.present == overlay->node(at).present);
      for (uint64_t i = 0; i < 64; ++i) {
        const auto found = model.find(at * 64 + i);
        REQUIRE((node.present >> i & 1) == (found == model.end() ? 0 : 1));
        if (found == model.end()) continue;
        REQUIRE(node.digests[i] == found->second);
        ++visited;
      }
    }
    REQUIRE(visited == model.size());
  }
}

TEST_CASE("overlay: a zero run over a huge hole costs presence bits only") {
  const TemporaryDirectory directory;
  const TreeGeometry geometry{uint64_t{16} << 40, 65536};
  const auto overlay = LeafOverlay::create(directory / "overlay", geometry, kNullDigest);
  const Digest digest = checksum(Bytes{});
  overlay->put(12'345'678, &digest, 1);
  overlay->put_zeros(1, uint64_t{1} << 24);
  struct stat status;
  REQUIRE(stat((directory / "overlay").c_str(), &status) == 0);
  CHECK(status.st_blocks * 512 < 4 << 20);
  CHECK(overlay->present_count() == uint64_t{1} << 24);
  CHECK(overlay->get(12'345'678) == kNullDigest);
  CHECK(overlay->get(0) == std::nullopt);
}

TEST_CASE("overlay: several threads put distinct blocks") {
  const TemporaryDirectory directory;
  const uint64_t block_count = 20'000;
  const TreeGeometry geometry{block_count * 4096, 4096};
  const auto overlay = LeafOverlay::create(directory / "overlay", geometry, kNullDigest);
  std::atomic<uint64_t> next{0};
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (uint64_t block = next++; block < block_count; block = next++) {
        const Digest digest = checksum({Bytes(reinterpret_cast<const uint8_t*>(&block), sizeof block)});
        overlay->put(block, &digest, 1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(overlay->present_count() == block_count);
  for (uint64_t block = 0; block < block_count; ++block) {
    REQUIRE(overlay->get(block) == checksum({Bytes(reinterpret_cast<const uint8_t*>(&block), sizeof block)}));
  }
}
