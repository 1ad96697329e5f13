#include "core/tree/leaf_overlay.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/little_endian.h"

namespace stillpoint {

namespace {

// Header: magic (8), u32 version, u32 block size, u64 size in bytes, base root (32), u64 sealed, point id
// (16), root (32), u64 present count, content digest (32), zeros, checksum of all before it (32). Written in
// one sector.
constexpr size_t kHeaderBytes = 512;
constexpr size_t kChecksumOffset = kHeaderBytes - kDigestBytes;
constexpr uint8_t kMagic[8] = {'S', 'P', 'L', 'E', 'A', 'F', '1', 0};
constexpr uint32_t kVersion = 1;
constexpr uint64_t kPresenceBegin = kPageBytes;
constexpr size_t kContentDigestOffset = 152;

[[noreturn]] void damaged(const std::string& path, const std::string& reason) {
  throw NativeError("tree-damaged", path + ": " + reason, path);
}

uint64_t nodes_for(uint64_t block_count) { return (block_count + kTreeFanout - 1) / kTreeFanout; }

uint64_t digests_begin_for(const TreeGeometry& geometry) {
  return page_up(kPresenceBegin + nodes_for(geometry.block_count()) * sizeof(uint64_t));
}

// Pages of padding after the last leaf would be none of ours, but node() reads 64 leaves at once.
uint64_t length_for(const TreeGeometry& geometry) {
  return page_up(digests_begin_for(geometry) + nodes_for(geometry.block_count()) * kNodeBytesMax);
}

// `count` bits from `first`.
uint64_t bits(uint64_t first, uint64_t count) {
  return (count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1) << first;
}

}  // namespace

LeafOverlay::LeafOverlay(SparseFile file, const TreeGeometry& geometry, const Digest& base_root)
    : file_(std::move(file)),
      geometry_(geometry),
      block_count_(geometry.block_count()),
      node_count_(nodes_for(block_count_)),
      digests_begin_(digests_begin_for(geometry)),
      base_root_(base_root) {}

std::unique_ptr<LeafOverlay> LeafOverlay::create(const std::string& path, const TreeGeometry& geometry,
                                                 const Digest& base_root) {
  if (!geometry.valid()) throw NativeError("argument", path + ": no such geometry", path);
  std::unique_ptr<LeafOverlay> overlay(
      new LeafOverlay(SparseFile::create(path, length_for(geometry)), geometry, base_root));
  overlay->write_header(std::nullopt);
  overlay->file_.commit_creation();
  return overlay;
}

std::unique_ptr<LeafOverlay> LeafOverlay::open(const std::string& path) {
  SparseFile file = SparseFile::open(path);
  const uint8_t* header = file.data();
  if (file.length() < kPageBytes) damaged(path, "shorter than its header");
  if (std::memcmp(header, kMagic, sizeof kMagic) != 0) damaged(path, "not a leaf overlay");
  if (load_le<uint32_t>(header + 8) != kVersion) {
    throw NativeError("bad-version", path + ": a leaf overlay of an unknown version", path);
  }
  const Digest sum = checksum(Bytes(header, kChecksumOffset));
  if (std::memcmp(sum.data(), header + kChecksumOffset, kDigestBytes) != 0) {
    damaged(path, "header checksum is wrong");
  }
  const TreeGeometry geometry{load_le<uint64_t>(header + 16), load_le<uint32_t>(header + 12)};
  if (!geometry.valid()) damaged(path, "header names an impossible geometry");
  if (file.length() != length_for(geometry)) damaged(path, "file size does not fit the geometry");
  Digest base_root;
  std::memcpy(base_root.data(), header + 24, kDigestBytes);
  std::unique_ptr<LeafOverlay> overlay(new LeafOverlay(std::move(file), geometry, base_root));
  overlay->present_count_ = overlay->count_present();
  if (load_le<uint64_t>(header + 56) != 0) {
    Generation generation;
    std::memcpy(generation.point_id.data(), header + 64, generation.point_id.size());
    std::memcpy(generation.root.data(), header + 80, kDigestBytes);
    const Digest content = overlay->content_digest();
    if (load_le<uint64_t>(header + 112) != overlay->present_count_ ||
        std::memcmp(content.data(), header + kContentDigestOffset, kDigestBytes) != 0) {
      damaged(path, "its contents are not those that were sealed");
    }
    overlay->generation_ = generation;
  }
  return overlay;
}

void LeafOverlay::write_header(const std::optional<Generation>& sealed) const {
  uint8_t header[kHeaderBytes] = {};
  std::memcpy(header, kMagic, sizeof kMagic);
  store_le<uint32_t>(header + 8, kVersion);
  store_le<uint32_t>(header + 12, geometry_.block_size);
  store_le<uint64_t>(header + 16, geometry_.size_bytes);
  std::memcpy(header + 24, base_root_.data(), kDigestBytes);
  if (sealed) {
    store_le<uint64_t>(header + 56, 1);
    std::memcpy(header + 64, sealed->point_id.data(), sealed->point_id.size());
    std::memcpy(header + 80, sealed->root.data(), kDigestBytes);
    store_le<uint64_t>(header + 112, present_count_);
    const Digest content = content_digest();
    std::memcpy(header + kContentDigestOffset, content.data(), kDigestBytes);
  }
  const Digest sum = checksum(Bytes(header, kChecksumOffset));
  std::memcpy(header + kChecksumOffset, sum.data(), kDigestBytes);
  file_.write(0, header);
}

uint64_t LeafOverlay::present_count() const {
  std::lock_guard lock(presence_mutex_);
  return present_count_;
}

uint64_t LeafOverlay::digest_offset(uint64_t block_index) const {
  return digests_begin_ + block_index * kDigestBytes;
}

void LeafOverlay::check_put(uint64_t first_index, uint64_t count) const {
  if (generation_) throw NativeError("argument", path() + ": sealed, it takes no more blocks", path());
  if (first_index > block_count_ || count > block_count_ - first_index) {
    throw NativeError("bad-index", path() + ": block index beyond the device", path());
  }
}

void LeafOverlay::put(uint64_t first_index, const Digest* digests, uint64_t count) {
  check_put(first_index, count);
  file_.write(digest_offset(first_index),
              {reinterpret_cast<const uint8_t*>(digests), static_cast<size_t>(count * kDigestBytes)});
  mark_present(first_index, count);
}

void LeafOverlay::put_zeros(uint64_t first_index, uint64_t count) {
  check_put(first_index, count);
  static constexpr uint8_t kZeros[64 * 1024] = {};
  const uint64_t end = digest_offset(first_index + count);
  uint64_t at = file_.next_data(digest_offset(first_index), end);
  while (at < end) {
    const size_t length = std::min(end, file_.next_hole(at, end)) - at;
    const size_t piece = std::min(length, sizeof kZeros);
    if (!is_all_zero(Bytes(file_.data() + at, piece))) file_.write(at, Bytes(kZeros, piece));
    at = file_.next_data(at + piece, end);
  }
  mark_present(first_index, count);
}

void LeafOverlay::mark_present(uint64_t first_index, uint64_t count) {
  constexpr size_t kWordsMax = kPageBytes / sizeof(uint64_t);
  std::array<uint64_t, kWordsMax> words;
  const uint64_t end = first_index + count;
  std::lock_guard lock(presence_mutex_);
  while (first_index < end) {
    const uint64_t node = first_index / 64;
    uint64_t added = 0;
    bool changed = false;
    const size_t used = std::min(kWordsMax, (end - 1) / 64 - node + 1);
    const std::span bytes(reinterpret_cast<uint8_t*>(words.data()), used * sizeof(uint64_t));
    file_.read(kPresenceBegin + node * sizeof(uint64_t), bytes);
    for (size_t i = 0; i < used; ++i) {
      const uint64_t bit = first_index % 64;
      const uint64_t length = std::min<uint64_t>(64 - bit, end - first_index);
      const uint64_t before = words[i];
      words[i] |= bits(bit, length);
      changed |= words[i] != before;
      added += static_cast<uint64_t>(std::popcount(words[i]) - std::popcount(before));
      first_index += length;
    }
    if (!changed) continue;
    file_.write(kPresenceBegin + node * sizeof(uint64_t), bytes);
    present_count_ += added;
  }
}

std::optional<Digest> LeafOverlay::get(uint64_t block_index) const {
  if (block_index >= block_count_) throw NativeError("bad-index", path() + ": no such block", path());
  if ((read_presence(block_index / 64) >> (block_index % 64) & 1) == 0) return std::nullopt;
  Digest digest;
  file_.read(digest_offset(block_index), digest);
  return digest;
}

void LeafOverlay::read_present(uint64_t first_index, uint64_t count, Digest* leaves) const {
  if (first_index > block_count_ || count > block_count_ - first_index) {
    throw NativeError("bad-index", path() + ": block index beyond the device", path());
  }
  const uint64_t end = first_index + count;
  for (uint64_t at = first_index; at < end;) {
    const uint64_t length = std::min(64 - at % 64, end - at);
    const uint64_t present = read_presence(at / 64) & bits(at % 64, length);
    if (present != 0) {
      std::array<Digest, kTreeFanout> digests;
      file_.read(digest_offset(at), {digests.front().data(), static_cast<size_t>(length * kDigestBytes)});
      for (uint64_t i = 0; i < length; ++i) {
        if ((present >> (at % 64 + i) & 1) != 0) leaves[at - first_index + i] = digests[i];
      }
    }
    at += length;
  }
}

uint64_t LeafOverlay::next_node(uint64_t from) const {
  constexpr uint64_t kWordsPerPage = kPageBytes / sizeof(uint64_t);
  const uint64_t end = kPresenceBegin + node_count_ * sizeof(uint64_t);
  const uint64_t* const words = reinterpret_cast<const uint64_t*>(file_.data() + kPresenceBegin);
  while (from < node_count_) {
    from =
        (file_.next_data(kPresenceBegin + from * sizeof(uint64_t), end) - kPresenceBegin) / sizeof(uint64_t);
    const uint64_t page_end = std::min(node_count_, (from / kWordsPerPage + 1) * kWordsPerPage);
    for (; from < page_end; ++from) {
      if (words[from] != 0) return from;
    }
  }
  return kNoNode;
}

LeafOverlay::Node LeafOverlay::node(uint64_t node_index) const {
  if (node_index >= node_count_) throw NativeError("bad-index", path() + ": no such node", path());
  Node node;
  node.present = read_presence(node_index);
  file_.read(digest_offset(node_index * kTreeFanout), {node.digests.front().data(), kNodeBytesMax});
  return node;
}

uint64_t LeafOverlay::read_presence(uint64_t node_index) const {
  uint8_t bytes[sizeof(uint64_t)];
  file_.read(kPresenceBegin + node_index * sizeof(uint64_t), bytes);
  return load_le<uint64_t>(bytes);
}

LeafOverlay::NodeReader::NodeReader(const LeafOverlay& overlay) : overlay_(overlay), cursor_(overlay.file_) {}

LeafOverlay::Node LeafOverlay::NodeReader::read(uint64_t node_index) {
  const uint64_t from = overlay_.digest_offset(node_index * kTreeFanout);
  if (!cursor_.in_hole(from, from + kNodeBytesMax)) return overlay_.node(node_index);
  return {overlay_.read_presence(node_index), {}};
}

uint64_t LeafOverlay::count_present() const {
  uint64_t count = 0;
  for (uint64_t node = next_node(0); node != kNoNode; node = next_node(node + 1)) {
    count += static_cast<uint64_t>(std::popcount(read_presence(node)));
  }
  return count;
}

Digest LeafOverlay::content_digest() const {
  Checksum content;
  NodeReader reader(*this);
  for (uint64_t at = next_node(0); at != kNoNode; at = next_node(at + 1)) {
    const Node node = reader.read(at);
    uint8_t position[16];
    store_le(position, at);
    store_le(position + 8, node.present);
    content.update(position);
    content.update({node.digests.front().data(), kNodeBytesMax});
  }
  return content.finish();
}

void LeafOverlay::seal(const Generation& generation) {
  if (generation_) {
    if (*generation_ == generation) return;
    throw NativeError("argument", path() + ": sealed for another generation", path());
  }
  // After a failed sync the kernel forgets which pages never reached the disk: a second try would prove
  // nothing.
  if (seal_failed_) throw NativeError("EIO", path() + ": an earlier sync of it failed", path());
  seal_failed_ = true;
  file_.sync();
  write_header(generation);
  file_.sync();
  seal_failed_ = false;
  generation_ = generation;
}

}  // namespace stillpoint
