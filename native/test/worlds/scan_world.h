// A device, the tree of an earlier state of it, and what a scan must find, worked out block by block.
#pragma once

#include <cstring>
#include <map>
#include <memory>
#include <set>

#include "core/scan/scan.h"
#include "core/tree/leaf_overlay.h"
#include "core/tree/tree_file.h"
#include "test/helpers/digesters.h"
#include "test/helpers/helpers.h"

namespace stillpoint::test {

inline constexpr Id kScanPoint{1, 2, 3};

struct ScanWorld {
  TemporaryDirectory directory;
  TreeGeometry geometry;
  std::shared_ptr<BlockSource> device;
  std::shared_ptr<TreeFile> base;
  std::shared_ptr<LeafOverlay> overlay;

  ScanWorld(std::shared_ptr<BlockSource> source, uint32_t block_size, const Digester& digester = kPlain)
      : geometry{source->size_bytes(), block_size},
        device(std::move(source)),
        base(TreeFile::create(directory / "base", geometry, digester)) {
    new_overlay();
  }

  void new_overlay() {
    overlay.reset();
    std::filesystem::remove(directory / "found");
    overlay = LeafOverlay::create(directory / "found", geometry, base->generation().root);
  }

  // Puts these leaves into the base.
  void set_base(const std::map<uint64_t, Digest>& leaves) {
    const auto changes = LeafOverlay::create(directory / "changes", geometry, base->generation().root);
    for (const auto& [index, digest] : leaves) changes->put(index, &digest, 1);
    changes->seal({kScanPoint, base->root_with(*changes)});
    base->apply(*changes);
    std::filesystem::remove(directory / "changes");
    new_overlay();
  }

  std::vector<uint8_t> block(uint64_t index) const {
    std::vector<uint8_t> bytes(geometry.block_length(index));
    device->read(index * geometry.block_size, bytes);
    return bytes;
  }

  // Every block differs from all others.
  void fill(Random& random) const {
    std::vector<uint8_t> bytes = random.bytes(geometry.block_size);
    for (uint64_t i = 0; i < geometry.block_count(); i++) {
      std::memcpy(bytes.data(), &i, sizeof i);
      bytes[8] = static_cast<uint8_t>(1 + random.below(255));
      device->write(i * geometry.block_size, Bytes(bytes).first(geometry.block_length(i)));
    }
  }

  // Makes the base's leaf of each block what the block is now.
  void adopt() {
    std::map<uint64_t, Digest> leaves;
    for (uint64_t i = 0; i < geometry.block_count(); i++) leaves[i] = base->digester().leaf_digest(block(i));
    set_base(leaves);
  }

  ScanOptions options() const {
    ScanOptions options;
    options.device = device;
    options.base = base;
    options.overlay = overlay;
    if (geometry.block_count() > 0) options.ranges = {{0, geometry.block_count()}};
    return options;
  }

  // What differs from the base in the ranges, but for blocks in `bad`.
  std::map<uint64_t, Digest> expected(const std::vector<BlockRange>& ranges,
                                      const std::set<uint64_t>& bad = {}) const {
    std::map<uint64_t, Digest> changed;
    for (const BlockRange& range : ranges) {
      for (uint64_t i = range.begin; i < range.end; i++) {
        if (bad.contains(i)) continue;
        const Digest digest = base->digester().leaf_digest(block(i));
        if (digest != base->leaf(i)) changed[i] = digest;
      }
    }
    return changed;
  }

  // Takes a chunk apart, checking order, payload bytes and counts against the device.
  void collect(const ScanChunk& chunk, std::map<uint64_t, Digest>& found) const {
    uint64_t payload_count = 0, raw_bytes = 0;
    for (const ScanEntry& entry : chunk.entries()) {
      REQUIRE((found.empty() || found.rbegin()->first < entry.block_index));
      for (uint32_t i = 0; i < entry.block_count; i++) found[entry.block_index + i] = entry.digest;
      if (is_null(entry.digest)) {
        REQUIRE(entry.bytes.empty());
        continue;
      }
      REQUIRE(entry.block_count == 1);
      const std::vector<uint8_t> bytes = block(entry.block_index);
      REQUIRE(std::equal(bytes.begin(), bytes.end(), entry.bytes.begin(), entry.bytes.end()));
      payload_count++;
      raw_bytes += bytes.size();
    }
    REQUIRE(chunk.payload_count() == payload_count);
    REQUIRE(chunk.raw_bytes() == raw_bytes);
  }

  std::map<uint64_t, Digest> scan(Scan& scan) const {
    std::map<uint64_t, Digest> found;
    while (const auto chunk = scan.next()) {
      REQUIRE((!chunk->entries().empty() || !chunk->bad_blocks().empty()));
      collect(*chunk, found);
      chunk->release();
    }
    return found;
  }

  void check_overlay(const std::map<uint64_t, Digest>& changed) const {
    REQUIRE(overlay->present_count() == changed.size());
    for (const auto& [index, digest] : changed) REQUIRE(overlay->get(index) == digest);
  }
};

}  // namespace stillpoint::test
