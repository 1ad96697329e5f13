#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <limits>

#include "core/tree/leaf_overlay.h"
#include "core/tree/tree_file.h"
#include "test/helpers/digesters.h"
#include "test/helpers/helpers.h"
#include "test/worlds/tree_model.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kTiB = uint64_t{1} << 40;

// Empty, one short block, 64^k - 1, 64^k, 64^k + 1 blocks with and without a short tail, 16 TiB, and some at
// random.
std::vector<TreeGeometry> geometries(Random& random) {
  std::vector<TreeGeometry> all = {{0, 4096}, {1, 4096}, {4096, 4096}, {16 * kTiB, 64 * kKiB}};
  for (uint64_t reach : {64u, 64u * 64, 64u * 64 * 64}) {
    for (uint64_t count : {reach - 1, reach, reach + 1}) {
      all.push_back({count * 4096, 4096});
      all.push_back({count * 4096 - 1000, 4096});
    }
  }
  for (int i = 0; i < 6; ++i) {
    all.push_back({random.below(uint64_t{1} << (10 + random.below(30))), uint32_t{4096} << random.below(11)});
  }
  return all;
}

// Neighbours, runs over node borders, scattered ones, both ends; some NULL.
Level random_changes(Random& random, uint64_t block_count) {
  Level changes;
  if (block_count == 0) return changes;
  changes[0] = random.digest();
  changes[block_count - 1] = random.digest();
  for (int run = 0; run < 20; ++run) {
    const uint64_t first = random.below(block_count);
    const uint64_t end = std::min(block_count, first + 1 + random.below(run % 4 == 0 ? 200 : 3));
    for (uint64_t i = first; i < end; ++i) changes[i] = random.one_in(4) ? kNullDigest : random.digest();
  }
  return changes;
}

void put_all(LeafOverlay& overlay, const Level& changes) {
  for (const auto& [index, digest] : changes) overlay.put(index, &digest, 1);
}

uint64_t allocated_bytes(const std::string& path) {
  struct stat status;
  REQUIRE(stat(path.c_str(), &status) == 0);
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

void flip_bit(const std::string& path, uint64_t byte_offset, unsigned bit) {
  const int fd = open(path.c_str(), O_RDWR);
  uint8_t byte = 0;
  REQUIRE(pread(fd, &byte, 1, static_cast<off_t>(byte_offset)) == 1);
  byte ^= static_cast<uint8_t>(1 << bit);
  REQUIRE(pwrite(fd, &byte, 1, static_cast<off_t>(byte_offset)) == 1);
  close(fd);
}

Id id_of(uint8_t byte) {
  Id id;
  id.fill(byte);
  return id;
}

// A tree of the geometry whose leaves are `leaves`.
std::unique_ptr<TreeFile> make_tree(const TemporaryDirectory& directory, const std::string& name,
                                    const TreeGeometry& geometry, const Level& leaves) {
  auto tree = TreeFile::create(directory / name, geometry, kPlain);
  auto overlay = LeafOverlay::create(directory / (name + ".overlay"), geometry, tree->generation().root);
  put_all(*overlay, leaves);
  overlay->seal({id_of(1), tree->root_with(*overlay)});
  tree->apply(*overlay);
  return tree;
}

}  // namespace

