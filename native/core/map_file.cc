#include "core/map_file.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/little_endian.h"

namespace stillpoint {
namespace {

constexpr uint8_t kMagic[8] = {'S', 'P', 'T', 'A', 'P', 'M', 'A', 'P'};
constexpr uint32_t kVersion = 1;
constexpr size_t kSlotBytes = 4096;
constexpr uint32_t kFlagClean = 1;

// A sector is what disks write whole or not at all: 464 bytes of bits, epoch, number, checksum of all that.
constexpr size_t kSectorBytes = 512;
constexpr size_t kSectorBitBytes = 464;
constexpr uint64_t kSectorRegions = kSectorBitBytes * 8;
constexpr size_t kSectorCheckedBytes = kSectorBytes - kDigestBytes;

// Coarse enough for marking to be rare, fine enough for a crash to cost little reading.
constexpr uint64_t kRegionBytesMin = 4u << 20;
constexpr uint64_t kRegionsMax = 4u << 20;

// The precise bits: (page number, page of bits) for every page with a bit.
constexpr size_t kBitPageBytes = 4096;
constexpr uint64_t kPageWords = kBitPageBytes / sizeof(uint64_t);
constexpr size_t kPageRecordBytes = sizeof(uint64_t) + kBitPageBytes;

uint64_t region_blocks_of(const TreeGeometry& geometry) {
  uint64_t bytes = kRegionBytesMin;
  while (geometry.size_bytes / bytes >= kRegionsMax) bytes *= 2;
  return std::max<uint64_t>(1, bytes / geometry.block_size);
}

uint64_t divide_up(uint64_t value, uint64_t by) { return (value + by - 1) / by; }

uint64_t bit_page_count(const TreeGeometry& geometry) {
  return divide_up(geometry.block_count(), kBitPageBytes * 8);
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

struct MapFile::Layout {
  explicit Layout(const TreeGeometry& geometry)
      : region_count(divide_up(geometry.block_count(), region_blocks_of(geometry))),
        sector_count(divide_up(region_count, kSectorRegions)) {}

  uint64_t area_bytes() const { return divide_up(sector_count * kSectorBytes, kSlotBytes) * kSlotBytes; }
  uint64_t sector(unsigned area, uint64_t sector) const {
    return 2 * kSlotBytes + area * area_bytes() + sector * kSectorBytes;
  }
  uint64_t precise() const { return 2 * kSlotBytes + 2 * area_bytes(); }

  uint64_t region_count;
  uint64_t sector_count;
};

// A header as it lies in its slot.
struct MapFile::Slot {
  MapHeader header;
  uint64_t sequence = 0;
  uint64_t epoch = 0;
  unsigned area = 0;
  uint64_t precise_bytes = 0;
  Digest precise_checksum{};

  std::vector<uint8_t> encode() const {
    std::vector<uint8_t> bytes(kSlotBytes);
    uint8_t* const at = bytes.data();
    std::memcpy(at, kMagic, sizeof kMagic);
    store_le<uint32_t>(at + 8, kVersion);
    store_le<uint32_t>(at + 12, header.clean ? kFlagClean : 0);
    store_le<uint64_t>(at + 16, sequence);
    store_le<uint64_t>(at + 24, header.geometry.size_bytes);
    store_le<uint32_t>(at + 32, header.geometry.block_size);
    store_le<uint32_t>(at + 36, static_cast<uint32_t>(region_blocks_of(header.geometry)));
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
    std::memcpy(at + 232 + kIdentityBytesMax, header.continuity.data(), header.continuity.size());
    const Digest digest = checksum(Bytes(bytes).first(kSlotBytes - kDigestBytes));
    std::memcpy(at + kSlotBytes - kDigestBytes, digest.data(), kDigestBytes);
    return bytes;
  }

  // Nothing for a slot of zeros.
  static std::optional<Slot> decode(const TapFile& file, Bytes bytes) {
    if (is_all_zero(bytes)) return std::nullopt;
    const uint8_t* const at = bytes.data();
    if (std::memcmp(at, kMagic, sizeof kMagic) != 0)
      throw_damaged(file, "bad-magic", "it is no map of a tap");
    const Digest digest = checksum(bytes.first(kSlotBytes - kDigestBytes));
    if (std::memcmp(at + kSlotBytes - kDigestBytes, digest.data(), kDigestBytes) != 0)
      throw_damaged(file, "bad-checksum", "the map's header is damaged");
    if (const auto version = load_le<uint32_t>(at + 8); version != kVersion)
      throw_damaged(file, "bad-version", "the map has version " + std::to_string(version));
    Slot slot;
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
    if (!geometry.valid() || load_le<uint32_t>(at + 36) != region_blocks_of(geometry) || slot.area > 1 ||
        point_count > kPointsMax || identity_bytes > kIdentityBytesMax ||
        continuity_bytes > kContinuityBytesMax ||
        slot.precise_bytes > bit_page_count(geometry) * kPageRecordBytes)
      throw_damaged(file, "bad-length", "the map's header contradicts itself");
    for (size_t i = 0; i < point_count; i++)
      std::memcpy(slot.header.points.emplace_back().data(), at + 96 + i * sizeof(Id), sizeof(Id));
    const char* const text = reinterpret_cast<const char*>(at + 232);
    slot.header.identity.assign(text, identity_bytes);
    slot.header.continuity.assign(text + kIdentityBytesMax, continuity_bytes);
    return slot;
  }

  // The newest whole header: the other slot may hold one that was being written when the machine died.
  static Slot read(TapFile& file) {
    std::optional<Slot> newest;
    std::optional<NativeError> damage;
    for (unsigned i = 0; i < 2; i++) {
      std::vector<uint8_t> bytes(kSlotBytes);
      read_whole(file, i * kSlotBytes, bytes);
      try {
        std::optional<Slot> slot = decode(file, bytes);
        if (slot && (!newest || slot->sequence > newest->sequence)) newest = std::move(slot);
      } catch (const NativeError& error) {
        damage = error;
      }
    }
    if (newest) return *std::move(newest);
    if (damage) throw NativeError(*damage);
    throw_damaged(file, "truncated", "there is no map in it");
  }
};

MapHeader MapFile::read_header(TapFile& file) { return Slot::read(file).header; }

namespace {

void read_precise_pages(const TapFile& file, Bytes pages, BlockMap& into) {
  const uint64_t page_count = divide_up(into.word_count(), kPageWords);
  for (size_t at = 0; at < pages.size(); at += kPageRecordBytes) {
    const auto page = load_le<uint64_t>(pages.data() + at);
    if (page >= page_count)
      throw_damaged(file, "bad-index", "the map names blocks that the device does not have");
    const uint64_t first = page * kPageWords;
    const uint64_t end = std::min(into.word_count(), first + kPageWords);
    for (uint64_t word = first; word < end; word++)
      into.mark_word(word, load_le<uint64_t>(pages.data() + at + (1 + word - first) * sizeof(uint64_t)));
  }
}

}  // namespace

void MapFile::read_blocks(TapFile& file, BlockMap& into) {
  const Slot slot = Slot::read(file);
  const TreeGeometry& geometry = slot.header.geometry;
  if (into.block_count() != geometry.block_count())
    throw_damaged(file, "geometry-mismatch", "the map is of another size");
  const Layout layout(geometry);
  if (slot.header.clean) {
    std::vector<uint8_t> pages(slot.precise_bytes);
    read_whole(file, layout.precise(), pages);
    if (pages.size() % kPageRecordBytes != 0 || checksum(pages) != slot.precise_checksum)
      throw_damaged(file, "bad-checksum", "the map's bits are damaged");
    read_precise_pages(file, pages, into);
    return;
  }
  const uint64_t region_blocks = region_blocks_of(geometry);
  std::vector<uint8_t> sector(kSectorBytes);
  for (uint64_t i = 0; i < layout.sector_count; i++) {
    read_whole(file, layout.sector(slot.area, i), sector);
    const Digest digest = checksum(Bytes(sector).first(kSectorCheckedBytes));
    if (load_le<uint64_t>(sector.data() + kSectorBitBytes) != slot.epoch ||
        load_le<uint64_t>(sector.data() + kSectorBitBytes + 8) != i ||
        std::memcmp(sector.data() + kSectorCheckedBytes, digest.data(), kDigestBytes) != 0)
      throw_damaged(file, "bad-checksum", "the map's regions are damaged");
    for (uint64_t bit = 0; bit < kSectorRegions; bit++) {
      if ((sector[bit / 8] >> (bit % 8) & 1) == 0) continue;
      const uint64_t region = i * kSectorRegions + bit;
      if (region >= layout.region_count)
        throw_damaged(file, "bad-index", "the map names regions that the device does not have");
      into.mark(region * region_blocks, std::min(into.block_count(), (region + 1) * region_blocks));
    }
  }
}

MapFile::MapFile(std::unique_ptr<TapFile> file, std::string identity, const TreeGeometry& geometry,
                 const std::vector<Id>& points, const BlockMap& changed)
    : file_(std::move(file)),
      identity_(std::move(identity)),
      geometry_(geometry),
      region_blocks_(region_blocks_of(geometry)),
      region_count_(Layout(geometry).region_count),
      durable_(region_count_),
      marked_(region_count_) {
  if (identity_.size() > kIdentityBytesMax) throw NativeError("argument", "the identity is too long");
  try {
    const Slot found = Slot::read(*file_);
    sequence_ = found.sequence;
    epoch_ = found.epoch;
    area_ = found.area;
  } catch (const NativeError&) {
    // Nothing, or nothing to be believed: both slots are written over in turn.
  }
  const int error = switch_area(points, changed);
  if (error != 0) throw_errno(error, "writing the map", file_->path());
  durable_.merge(marked_);
}

MapFile::~MapFile() = default;

bool MapFile::ready(uint64_t begin, uint64_t end) const {
  if (!tracking_) return true;
  const uint64_t last = region_of(end - 1);
  for (uint64_t region = region_of(begin); region <= last; region++) {
    if (!durable_.test(region)) return false;
  }
  return true;
}

void MapFile::make_ready(uint64_t begin, uint64_t end) {
  std::unique_lock lock(mutex_);
  if (ready(begin, end)) return;
  for (uint64_t region = region_of(begin); region <= region_of(end - 1); region++)
    requested_.push_back(region);
  while (!ready(begin, end)) {
    if (busy_) {
      changed_.wait(lock);
      continue;
    }
    busy_ = true;
    std::vector<uint64_t> regions = std::exchange(requested_, {});
    // A rebase may have unmarked what was asked for before it.
    for (uint64_t region = region_of(begin); region <= region_of(end - 1); region++)
      regions.push_back(region);
    lock.unlock();
    const int error = write_regions(regions);
    lock.lock();
    busy_ = false;
    if (error != 0) {
      give_up();
    } else {
      for (const uint64_t region : regions) durable_.mark(region, region + 1);
    }
    changed_.notify_all();
  }
}

template <class Work>
int MapFile::exclusively(Work work) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !busy_; });
  if (failed_) return 0;
  busy_ = true;
  lock.unlock();
  const int error = work();
  lock.lock();
  busy_ = false;
  if (error != 0) give_up();
  changed_.notify_all();
  return error;
}

