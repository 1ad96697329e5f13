// A device's digest tree in a sparse file: header page, then the levels from the leaves up, 32 bytes a
// digest, each level on a page boundary.
//
// State          header says        leaves and nodes        after a crash
// ------------   ----------------   ---------------------   --------------------------------------------
// at rest        generation G       G's                     G
// applying       generation G       G's and overlay's mix   redo apply() with the sealed overlay: overlay's
// header synced  overlay's          overlay's               overlay's; redo changes nothing
//
// Lookups go through a shared mapping. A pass over the whole file reads pieces of it, so that the mapping
// does not count as the process's memory. Writes go through pwrite (the kernel keeps all of these coherent),
// so that a full disk is ENOSPC from a call and not SIGBUS from a store. No heap memory per block.
//
// Locking: none; one owner per file. Any number of threads may read while none applies.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/digest.h"
#include "core/base/sparse_file.h"
#include "core/tree/generation.h"
#include "core/tree/geometry.h"

namespace stillpoint {

class LeafOverlay;

class TreeFile {
 public:
  // An all-NULL tree of no point. EEXIST if the path exists; nothing stays behind on failure.
  static std::unique_ptr<TreeFile> create(const std::string& path, const TreeGeometry& geometry,
                                          const Digester& digester);
  // Checks magic, version, checksum, geometry and file size: `tree-damaged`, `bad-version`. Whether the tree
  // was made with this digester is for verify() to find.
  static std::unique_ptr<TreeFile> open(const std::string& path, const Digester& digester);
  // Another size: leaves are kept where the block has the same length in both, nodes recomputed; of no point.
  static std::unique_ptr<TreeFile> resize(const TreeFile& from, const std::string& path, uint64_t size_bytes);

  ~TreeFile();

  const std::string& path() const { return file_.path(); }
  const TreeGeometry& geometry() const { return geometry_; }
  // Content is digested with this before it is compared with this tree.
  const Digester& digester() const { return digester_; }
  uint64_t block_count() const { return block_count_; }
  const Generation& generation() const { return generation_; }
  Digest top() const;

  // Leaves [first, first + count), which lie within block_count().
  void read_leaves(uint64_t first, uint64_t count, Digest* into) const;
  // The same of a level: nodes, or leaves for level 0. [first, first + count) lies within level_count(level).
  void read_digests(unsigned level, uint64_t first, uint64_t count, Digest* into) const;
  Digest leaf(uint64_t block_index) const;
  // First block index >= from whose leaf is not NULL, or block_count(). Skips by nodes: O(height * 64) over a
  // hole.
  uint64_t next_non_null(uint64_t from) const;
  // First block index >= from whose leaf is NULL, or block_count().
  uint64_t next_null(uint64_t from) const;

  // Recomputes every node from its children and compares with the nodes and the root. Costs what is not a
  // hole.
  bool verify() const;
  // Root with the overlay's leaves put over this tree; changes nothing.
  Digest root_with(const LeafOverlay& overlay) const;
  // Of the overlay's blocks whose leaves are not those of this tree. `geometry-mismatch`.
  uint64_t differing_bytes(const LeafOverlay& overlay) const;
  // Leaves and changed nodes, sync, header with the overlay's generation, sync. The overlay must be sealed,
  // and lead from this tree's generation (or already lead to it) to the root that it names; else nothing is
  // written.
  void apply(const LeafOverlay& overlay);

 private:
  struct Layout;
  class RunWriter;
  class LevelReader;

  static std::unique_ptr<TreeFile> create_empty(const std::string& path, const TreeGeometry& geometry,
                                                const Digester& digester);
  TreeFile(SparseFile file, const TreeGeometry& geometry, const Digester& digester,
           const Generation& generation);

  const Digest* level(unsigned level) const;
  uint64_t first_leaf_below(unsigned level, uint64_t index, uint64_t from) const;
  void write_header(const Generation& generation);
  // Visits every level-1 node with a present leaf in the overlay; writes if `write`. Returns the new top.
  Digest update(const LeafOverlay& overlay, bool write) const;

  SparseFile file_;
  TreeGeometry geometry_;
  const Digester digester_;
  uint64_t block_count_;
  std::unique_ptr<const Layout> layout_;
  Generation generation_;
};

}  // namespace stillpoint
