#include "core/tree/tree_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/little_endian.h"
#include "core/tree/digest_tree.h"
#include "core/tree/leaf_overlay.h"

namespace stillpoint {

namespace {

// Header: magic (8), u32 version, u32 block size, u64 size in bytes, point id (16), root (32), zeros,
// checksum of all before it (32). Written in one sector.
constexpr size_t kHeaderBytes = 512;
constexpr size_t kChecksumOffset = kHeaderBytes - kDigestBytes;
constexpr uint8_t kMagic[8] = {'S', 'P', 'T', 'R', 'E', 'E', '1', 0};
constexpr uint32_t kVersion = 1;
// 64^7 blocks of 4 KiB are more than the largest device.
constexpr unsigned kLevelsMax = 8;

Bytes as_bytes(const Digest* digests, size_t count) {
  return {reinterpret_cast<const uint8_t*>(digests), count * kDigestBytes};
}

[[noreturn]] void damaged(const std::string& path, const std::string& reason) {
  throw NativeError("tree-damaged", path + ": " + reason, path);
}

Digest load_digest(const uint8_t* at) {
  Digest digest;
  std::memcpy(digest.data(), at, kDigestBytes);
  return digest;
}

}  // namespace

// Where each level begins, and the length of the whole file.
struct TreeFile::Layout {
  explicit Layout(const TreeGeometry& geometry) : height(geometry.height()) {
    uint64_t offset = kPageBytes;
    for (unsigned level = 0; level <= height; ++level) {
      count[level] = geometry.level_count(level);
      begin[level] = offset;
      offset = page_up(offset + count[level] * kDigestBytes);
    }
    length = offset;
  }

  unsigned height;
  uint64_t count[kLevelsMax];
  uint64_t begin[kLevelsMax];
  uint64_t length;
};

// Collects digests of neighbours, level by level, into larger writes. NULLs that fall into a hole are left
// out. What the mapping shows is no reason to leave out anything else: after a failed sync it may show what
// the disk never got, and a redo must write it again.
class TreeFile::RunWriter {
 public:
  explicit RunWriter(const TreeFile& tree) : tree_(tree), runs_(tree.layout_->height + 1, Run(tree.file_)) {}

  // Ascending on each level.
  void put(unsigned level, uint64_t index, const Digest& digest) {
    Run& run = runs_[level];
    const uint64_t offset = tree_.layout_->begin[level] + index * kDigestBytes;
    if (is_null(digest) && run.cursor.in_hole(offset, offset + kDigestBytes)) return;
    if (offset != run.offset + run.digests.size() * kDigestBytes || run.digests.size() == kRunMax) {
      flush(run);
      run.offset = offset;
    }
    run.digests.push_back(digest);
  }

  void finish() {
    for (Run& run : runs_) flush(run);
  }

 private:
  static constexpr size_t kRunMax = 2048;
  struct Run {
    explicit Run(const SparseFile& file) : cursor(file) {}
    HoleCursor cursor;
    uint64_t offset = 0;
    std::vector<Digest> digests;
  };

  void flush(Run& run) {
    tree_.file_.write(run.offset, as_bytes(run.digests.data(), run.digests.size()));
    run.digests.clear();
  }

  const TreeFile& tree_;
  std::vector<Run> runs_;
};

// Reads levels, ascending on each, without touching their holes.
class TreeFile::LevelReader {
 public:
  explicit LevelReader(const TreeFile& tree)
      : tree_(tree), readers_(tree.layout_->height + 1, DataReader(tree.file_)) {}

  // Of one node's children at most.
  void read(unsigned level, uint64_t first, uint64_t count, Digest* into) {
    const uint64_t offset = tree_.layout_->begin[level] + first * kDigestBytes;
    const uint8_t* const found = readers_[level].read(offset, offset + count * kDigestBytes);
    if (found == nullptr) {
      std::fill_n(into, count, kNullDigest);
    } else {
      std::memcpy(into, found, count * kDigestBytes);
    }
  }