int MapFile::rebase(const std::vector<Id>& points, const BlockMap& changed) {
  return exclusively([&] {
    // From here on no write is let through on an old mark. One that was let through just now has marked its
    // blocks before it looked, so `changed` has them.
    tracking_ = true;
    durable_.clear();
    const int error = switch_area(points, changed);
    if (error == 0) durable_.merge(marked_);
    return error;
  });
}

int MapFile::switch_area(const std::vector<Id>& points, const BlockMap& changed) {
  marked_.clear();
  for (uint64_t block = changed.next_set(0); block < changed.block_count();) {
    const uint64_t region = region_of(block);
    marked_.mark(region, region + 1);
    block = changed.next_set((region + 1) * region_blocks_);
  }
  const unsigned area = 1 - area_;
  if (const int error = write_area(area, epoch_ + 1, marked_); error != 0) return error;
  if (const int error = file_->sync(); error != 0) return error;
  area_ = area;
  epoch_++;
  if (const int error = write_header(false, {}, points); error != 0) return error;
  tracking_ = !points.empty();
  return 0;
}

int MapFile::set_points(const std::vector<Id>& points) {
  return exclusively([&] {
    const int error = write_header(false, {}, points);
    if (error == 0 && points.empty()) tracking_ = false;
    return error;
  });
}