TEST_CASE("tree and overlay agree with the model on every geometry") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  for (const TreeGeometry& geometry : geometries(random)) {
    INFO("size ", geometry.size_bytes, ", block size ", geometry.block_size);
    const TemporaryDirectory directory;
    auto tree = TreeFile::create(directory / "tree", geometry, kPlain);
    Level leaves;
    REQUIRE(tree->generation() ==
            Generation{{}, model_root(geometry.size_bytes, geometry.block_size, leaves)});
    REQUIRE(tree->verify());

    for (uint8_t round = 1; round <= 3; ++round) {
      const std::string overlay_path = directory / ("overlay" + std::to_string(round));
      auto overlay = LeafOverlay::create(overlay_path, geometry, tree->generation().root);
      const Level changes = random_changes(random, tree->block_count());
      put_all(*overlay, changes);
      REQUIRE(overlay->present_count() == changes.size());
      for (const auto& [index, digest] : changes) {
        REQUIRE(overlay->get(index) == digest);
        set(leaves, index, digest);
      }
      const Digest expected = model_root(geometry.size_bytes, geometry.block_size, leaves);
      REQUIRE(tree->root_with(*overlay) == expected);
      REQUIRE(code_of([&] { tree->apply(*overlay); }) == "argument");  // not sealed
      overlay->seal({id_of(round), expected});
      overlay = LeafOverlay::open(overlay_path);
      REQUIRE(overlay->present_count() == changes.size());
      tree->apply(*overlay);
      if (random.one_in(2)) tree->apply(*overlay);  // the redo
      if (random.one_in(2)) tree = TreeFile::open(directory / "tree", kPlain);
      REQUIRE(tree->generation() == Generation{id_of(round), expected});
      REQUIRE(tree->verify());
    }

    uint64_t block = tree->next_non_null(0);
    for (const auto& [index, digest] : leaves) {
      REQUIRE(block == index);
      REQUIRE(tree->leaf(index) == digest);
      uint64_t null = index;
      while (leaves.contains(null)) ++null;
      REQUIRE(tree->next_null(index) == std::min(null, tree->block_count()));
      block = tree->next_non_null(index + 1);
    }
    REQUIRE(block == tree->block_count());
    REQUIRE(allocated_bytes(directory / "tree") < (uint64_t{16} << 20));
  }
}

TEST_CASE("a changed size keeps whole blocks and recomputes the nodes") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  const std::vector<TreeGeometry> from_sizes = geometries(random);
  for (const TreeGeometry& geometry : from_sizes) {
    const TemporaryDirectory directory;
    Level leaves;
    for (const auto& [index, digest] : random_changes(random, geometry.block_count()))
      set(leaves, index, digest);
    const auto tree = make_tree(directory, "tree", geometry, leaves);
    const uint64_t other_size =
        geometry.size_bytes > kTiB ? random.below(20 * kTiB) : from_sizes[random.below(6)].size_bytes;
    for (const uint64_t size :
         {other_size, geometry.size_bytes, geometry.size_bytes + 1, geometry.size_bytes / 2}) {
      INFO("from ", geometry.size_bytes, " to ", size, ", block size ", geometry.block_size);
      const TreeGeometry to{size, geometry.block_size};
      Level kept;
      for (const auto& [index, digest] : leaves) {
        if (index < to.block_count() && to.block_length(index) == geometry.block_length(index))
          kept[index] = digest;
      }
      const std::string path = directory / "resized";
      const auto resized = TreeFile::resize(*tree, path, size);
      CHECK(resized->geometry() == to);
      CHECK(resized->generation() == Generation{{}, model_root(size, geometry.block_size, kept)});
      CHECK(resized->verify());
      for (const auto& [index, digest] : kept) REQUIRE(resized->leaf(index) == digest);
      std::filesystem::remove(path);
    }
  }
}

TEST_CASE("verify finds any flipped bit in leaves and nodes") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  const TemporaryDirectory directory;
  const TreeGeometry geometry{uint64_t{5000} * 4096, 4096};
  Level leaves;
  for (uint64_t i = 0; i < 5000; i += 1 + random.below(50)) leaves[i] = random.digest();
  const auto tree = make_tree(directory, "tree", geometry, leaves);
  REQUIRE(tree->verify());
  // Level 0 begins at 4096 and takes 40 pages; 79 nodes, 2 nodes and the top take a page each.
  const std::pair<uint64_t, uint64_t> levels[] = {
      {4096, 5000}, {41 * 4096, 79}, {42 * 4096, 2}, {43 * 4096, 1}};
  REQUIRE(std::filesystem::file_size(directory / "tree") == 44 * 4096);
  for (int i = 0; i < 400; ++i) {
    const auto& [begin, count] = levels[i % 4];
    const uint64_t at = begin + random.below(count * 32);
    const auto bit = static_cast<unsigned>(random.below(8));
    flip_bit(directory / "tree", at, bit);
    REQUIRE_FALSE(tree->verify());
    flip_bit(directory / "tree", at, bit);
  }
  REQUIRE(tree->verify());
}

