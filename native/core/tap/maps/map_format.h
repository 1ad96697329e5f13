// A tap's map as bytes (docs/format.md, "Map file"): header slots, areas of region bits, precise bits.
// Reading a whole map is here too; map_file.h writes one, in the right order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/id.h"
#include "core/tap/files/tap_file.h"
#include "core/tap/maps/block_map.h"
#include "core/tree/geometry.h"

namespace stillpoint {

struct MapHeader {
  static constexpr size_t kIdentityBytesMax = 1024;
  static constexpr size_t kContinuityBytesMax = 512;
  static constexpr size_t kPointsMax = 8;

  std::string identity;
  std::string continuity;  // of a clean map
  TreeGeometry geometry;
  bool clean = false;
  std::vector<Id> points;  // the map holds all changes since each of these; none: it is void
  Id journal{};            // of a clean map: the one that was written until then; zeros: none
};

// What is in the file, checked but for the bits. `truncated` (nothing but zeros: there is no map),
// `bad-magic`, `bad-version`, `bad-checksum`, `bad-length`, errno names.
MapHeader read_map_header(TapFile& file);
// The blocks that a map names. The same errors, and `bad-index`, `geometry-mismatch`.
void read_map_blocks(TapFile& file, BlockMap& into);

// Blocks that are marked on disk together: coarse enough for marking to be rare, fine enough for a crash to
// cost little reading.
uint64_t map_region_blocks(const TreeGeometry& geometry);

inline constexpr size_t kMapSlotBytes = 4096;

// A header as it lies in its slot.
struct MapSlot {
  MapHeader header;
  uint64_t sequence = 0;
  uint64_t epoch = 0;
  unsigned area = 0;
  uint64_t precise_bytes = 0;
  Digest precise_checksum{};

  std::vector<uint8_t> encode() const;
  // Nothing for a slot of zeros.
  static std::optional<MapSlot> decode(const TapFile& file, Bytes bytes);
  // The newest whole header: the other slot may hold one that was being written when the machine died.
  static MapSlot read(TapFile& file);
};

// Where things lie, as byte offsets in the file.
struct MapLayout {
  explicit MapLayout(const TreeGeometry& geometry);

  uint64_t area_bytes() const;
  uint64_t sector(unsigned area, uint64_t sector) const;
  uint64_t precise() const { return 2 * kMapSlotBytes + 2 * area_bytes(); }

  uint64_t region_count;
  uint64_t sector_count;
};

// A sector is what disks write whole or not at all: 464 bytes of bits, epoch, number, checksum of all that.
inline constexpr size_t kMapSectorBytes = 512;
inline constexpr size_t kMapSectorBitBytes = 464;
inline constexpr uint64_t kMapSectorRegions = kMapSectorBitBytes * 8;
std::vector<uint8_t> encode_map_sector(uint64_t epoch, uint64_t sector, const BlockMap& regions);

// The precise bits: (page number, page of bits) for every page with a bit.
inline constexpr size_t kMapPageBytes = 4096;
inline constexpr uint64_t kMapPageWords = kMapPageBytes / sizeof(uint64_t);
inline constexpr size_t kMapPageRecordBytes = sizeof(uint64_t) + kMapPageBytes;
// The bits of all maps together; empty if there are none in the page.
std::vector<uint8_t> encode_map_page(uint64_t page, const std::vector<const BlockMap*>& maps);

}  // namespace stillpoint
