#include "core/tap/maps/map_format.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/error.h"
#include "core/base/little_endian.h"

namespace stillpoint {
namespace {

constexpr uint8_t kMagic[8] = {'S', 'P', 'T', 'A', 'P', 'M', 'A', 'P'};
constexpr uint32_t kVersion = 1;
constexpr uint32_t kFlagClean = 1;
constexpr size_t kJournalAt = 232 + MapHeader::kIdentityBytesMax + MapHeader::kContinuityBytesMax;
constexpr size_t kSectorCheckedBytes = kMapSectorBytes - kDigestBytes;
constexpr uint64_t kRegionBytesMin = 4u << 20;
constexpr uint64_t kRegionsMax = 4u << 20;

uint64_t divide_up(uint64_t value, uint64_t by) { return (value + by - 1) / by; }

uint64_t bit_page_count(const TreeGeometry& geometry) {
  return divide_up(geometry.block_count(), kMapPageBytes * 8);
}

[[noreturn]] void throw_damaged(const TapFile& file, const char* code, const std::string& what) {
  throw NativeError(code, what, file.path());
}

void read_whole(TapFile& file, uint64_t byte_offset, std::span<uint8_t> into) {
  if (const int error = file.read(byte_offset, into); error != 0) {
    throw_errno(error, "reading the map", file.path(), static_cast<int64_t>(byte_offset));
  }
}

}  // namespace

uint64_t map_region_blocks(const TreeGeometry& geometry) {
  uint64_t bytes = kRegionBytesMin;
  while (geometry.size_bytes / bytes >= kRegionsMax) bytes *= 2;
  return std::max<uint64_t>(1, bytes / geometry.block_size);
}

MapLayout::MapLayout(const TreeGeometry& geometry)
    : region_count(divide_up(geometry.block_count(), map_region_blocks(geometry))),
      sector_count(divide_up(region_count, kMapSectorRegions)) {}

uint64_t MapLayout::area_bytes() const {
  return divide_up(sector_count * kMapSectorBytes, kMapSlotBytes) * kMapSlotBytes;
}

uint64_t MapLayout::sector(unsigned area, uint64_t sector) const {
  return 2 * kMapSlotBytes + area * area_bytes() + sector * kMapSectorBytes;
}

std::vector<uint8_t> MapSlot::encode() const {
  std::vector<uint8_t> bytes(kMapSlotBytes);
  uint8_t* const at = bytes.data();
  std::memcpy(at, kMagic, sizeof kMagic);
  store_le<uint32_t>(at + 8, kVersion);
  store_le<uint32_t>(at + 12, header.clean ? kFlagClean : 0);
  store_le<uint64_t>(at + 16, sequence);
  store_le<uint64_t>(at + 24, header.geometry.size_bytes);
  store_le<uint32_t>(at + 32, header.geometry.block_size);
  store_le<uint32_t>(at + 36, static_cast<uint32_t>(map_region_blocks(header.geometry)));
  store_le<uint64_t>(at + 40, epoch);
  store_le<uint32_t>(at + 48, area);
  store_le<uint32_t>(at + 52, static_cast<uint32_t>(header.points.size()));
  store_le<uint64_t>(at + 56, precise_bytes);
  std::memcpy(at + 64, precise_checksum.data(), kDigestBytes);
  for (size_t i = 0; i < header.points.size(); i++)
    std::memcpy(at + 96 + i * sizeof(Id), header.points[i].data(), sizeof(Id));
  store_le<uint32_t>(at + 224, static_cast<uint32_t>(header.identity.size()));
  store_le<uint32_t>(at + 228, static_cast<uint32_t>(header.continuity.size()));
  std::memcpy(at + 232, header.identity.data(), header.identity.size());
  std::memcpy(at + 232 + MapHeader::kIdentityBytesMax, header.continuity.data(), header.continuity.size());
  std::memcpy(at + kJournalAt, header.journal.data(), sizeof(Id));
  const Digest digest = checksum(Bytes(bytes).first(kMapSlotBytes - kDigestBytes));
  std::memcpy(at + kMapSlotBytes - kDigestBytes, digest.data(), kDigestBytes);
  return bytes;
}

std::optional<MapSlot> MapSlot::decode(const TapFile& file, Bytes bytes) {
  if (is_all_zero(bytes)) return std::nullopt;
  const uint8_t* const at = bytes.data();
  if (std::memcmp(at, kMagic, sizeof kMagic) != 0) throw_damaged(file, "bad-magic", "it is no map of a tap");
  const Digest digest = checksum(bytes.first(kMapSlotBytes - kDigestBytes));
  if (std::memcmp(at + kMapSlotBytes - kDigestBytes, digest.data(), kDigestBytes) != 0)
    throw_damaged(file, "bad-checksum", "the map's header is damaged");
  if (const auto version = load_le<uint32_t>(at + 8); version != kVersion)
    throw_damaged(file, "bad-version", "the map has version " + std::to_string(version));
  MapSlot slot;
  slot.header.clean = (load_le<uint32_t>(at + 12) & kFlagClean) != 0;
  slot.sequence = load_le<uint64_t>(at + 16);
  slot.header.geometry = {load_le<uint64_t>(at + 24), load_le<uint32_t>(at + 32)};
  slot.epoch = load_le<uint64_t>(at + 40);
  slot.area = load_le<uint32_t>(at + 48);
  const auto point_count = load_le<uint32_t>(at + 52);
  slot.precise_bytes = load_le<uint64_t>(at + 56);
  std::memcpy(slot.precise_checksum.data(), at + 64, kDigestBytes);
  const auto identity_bytes = load_le<uint32_t>(at + 224);
  const auto continuity_bytes = load_le<uint32_t>(at + 228);
  const TreeGeometry& geometry = slot.header.geometry;
  if (!geometry.valid() || load_le<uint32_t>(at + 36) != map_region_blocks(geometry) || slot.area > 1 ||
      point_count > MapHeader::kPointsMax || identity_bytes > MapHeader::kIdentityBytesMax ||
      continuity_bytes > MapHeader::kContinuityBytesMax ||
      slot.precise_bytes > bit_page_count(geometry) * kMapPageRecordBytes)
    throw_damaged(file, "bad-length", "the map's header contradicts itself");
  for (size_t i = 0; i < point_count; i++)
    std::memcpy(slot.header.points.emplace_back().data(), at + 96 + i * sizeof(Id), sizeof(Id));
  const char* const text = reinterpret_cast<const char*>(at + 232);
  slot.header.identity.assign(text, identity_bytes);
  slot.header.continuity.assign(text + MapHeader::kIdentityBytesMax, continuity_bytes);
  std::memcpy(slot.header.journal.data(), at + kJournalAt, sizeof(Id));
  return slot;
}

MapSlot MapSlot::read(TapFile& file) {
  std::optional<MapSlot> newest;
  std::optional<NativeError> damage;
  for (unsigned i = 0; i < 2; i++) {
    std::vector<uint8_t> bytes(kMapSlotBytes);
    read_whole(file, i * kMapSlotBytes, bytes);
    try {
      std::optional<MapSlot> slot = decode(file, bytes);
      if (slot && (!newest || slot->sequence > newest->sequence)) newest = std::move(slot);
    } catch (const NativeError& error) {
      damage = error;
    }
  }
  if (newest) return *std::move(newest);
  if (damage) throw NativeError(*damage);
  throw_damaged(file, "truncated", "there is no map in it");
}

MapHeader read_map_header(TapFile& file) { return MapSlot::read(file).header; }

namespace {

void read_precise_pages(const TapFile& file, Bytes pages, BlockMap& into) {
  const uint64_t page_count = divide_up(into.word_count(), kMapPageWords);
  for (size_t at = 0; at < pages.size(); at += kMapPageRecordBytes) {
    const auto page = load_le<uint64_t>(pages.data() + at);
    if (page >= page_count)
      throw_damaged(file, "bad-index", "the map names blocks that the device does not have");
    const uint64_t first = page * kMapPageWords;
    const uint64_t end = std::min(into.word_count(), first + kMapPageWords);
    for (uint64_t word = first; word < end; word++)
      into.mark_word(word, load_le<uint64_t>(pages.data() + at + (1 + word - first) * sizeof(uint64_t)));
  }
}

}  // namespace

void read_map_blocks(TapFile& file, BlockMap& into) {
  const MapSlot slot = MapSlot::read(file);
  const TreeGeometry& geometry = slot.header.geometry;
  if (into.block_count() != geometry.block_count())
    throw_damaged(file, "geometry-mismatch", "the map is of another size");
  const MapLayout layout(geometry);
  if (slot.header.clean) {
    std::vector<uint8_t> pages(slot.precise_bytes);
    read_whole(file, layout.precise(), pages);
    if (pages.size() % kMapPageRecordBytes != 0 || checksum(pages) != slot.precise_checksum)
      throw_damaged(file, "bad-checksum", "the map's bits are damaged");
    read_precise_pages(file, pages, into);
    return;
  }
  const uint64_t region_blocks = map_region_blocks(geometry);
  std::vector<uint8_t> sector(kMapSectorBytes);
  for (uint64_t i = 0; i < layout.sector_count; i++) {
    read_whole(file, layout.sector(slot.area, i), sector);
    const Digest digest = checksum(Bytes(sector).first(kSectorCheckedBytes));
    if (load_le<uint64_t>(sector.data() + kMapSectorBitBytes) != slot.epoch ||
        load_le<uint64_t>(sector.data() + kMapSectorBitBytes + 8) != i ||
        std::memcmp(sector.data() + kSectorCheckedBytes, digest.data(), kDigestBytes) != 0)
      throw_damaged(file, "bad-checksum", "the map's regions are damaged");
    for (uint64_t bit = 0; bit < kMapSectorRegions; bit++) {
      if ((sector[bit / 8] >> (bit % 8) & 1) == 0) continue;
      const uint64_t region = i * kMapSectorRegions + bit;
      if (region >= layout.region_count)
        throw_damaged(file, "bad-index", "the map names regions that the device does not have");
      into.mark(region * region_blocks, std::min(into.block_count(), (region + 1) * region_blocks));
    }
  }
}

std::vector<uint8_t> encode_map_sector(uint64_t epoch, uint64_t sector, const BlockMap& regions) {
  static_assert(kMapSectorRegions % BlockMap::kWordBits == 0);
  std::vector<uint8_t> bytes(kMapSectorBytes);
  const uint64_t first = sector * kMapSectorRegions / BlockMap::kWordBits;
  for (uint64_t i = 0; i < kMapSectorRegions / BlockMap::kWordBits && first + i < regions.word_count(); i++)
    store_le<uint64_t>(bytes.data() + i * sizeof(uint64_t), regions.word(first + i));
  store_le<uint64_t>(bytes.data() + kMapSectorBitBytes, epoch);
  store_le<uint64_t>(bytes.data() + kMapSectorBitBytes + 8, sector);
  const Digest digest = checksum(Bytes(bytes).first(kSectorCheckedBytes));
  std::memcpy(bytes.data() + kSectorCheckedBytes, digest.data(), kDigestBytes);
  return bytes;
}

std::vector<uint8_t> encode_map_page(uint64_t page, const std::vector<const BlockMap*>& maps) {
  std::vector<uint8_t> record(kMapPageRecordBytes);
  const uint64_t first = page * kMapPageWords;
  const uint64_t end = std::min(maps.front()->word_count(), first + kMapPageWords);
  for (uint64_t word = first; word < end; word++) {
    uint64_t bits = 0;
    for (const BlockMap* const map : maps) bits |= map->word(word);
    store_le<uint64_t>(record.data() + (1 + word - first) * sizeof(uint64_t), bits);
  }
  if (is_all_zero(record)) return {};
  store_le<uint64_t>(record.data(), page);
  return record;
}

}  // namespace stillpoint