TEST_CASE("files that aren't whole or aren't trees are refused by name") {
  const TemporaryDirectory directory;
  const std::string path = directory / "tree";
  const TreeGeometry geometry{uint64_t{100} * 4096, 4096};
  const auto tree_code = [&] { return code_of([&] { TreeFile::open(path, kPlain); }); };
  const auto overlay_code = [&] { return code_of([&] { LeafOverlay::open(path); }); };

  CHECK(tree_code() == "ENOENT");
  CHECK(code_of([&] { TreeFile::create(path, {4096, 4095}, kPlain); }) == "argument");
  CHECK_FALSE(std::filesystem::exists(path));
  TreeFile::create(path, geometry, kPlain);
  CHECK(code_of([&] { TreeFile::create(path, geometry, kPlain); }) == "EEXIST");
  CHECK(tree_code() == "");
  CHECK(overlay_code() == "tree-damaged");
  for (uint64_t at = 0; at < 512; ++at) {
    flip_bit(path, at, at % 8);
    REQUIRE(tree_code() == (at >= 8 && at < 12 ? "bad-version" : "tree-damaged"));
    flip_bit(path, at, at % 8);
  }
  const uint64_t size = std::filesystem::file_size(path);
  for (const uint64_t wrong : {uint64_t{0}, uint64_t{100}, uint64_t{4096}, size - 1, size - 4096, size + 1}) {
    std::filesystem::resize_file(path, wrong);
    REQUIRE(tree_code() == "tree-damaged");
    std::filesystem::resize_file(path, size);
  }

  std::filesystem::remove(path);
  auto overlay = LeafOverlay::create(path, geometry, checksum(Bytes{}));
  CHECK(code_of([&] { LeafOverlay::create(path, geometry, kNullDigest); }) == "EEXIST");
  const Digest digest = checksum(Bytes{});
  overlay->put(70, &digest, 1);
  overlay->seal({id_of(7), digest});
  CHECK(overlay_code() == "");
  for (uint64_t at = 0; at < 512; ++at) {
    flip_bit(path, at, at % 8);
    REQUIRE(overlay_code() == (at >= 8 && at < 12 ? "bad-version" : "tree-damaged"));
    flip_bit(path, at, at % 8);
  }
  // Presence bits at 4096, digests of 2 * 64 leaves at 8192.
  for (const uint64_t at :
       {uint64_t{4096}, uint64_t{4096 + 8}, uint64_t{8192}, uint64_t{8192 + 70 * 32 + 5}}) {
    flip_bit(path, at, 3);
    CHECK(overlay_code() == (at == 8192 ? "" : "tree-damaged"));  // leaf 0 lies in no present node
    flip_bit(path, at, 3);
  }
  std::filesystem::resize_file(path, 8192);
  CHECK(overlay_code() == "tree-damaged");
}

TEST_CASE("apply refuses an overlay of another tree and changes nothing") {
  const TemporaryDirectory directory;
  const TreeGeometry geometry{uint64_t{1000} * 4096, 4096};
  const Digest digest = checksum(Bytes{});
  const auto tree = make_tree(directory, "tree", geometry, {{5, digest}});
  const Generation before = tree->generation();

  const auto other_base = LeafOverlay::create(directory / "a", geometry, digest);
  other_base->put(1, &digest, 1);
  other_base->seal({id_of(2), tree->root_with(*other_base)});
  CHECK(code_of([&] { tree->apply(*other_base); }) == "bad-digest");

  const auto false_root = LeafOverlay::create(directory / "b", geometry, before.root);
  false_root->put(1, &digest, 1);
  false_root->seal({id_of(2), digest});
  CHECK(code_of([&] { tree->apply(*false_root); }) == "tree-damaged");

  const auto other_geometry = LeafOverlay::create(directory / "c", {1000 * 4096 + 1, 4096}, before.root);
  other_geometry->seal({id_of(2), digest});
  CHECK(code_of([&] { tree->apply(*other_geometry); }) == "geometry-mismatch");

  CHECK(tree->generation() == before);
  CHECK(tree->verify());
  CHECK(is_null(tree->leaf(1)));
}

