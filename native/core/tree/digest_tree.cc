#include "core/tree/digest_tree.h"

#include <algorithm>
#include <utility>

namespace stillpoint {

NodeUpdater::NodeUpdater(const Digester& digester, const TreeGeometry& geometry, LevelReader before,
                         NodeSink sink)
    : digester_(digester),
      geometry_(geometry),
      height_(geometry.height()),
      before_(std::move(before)),
      sink_(std::move(sink)),
      open_(height_ + 1) {}

void NodeUpdater::set(uint64_t node_index, const Digest& digest) { emit(1, node_index, digest); }

void NodeUpdater::emit(unsigned level, uint64_t node_index, const Digest& digest) {
  sink_(level, node_index, digest);
  if (level == height_) {
    open_[1].children[0] = digest;  // slot 1 is free: it keeps the top
    open_[1].active = true;
    return;
  }
  Open& parent = open_[level + 1];
  const uint64_t parent_index = node_index / kTreeFanout;
  if (parent.active && parent.node_index != parent_index) close(level + 1);
  if (!parent.active) {
    const uint64_t first = parent_index * kTreeFanout;
    const uint64_t count = std::min<uint64_t>(kTreeFanout, geometry_.level_count(level) - first);
    parent.active = true;
    parent.node_index = parent_index;
    parent.children.fill(kNullDigest);
    before_(level, first, count, parent.children.data());
  }
  parent.children[node_index % kTreeFanout] = digest;
}

void NodeUpdater::close(unsigned level) {
  Open& node = open_[level];
  node.active = false;
  emit(level, node.node_index, digester_.node_digest(Bytes(node.children.front().data(), kNodeBytesMax)));
}

Digest NodeUpdater::finish() {
  for (unsigned level = 2; level <= height_; ++level) {
    if (open_[level].active) close(level);
  }
  if (!open_[1].active) before_(height_, 0, 1, open_[1].children.data());
  return open_[1].children[0];
}

}  // namespace stillpoint
