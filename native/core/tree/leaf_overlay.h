// Changed leaves over some base tree: a presence bit and a digest per block, in a sparse file. Layout: header
// page, presence bits (LSB first), digests; each part on a page boundary.
//
// State      header            contents                     after a crash
// --------   ---------------   --------------------------   ---------------------------------
// open       sealed = 0        grow with put()              debris: delete it
// sealed     generation,       final; BLAKE3 of all that    trustworthy: open() checks it
//            content digest    is present is in the header
//
// A present NULL (a block that became zero) has its bit and no digest bytes, so long zero runs stay cheap.
//
// Locking: put() and put_zeros() may run on several threads for distinct blocks, also beside get(),
// read_present() and next_node() for other blocks; the presence bits have one mutex. During seal() and
// everything else no put may be in flight.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "core/base/digest.h"
#include "core/base/sparse_file.h"
#include "core/tree/generation.h"
#include "core/tree/geometry.h"

namespace stillpoint {

class LeafOverlay {
 public:
  // The leaves under one level-1 node. Digests of absent leaves are NULL.
  struct Node {
    uint64_t present;  // bit i: leaf 64 * node_index + i
    std::array<Digest, kTreeFanout> digests;
  };

  // node() for ascending nodes, which does not read holes.
  class NodeReader {
   public:
    explicit NodeReader(const LeafOverlay& overlay);
    Node read(uint64_t node_index);

   private:
    const LeafOverlay& overlay_;
    HoleCursor cursor_;
  };

  static std::unique_ptr<LeafOverlay> create(const std::string& path, const TreeGeometry& geometry,
                                             const Digest& base_root);
  // `tree-damaged`, `bad-version`. Of a sealed overlay the contents are checked too.
  static std::unique_ptr<LeafOverlay> open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const TreeGeometry& geometry() const { return geometry_; }
  uint64_t block_count() const { return block_count_; }
  uint64_t present_count() const;
  const Digest& base_root() const { return base_root_; }
  const std::optional<Generation>& generation() const { return generation_; }

  // Leaves [first_index, first_index + count). A later put of the same block replaces it.
  void put(uint64_t first_index, const Digest* digests, uint64_t count);
  // The same with NULL for every leaf.
  void put_zeros(uint64_t first_index, uint64_t count);
  std::optional<Digest> get(uint64_t block_index) const;
  // Writes the present ones of leaves [first_index, first_index + count) over those in `leaves`.
  void read_present(uint64_t first_index, uint64_t count, Digest* leaves) const;
  // First level-1 node >= from with a present leaf, or kNoNode. Skips holes of the file.
  uint64_t next_node(uint64_t from) const;
  Node node(uint64_t node_index) const;
  static constexpr uint64_t kNoNode = ~uint64_t{0};

  // Syncs the contents, then the header with the generation that they lead to. Again with the same one: no
  // effect.
  void seal(const Generation& generation);

 private:
  LeafOverlay(SparseFile file, const TreeGeometry& geometry, const Digest& base_root);

  // A word for each level-1 node.
  uint64_t read_presence(uint64_t node_index) const;
  uint64_t digest_offset(uint64_t block_index) const;
  void check_put(uint64_t first_index, uint64_t count) const;
  void mark_present(uint64_t first_index, uint64_t count);
  uint64_t count_present() const;
  Digest content_digest() const;
  void write_header(const std::optional<Generation>& sealed) const;

  SparseFile file_;
  TreeGeometry geometry_;
  uint64_t block_count_;
  uint64_t node_count_;  // level-1 nodes
  uint64_t digests_begin_;
  Digest base_root_;
  std::optional<Generation> generation_;
  bool seal_failed_ = false;
  mutable std::mutex presence_mutex_;
  uint64_t present_count_ = 0;
};

}  // namespace stillpoint