 private:
  const TreeFile& tree_;
  std::vector<DataReader> readers_;
};

TreeFile::TreeFile(SparseFile file, const TreeGeometry& geometry, const Digester& digester,
                   const Generation& generation)
    : file_(std::move(file)),
      geometry_(geometry),
      digester_(digester),
      block_count_(geometry.block_count()),
      layout_(std::make_unique<Layout>(geometry)),
      generation_(generation) {}

TreeFile::~TreeFile() = default;

std::unique_ptr<TreeFile> TreeFile::create_empty(const std::string& path, const TreeGeometry& geometry,
                                                 const Digester& digester) {
  if (!geometry.valid()) throw NativeError("argument", path + ": no such geometry", path);
  const Layout layout(geometry);
  SparseFile file = SparseFile::create(path, layout.length);
  // Every search begins at the top: it is never a hole.
  file.write(layout.begin[layout.height], kNullDigest);
  return std::unique_ptr<TreeFile>(new TreeFile(std::move(file), geometry, digester, Generation{}));
}

std::unique_ptr<TreeFile> TreeFile::create(const std::string& path, const TreeGeometry& geometry,
                                           const Digester& digester) {
  auto tree = create_empty(path, geometry, digester);
  tree->write_header({Id{}, digester.root_digest(geometry.size_bytes, geometry.block_size, kNullDigest)});
  tree->file_.commit_creation();
  return tree;
}

std::unique_ptr<TreeFile> TreeFile::open(const std::string& path, const Digester& digester) {
  SparseFile file = SparseFile::open(path);
  const uint8_t* header = file.data();
  if (file.length() < kPageBytes) damaged(path, "shorter than its header");
  if (std::memcmp(header, kMagic, sizeof kMagic) != 0) damaged(path, "not a digest tree");
  if (load_le<uint32_t>(header + 8) != kVersion) {
    throw NativeError("bad-version", path + ": a digest tree of an unknown version", path);
  }
  if (load_digest(header + kChecksumOffset) != checksum(Bytes(header, kChecksumOffset))) {
    damaged(path, "header checksum is wrong");
  }
  const TreeGeometry geometry{load_le<uint64_t>(header + 16), load_le<uint32_t>(header + 12)};
  if (!geometry.valid()) damaged(path, "header names an impossible geometry");
  if (file.length() != Layout(geometry).length) damaged(path, "file size does not fit the geometry");
  Generation generation;
  std::memcpy(generation.point_id.data(), header + 24, generation.point_id.size());
  generation.root = load_digest(header + 40);
  return std::unique_ptr<TreeFile>(new TreeFile(std::move(file), geometry, digester, generation));
}

std::unique_ptr<TreeFile> TreeFile::resize(const TreeFile& from, const std::string& path,
                                           uint64_t size_bytes) {
  const TreeGeometry geometry{size_bytes, from.geometry_.block_size};
  auto tree = create_empty(path, geometry, from.digester_);
  const uint64_t kept = size_bytes == from.geometry_.size_bytes
                            ? from.block_count_
                            : std::min(size_bytes, from.geometry_.size_bytes) / geometry.block_size;
  RunWriter writer(*tree);
  NodeUpdater nodes(
      from.digester_, geometry,
      [](unsigned, uint64_t, uint64_t count, Digest* into) { std::fill_n(into, count, kNullDigest); },
      [&](unsigned level, uint64_t index, const Digest& digest) { writer.put(level, index, digest); });
  for (uint64_t block = from.next_non_null(0); block < kept;) {
    const uint64_t node = block / kTreeFanout;
    const uint64_t first = node * kTreeFanout;
    const uint64_t count = std::min(kTreeFanout, kept - first);
    std::array<Digest, kTreeFanout> children;
    from.read_leaves(first, count, children.data());
    for (uint64_t i = 0; i < count; ++i) writer.put(0, first + i, children[i]);
    nodes.set(node, from.digester_.node_digest(as_bytes(children.data(), count)));
    block = from.next_non_null(first + count);
  }
  const Digest top = nodes.finish();
  writer.finish();
  tree->file_.sync();
  tree->write_header({Id{}, from.digester_.root_digest(size_bytes, geometry.block_size, top)});
  tree->file_.commit_creation();
  return tree;
}

void TreeFile::write_header(const Generation& generation) {
  uint8_t header[kHeaderBytes] = {};
  std::memcpy(header, kMagic, sizeof kMagic);
  store_le<uint32_t>(header + 8, kVersion);
  store_le<uint32_t>(header + 12, geometry_.block_size);
  store_le<uint64_t>(header + 16, geometry_.size_bytes);
  std::memcpy(header + 24, generation.point_id.data(), generation.point_id.size());
  std::memcpy(header + 40, generation.root.data(), kDigestBytes);
  const Digest sum = checksum(Bytes(header, kChecksumOffset));
  std::memcpy(header + kChecksumOffset, sum.data(), kDigestBytes);
  file_.write(0, header);
  generation_ = generation;
}

const Digest* TreeFile::level(unsigned level) const {
  return reinterpret_cast<const Digest*>(file_.data() + layout_->begin[level]);
}

Digest TreeFile::top() const { return block_count_ == 0 ? kNullDigest : *level(layout_->height); }

void TreeFile::read_leaves(uint64_t first, uint64_t count, Digest* into) const {
  read_digests(0, first, count, into);
}

void TreeFile::read_digests(unsigned level, uint64_t first, uint64_t count, Digest* into) const {
  file_.read(layout_->begin[level] + first * kDigestBytes,
             {reinterpret_cast<uint8_t*>(into), count * kDigestBytes});
}

Digest TreeFile::leaf(uint64_t block_index) const {
  Digest leaf;
  read_leaves(block_index, 1, &leaf);
  return leaf;
}

uint64_t TreeFile::next_non_null(uint64_t from) const {
  return from < block_count_ ? first_leaf_below(layout_->height, 0, from) : block_count_;
}

// First leaf >= from that isn't NULL below a node, or block_count_. Goes below no NULL, so into no hole.
uint64_t TreeFile::first_leaf_below(unsigned at, uint64_t index, uint64_t from) const {
  if (is_null(level(at)[index])) return block_count_;
  if (at == 0) return index;
  const uint64_t end = std::min((index + 1) * kTreeFanout, layout_->count[at - 1]);
  for (uint64_t child = std::max(index * kTreeFanout, from >> (6 * (at - 1))); child < end; ++child) {
    const uint64_t found = first_leaf_below(at - 1, child, from);
    if (found < block_count_) return found;
  }
  return block_count_;
}

uint64_t TreeFile::next_null(uint64_t from) const {
  if (from >= block_count_) return block_count_;
  const uint64_t begin = layout_->begin[0];
  const uint64_t hole = file_.next_hole(begin + from * kDigestBytes, begin + block_count_ * kDigestBytes);
  const uint64_t end = (hole - begin) / kDigestBytes;
  const Digest* const leaves = level(0);
  while (from < end && !is_null(leaves[from])) ++from;
  return from;
}

bool TreeFile::verify() const {
  for (unsigned at = 1; at <= layout_->height; ++at) {
    // Nodes without data of their own or below them are NULL, and rightly so.
    const uint64_t children_begin = layout_->begin[at - 1];
    const uint64_t children_end = children_begin + layout_->count[at - 1] * kDigestBytes;
    const uint64_t nodes_begin = layout_->begin[at];
    const uint64_t nodes_end = nodes_begin + layout_->count[at] * kDigestBytes;
    DataReader children(file_);
    DataReader nodes(file_);
    uint64_t node = 0;
    while (node < layout_->count[at]) {
      const uint64_t child_from = children_begin + node * kNodeBytesMax;
      const uint64_t child_to = std::min(child_from + kNodeBytesMax, children_end);
      const uint64_t node_from = nodes_begin + node * kDigestBytes;
      const uint8_t* const below = children.read(child_from, child_to);
      const uint8_t* const here = nodes.read(node_from, node_from + kDigestBytes);
      if (below == nullptr && here == nullptr) {
        const uint64_t next_child = file_.next_data(child_from, children_end);
        const uint64_t next_node = file_.next_data(node_from, nodes_end);
        node =
            std::min((next_child - children_begin) / kNodeBytesMax, (next_node - nodes_begin) / kDigestBytes);
        if (next_child == children_end && next_node == nodes_end) break;
        continue;
      }
      const Digest expected =
          below == nullptr ? kNullDigest : digester_.node_digest(Bytes(below, child_to - child_from));
      if ((here == nullptr ? kNullDigest : load_digest(here)) != expected) return false;
      ++node;
    }
  }
  return digester_.root_digest(geometry_.size_bytes, geometry_.block_size, top()) == generation_.root;
}

Digest TreeFile::root_with(const LeafOverlay& overlay) const {
  if (overlay.geometry() != geometry_) {
    throw NativeError("geometry-mismatch", overlay.path() + ": not of this tree's geometry", overlay.path());
  }
  return digester_.root_digest(geometry_.size_bytes, geometry_.block_size, update(overlay, /*write=*/false));
}

uint64_t TreeFile::differing_bytes(const LeafOverlay& overlay) const {
  if (overlay.geometry() != geometry_) {
    throw NativeError("geometry-mismatch", overlay.path() + ": not of this tree's geometry", overlay.path());
  }
  uint64_t bytes = 0;
  std::array<Digest, kTreeFanout> leaves;
  LeafOverlay::NodeReader reader(overlay);
  for (uint64_t at = overlay.next_node(0); at != LeafOverlay::kNoNode; at = overlay.next_node(at + 1)) {
    const LeafOverlay::Node node = reader.read(at);
    const uint64_t begin = at * kTreeFanout;
    const uint64_t count = std::min(kTreeFanout, block_count() - begin);
    read_leaves(begin, count, leaves.data());
    for (uint64_t i = 0; i < count; i++) {
      if ((node.present >> i & 1) != 0 && node.digests[i] != leaves[i])
        bytes += geometry_.block_length(begin + i);
    }
  }
  return bytes;
}

void TreeFile::apply(const LeafOverlay& overlay) {
  if (!overlay.generation()) throw NativeError("argument", overlay.path() + ": not sealed", overlay.path());
  const Generation& target = *overlay.generation();
  if (overlay.base_root() != generation_.root && target != generation_) {
    throw NativeError("bad-digest", overlay.path() + ": made for another tree than " + path(),
                      overlay.path());
  }
  if (root_with(overlay) != target.root) {
    damaged(path(), "with " + overlay.path() + " over it, it does not give the root of that generation");
  }
  update(overlay, /*write=*/true);
  file_.sync();
  write_header(target);
  file_.sync();
}

Digest TreeFile::update(const LeafOverlay& overlay, bool write) const {
  RunWriter writer(*this);
  LevelReader reader(*this);
  NodeUpdater nodes(
      digester_, geometry_,
      [&](unsigned at, uint64_t first, uint64_t count, Digest* into) { reader.read(at, first, count, into); },
      [&](unsigned at, uint64_t index, const Digest& digest) {
        if (write) writer.put(at, index, digest);
      });
  LeafOverlay::NodeReader changes(overlay);
  for (uint64_t node = overlay.next_node(0); node != LeafOverlay::kNoNode;
       node = overlay.next_node(node + 1)) {
    const uint64_t first = node * kTreeFanout;
    const uint64_t count = std::min<uint64_t>(kTreeFanout, block_count_ - first);
    const LeafOverlay::Node change = changes.read(node);
    std::array<Digest, kTreeFanout> children;
    reader.read(0, first, count, children.data());
    for (uint64_t i = 0; i < count; ++i) {
      if ((change.present >> i & 1) == 0) continue;
      children[i] = change.digests[i];
      if (write) writer.put(0, first + i, children[i]);
    }
    nodes.set(node, digester_.node_digest(as_bytes(children.data(), count)));
  }
  const Digest top = nodes.finish();
  writer.finish();
  return top;
}

}  // namespace stillpoint