int MapFile::close_clean(const std::vector<const BlockMap*>& changed, const std::string& continuity) {
  if (continuity.size() > kContinuityBytesMax)
    throw NativeError("argument", "the mark of continuity is too long");
  return exclusively([&] {
    std::vector<uint8_t> record(kPageRecordBytes);
    const uint64_t word_count = changed.front()->word_count();
    uint64_t at = Layout(geometry_).precise();
    Checksum sum;
    precise_bytes_ = 0;
    for (uint64_t first = 0; first < word_count; first += kPageWords) {
      std::fill(record.begin(), record.end(), 0);
      for (uint64_t word = first; word < std::min(word_count, first + kPageWords); word++) {
        uint64_t bits = 0;
        for (const BlockMap* const map : changed) bits |= map->word(word);
        store_le<uint64_t>(record.data() + (1 + word - first) * sizeof(uint64_t), bits);
      }
      if (is_all_zero(record)) continue;
      store_le<uint64_t>(record.data(), first / kPageWords);
      if (const int error = file_->write(at, record); error != 0) return error;
      sum.update(record);
      at += record.size();
      precise_bytes_ += record.size();
    }
    precise_checksum_ = sum.finish();
    if (const int error = file_->sync(); error != 0) return error;
    return write_header(true, continuity, points_);
  });
}

