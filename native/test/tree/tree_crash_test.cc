// A child takes a tree through generation after generation and is killed at any moment; what it leaves must
// be the old generation, or become the new one by the redo of a sealed overlay.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "core/base/little_endian.h"
#include "core/tree/leaf_overlay.h"
#include "core/tree/tree_file.h"
#include "test/helpers/digesters.h"
#include "test/helpers/helpers.h"
#include "test/worlds/tree_model.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

constexpr TreeGeometry kGeometry{uint64_t{5000} * 4096, 4096};

// What generation `number` changes: the same in child and parent.
Level changes_of(uint64_t seed, uint64_t number) {
  Random random(seed * 1'000'003 + number);
  Level changes;
  for (int i = 0; i < 300; ++i)
    changes[random.below(5000)] = random.one_in(5) ? kNullDigest : random.digest();
  return changes;
}

uint64_t number_of(const Generation& generation) { return load_le<uint64_t>(generation.point_id.data()); }

[[noreturn]] void advance_for_ever(const std::string& tree_path, const std::string& overlay_path,
                                   uint64_t seed) {
  const auto tree = TreeFile::open(tree_path, kPlain);
  for (;;) {
    const uint64_t number = number_of(tree->generation()) + 1;
    const auto overlay = LeafOverlay::create(overlay_path, kGeometry, tree->generation().root);
    for (const auto& [index, digest] : changes_of(seed, number)) overlay->put(index, &digest, 1);
    Generation generation{{}, tree->root_with(*overlay)};
    store_le(generation.point_id.data(), number);
    overlay->seal(generation);
    tree->apply(*overlay);
    unlink(overlay_path.c_str());
  }
}

// The recovery that an owner does before it uses the tree. True if there was something to redo.
bool recover(TreeFile& tree, const std::string& overlay_path) {
  bool sealed = false;
  try {
    const auto overlay = LeafOverlay::open(overlay_path);
    sealed = overlay->generation().has_value();
    if (sealed) tree.apply(*overlay);
  } catch (const NativeError& error) {
    const bool debris = error.code() == "ENOENT" || error.code() == "tree-damaged";
    if (!debris) throw;
  }
  unlink(overlay_path.c_str());
  return sealed;
}

}  // namespace

TEST_CASE("a tree whose owner is killed is old or, redone, new") {
  const uint64_t seed = random_seed();
  INFO("STILLPOINT_TEST_SEED=", seed);
  Random random(seed);
  const TemporaryDirectory directory;
  const std::string tree_path = directory / "tree";
  const std::string overlay_path = directory / "overlay";
  TreeFile::create(tree_path, kGeometry, kPlain);
  Level leaves;
  uint64_t number = 0;
  int redone = 0;
  for (int round = 0; round < 60; ++round) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      try {
        advance_for_ever(tree_path, overlay_path, seed);
      } catch (...) {
        _exit(1);
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(30'000)));
    kill(child, SIGKILL);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));

    const auto tree = TreeFile::open(tree_path, kPlain);
    const uint64_t before = number_of(tree->generation());
    if (recover(*tree, overlay_path)) ++redone;
    const uint64_t reached = number_of(tree->generation());
    REQUIRE(reached <= before + 1);
    while (number < reached) {
      for (const auto& [index, digest] : changes_of(seed, ++number)) set(leaves, index, digest);
    }
    REQUIRE(number == reached);
    REQUIRE(tree->generation().root == model_root(kGeometry.size_bytes, kGeometry.block_size, leaves));
    REQUIRE(tree->verify());
  }
  CHECK(number > 0);
  MESSAGE("reached generation ", number, ", redone ", redone, " times in 60 kills");
}
