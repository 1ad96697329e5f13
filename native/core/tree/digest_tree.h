// Recomputes the nodes above changed leaves, in one pass from the left, with memory for one node per level.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "core/base/digest.h"
#include "core/tree/geometry.h"

namespace stillpoint {

class NodeUpdater {
 public:
  // Digests [first, first + count) of a level from 1 as they stand before the update; ascending on each
  // level.
  using LevelReader = std::function<void(unsigned level, uint64_t first, uint64_t count, Digest* into)>;
  using NodeSink = std::function<void(unsigned level, uint64_t node_index, const Digest& digest)>;

  NodeUpdater(const Digester& digester, const TreeGeometry& geometry, LevelReader before, NodeSink sink);

  // Level-1 nodes in strictly ascending order. Every node that this changes, on all levels, goes to the sink.
  void set(uint64_t node_index, const Digest& digest);
  // The top node's digest.
  Digest finish();

 private:
  // The node above some level that is being put together.
  struct Open {
    bool active = false;
    uint64_t node_index = 0;
    std::array<Digest, kTreeFanout> children;
  };

  void emit(unsigned level, uint64_t node_index, const Digest& digest);
  void close(unsigned level);

  const Digester digester_;
  TreeGeometry geometry_;
  unsigned height_;
  LevelReader before_;
  NodeSink sink_;
  std::vector<Open> open_;  // [k]: the node of level k whose children come from level k - 1; k from 2
};

}  // namespace stillpoint