TEST_CASE("blocks beyond the device are refused") {
  const TemporaryDirectory directory;
  const auto overlay = LeafOverlay::create(directory / "overlay", {uint64_t{100} * 4096, 4096}, kNullDigest);
  const Digest digest = checksum(Bytes{});
  CHECK(code_of([&] { overlay->put(100, &digest, 1); }) == "bad-index");
  CHECK(code_of([&] { overlay->put_zeros(99, 2); }) == "bad-index");
  CHECK(code_of([&] { overlay->put_zeros(1, std::numeric_limits<uint64_t>::max()); }) == "bad-index");
  CHECK(code_of([&] { overlay->get(100); }) == "bad-index");
  CHECK(code_of([&] { overlay->node(2); }) == "bad-index");
  CHECK(overlay->present_count() == 0);
  CHECK(overlay->next_node(0) == LeafOverlay::kNoNode);
}

TEST_CASE("a full disk is an error, not a signal, and apply can be redone when there is room") {
  const TemporaryDirectory directory;
  const std::string mounted = directory / "small";
  std::filesystem::create_directory(mounted);
  if (mount("tmpfs", mounted.c_str(), "tmpfs", 0, "size=256k") != 0) {
    MESSAGE("skipped: mounting a small file system needs root");
    return;
  }
  {
    const TreeGeometry geometry{16 * kTiB, 64 * kKiB};
    const auto tree = TreeFile::create(mounted + "/tree", geometry, kPlain);
    const Generation empty = tree->generation();
    const auto overlay = LeafOverlay::create(directory / "overlay", geometry, empty.root);
    const auto small_overlay = LeafOverlay::create(mounted + "/overlay", geometry, empty.root);
    const Digest digest = checksum(Bytes{});
    std::string code;
    Level leaves;
    for (uint64_t i = 0; i < 100; ++i) {
      const uint64_t block = i * 1'000'003;
      overlay->put(block, &digest, 1);
      leaves[block] = digest;
      if (code.empty()) code = code_of([&] { small_overlay->put(block, &digest, 1); });
    }
    CHECK(code == "ENOSPC");
    std::filesystem::remove(mounted + "/overlay");

    overlay->seal({id_of(3), tree->root_with(*overlay)});
    CHECK(code_of([&] { tree->apply(*overlay); }) == "ENOSPC");
    CHECK(TreeFile::open(mounted + "/tree", kPlain)->generation() == empty);
    REQUIRE(mount("tmpfs", mounted.c_str(), "tmpfs", MS_REMOUNT, "size=64m") == 0);
    tree->apply(*overlay);
    CHECK(tree->verify());
    CHECK(tree->generation().root == model_root(geometry.size_bytes, geometry.block_size, leaves));
  }
  CHECK(umount2(mounted.c_str(), MNT_DETACH) == 0);
}

TEST_CASE("a tree has the root that b3sum computes by hand") {
  // Leaf 2 of 10 blocks is a block of 0x01; node: b3sum --derive-key over 64 zero bytes and the leaf; root
  // likewise.
  const TemporaryDirectory directory;
  const std::vector<uint8_t> block(4096, 1);
  const auto tree =
      make_tree(directory, "tree", {uint64_t{10} * 4096, 4096}, {{2, kPlain.leaf_digest(block)}});
  const auto hex = [](const Digest& digest) {
    std::string text;
    for (const uint8_t byte : digest) {
      text += "0123456789abcdef"[byte >> 4];
      text += "0123456789abcdef"[byte & 15];
    }
    return text;
  };
  CHECK(hex(tree->leaf(2)) == "ed6fa96673c067b0b7dc9914a8b8a3a12f0b0fc34cbea2b491f2486bc2d39bf0");
  CHECK(hex(tree->top()) == "222bdc3f3d17a63b66c9afddb71aa519dbf689e802b5ee528adaac932c808009");
  CHECK(hex(tree->generation().root) == "8ec98dc1ed7b0cdf8d24207eb32313f7bb9b97aa43fb2106cdbf3f8cdb762282");
}