bool MapFile::persistent() const {
  std::lock_guard lock(mutex_);
  return !failed_;
}

int MapFile::write_header(bool clean, const std::string& continuity, const std::vector<Id>& points) {
  const uint64_t sequence = sequence_ + 1;
  const Slot slot{{identity_, continuity, geometry_, clean, points},
                  sequence,
                  epoch_,
                  area_,
                  clean ? precise_bytes_ : 0,
                  precise_checksum_};
  if (const int error = file_->write(sequence % 2 * kSlotBytes, slot.encode()); error != 0) return error;
  if (const int error = file_->sync(); error != 0) return error;
  const std::vector<uint8_t> zeros(kSlotBytes);
  if (const int error = file_->write((sequence + 1) % 2 * kSlotBytes, zeros); error != 0) return error;
  if (const int error = file_->sync(); error != 0) return error;
  sequence_ = sequence;
  points_ = points;
  return 0;
}

namespace {

void encode_sector(uint8_t* into, uint64_t epoch, uint64_t sector, const BlockMap& regions) {
  static_assert(kSectorRegions % BlockMap::kWordBits == 0);
  const uint64_t first = sector * kSectorRegions / BlockMap::kWordBits;
  for (uint64_t i = 0; i < kSectorRegions / BlockMap::kWordBits; i++) {
    const uint64_t word = first + i;
    store_le<uint64_t>(into + i * sizeof(uint64_t), word < regions.word_count() ? regions.word(word) : 0);
  }
  store_le<uint64_t>(into + kSectorBitBytes, epoch);
  store_le<uint64_t>(into + kSectorBitBytes + 8, sector);
  const Digest digest = checksum(Bytes(into, kSectorCheckedBytes));
  std::memcpy(into + kSectorCheckedBytes, digest.data(), kDigestBytes);
}

}  // namespace

int MapFile::write_area(unsigned area, uint64_t epoch, const BlockMap& regions) {
  const Layout layout(geometry_);
  std::vector<uint8_t> bytes(layout.sector_count * kSectorBytes);
  for (uint64_t i = 0; i < layout.sector_count; i++)
    encode_sector(bytes.data() + i * kSectorBytes, epoch, i, regions);
  return bytes.empty() ? 0 : file_->write(layout.sector(area, 0), bytes);
}

int MapFile::write_regions(const std::vector<uint64_t>& regions) {
  std::vector<uint64_t> sectors;
  for (const uint64_t region : regions) {
    marked_.mark(region, region + 1);
    sectors.push_back(region / kSectorRegions);
  }
  std::sort(sectors.begin(), sectors.end());
  sectors.erase(std::unique(sectors.begin(), sectors.end()), sectors.end());
  std::vector<uint8_t> bytes(kSectorBytes);
  for (const uint64_t sector : sectors) {
    encode_sector(bytes.data(), epoch_, sector, marked_);
    if (const int error = file_->write(Layout(geometry_).sector(area_, sector), bytes); error != 0)
      return error;
  }
  return file_->sync();
}

void MapFile::give_up() {
  failed_ = true;
  tracking_ = false;
  // Whichever of these still works: a map that misses marks must not be found.
  const std::vector<uint8_t> zeros(2 * kSlotBytes);
  file_->write(0, zeros);
  file_->sync();
  file_->remove();
}

}  // namespace stillpoint
