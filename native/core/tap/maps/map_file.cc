#include "core/tap/maps/map_file.h"

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "core/base/error.h"
#include "core/tap/maps/map_format.h"

namespace stillpoint {

MapFile::MapFile(std::unique_ptr<TapFile> file, std::string identity, const TreeGeometry& geometry,
                 const std::vector<Id>& points, const BlockMap& changed)
    : file_(std::move(file)),
      identity_(std::move(identity)),
      geometry_(geometry),
      region_blocks_(map_region_blocks(geometry)),
      region_count_(MapLayout(geometry).region_count),
      durable_(region_count_),
      marked_(region_count_) {
  if (identity_.size() > MapHeader::kIdentityBytesMax)
    throw NativeError("argument", "the identity is too long");
  try {
    const MapSlot found = MapSlot::read(*file_);
    sequence_ = found.sequence;
    epoch_ = found.epoch;
    area_ = found.area;
  } catch (const NativeError&) {
    // Nothing, or nothing to be believed: both slots are written over in turn.
  }
  int error = prepare_area(changed);
  if (error == 0) error = complete_area(points, changed);
  if (error == 0) error = erase_older();
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
  int error = ENOMEM;
  try {
    error = work();
  } catch (const std::bad_alloc&) {
  }
  lock.lock();
  busy_ = false;
  if (error != 0) give_up();
  changed_.notify_all();
  return error;
}

int MapFile::rebase(const std::vector<Id>& points, const BlockMap& changed) {
  return exclusively([&] {
    // Until the new area is on disk, writes go on with the marks of the old one.
    if (const int error = prepare_area(changed); error != 0) return error;
    tracking_ = true;
    durable_.clear();
    // From here on no write is let through on an old mark. One that was let through before has marked its
    // blocks before it looked, so `changed` has them.
    if (const int error = complete_area(points, changed); error != 0) return error;
    durable_.merge(marked_);
    wake();
    return erase_older();
  });
}

void MapFile::collect_regions(const BlockMap& changed, BlockMap& regions) const {
  for (uint64_t block = changed.next_set(0); block < changed.block_count();) {
    const uint64_t region = region_of(block);
    regions.mark(region, region + 1);
    block = changed.next_set((region + 1) * region_blocks_);
  }
}

int MapFile::prepare_area(const BlockMap& changed) {
  marked_.clear();
  collect_regions(changed, marked_);
  if (const int error = write_area(1 - area_, epoch_ + 1, marked_); error != 0) return error;
  return file_->sync();
}

int MapFile::complete_area(const std::vector<Id>& points, const BlockMap& changed) {
  area_ = 1 - area_;
  epoch_++;
  BlockMap now(region_count_);
  collect_regions(changed, now);
  std::vector<uint64_t> added;
  for (uint64_t region = now.next_set(0); region < region_count_; region = now.next_set(region + 1)) {
    if (!marked_.test(region)) added.push_back(region);
  }
  if (!added.empty()) {
    if (const int error = write_regions(added); error != 0) return error;
  }
  if (const int error = write_header({identity_, {}, geometry_, false, points}); error != 0) return error;
  tracking_ = !points.empty();
  return 0;
}

void MapFile::wake() {
  { std::lock_guard lock(mutex_); }
  changed_.notify_all();
}

int MapFile::set_points(const std::vector<Id>& points) {
  return exclusively([&] {
    if (const int error = write_header({identity_, {}, geometry_, false, points}); error != 0) return error;
    // The header before only lacks a session, and may stay to fall back to. Not where it has points that are
    // void.
    if (!points.empty()) return 0;
    tracking_ = false;
    return erase_older();
  });
}

int MapFile::close_clean(const std::vector<const BlockMap*>& changed, const std::string& continuity,
                         const Id& journal) {
  if (continuity.size() > MapHeader::kContinuityBytesMax)
    throw NativeError("argument", "the mark of continuity is too long");
  return exclusively([&] {
    uint64_t at = MapLayout(geometry_).precise();
    Checksum sum;
    precise_bytes_ = 0;
    for (uint64_t page = 0; page * kMapPageWords < changed.front()->word_count(); page++) {
      const std::vector<uint8_t> record = encode_map_page(page, changed);
      if (record.empty()) continue;
      if (const int error = file_->write(at, record); error != 0) return error;
      sum.update(record);
      at += record.size();
      precise_bytes_ += record.size();
    }
    precise_checksum_ = sum.finish();
    if (const int error = file_->sync(); error != 0) return error;
    return write_header({identity_, continuity, geometry_, true, points_, journal});
  });
}

bool MapFile::persistent() const {
  std::lock_guard lock(mutex_);
  return !failed_;
}

int MapFile::write_header(const MapHeader& header) {
  const uint64_t sequence = sequence_ + 1;
  const MapSlot slot{header, sequence, epoch_, area_, header.clean ? precise_bytes_ : 0, precise_checksum_};
  if (const int error = file_->write(sequence % 2 * kMapSlotBytes, slot.encode()); error != 0) return error;
  if (const int error = file_->sync(); error != 0) return error;
  sequence_ = sequence;
  points_ = header.points;
  return 0;
}

int MapFile::erase_older() {
  const std::vector<uint8_t> zeros(kMapSlotBytes);
  if (const int error = file_->write((sequence_ + 1) % 2 * kMapSlotBytes, zeros); error != 0) return error;
  return file_->sync();
}

int MapFile::write_area(unsigned area, uint64_t epoch, const BlockMap& regions) {
  const MapLayout layout(geometry_);
  std::vector<uint8_t> bytes;
  bytes.reserve(layout.sector_count * kMapSectorBytes);
  for (uint64_t i = 0; i < layout.sector_count; i++) {
    const std::vector<uint8_t> sector = encode_map_sector(epoch, i, regions);
    bytes.insert(bytes.end(), sector.begin(), sector.end());
  }
  return bytes.empty() ? 0 : file_->write(layout.sector(area, 0), bytes);
}

int MapFile::write_regions(const std::vector<uint64_t>& regions) {
  std::vector<uint64_t> sectors;
  for (const uint64_t region : regions) {
    marked_.mark(region, region + 1);
    sectors.push_back(region / kMapSectorRegions);
  }
  std::sort(sectors.begin(), sectors.end());
  sectors.erase(std::unique(sectors.begin(), sectors.end()), sectors.end());
  for (const uint64_t sector : sectors) {
    const uint64_t at = MapLayout(geometry_).sector(area_, sector);
    if (const int error = file_->write(at, encode_map_sector(epoch_, sector, marked_)); error != 0)
      return error;
  }
  return file_->sync();
}

void MapFile::give_up() {
  failed_ = true;
  // Whichever of these still works: a map that misses marks must not be found. Only then do writes go on
  // without them.
  const std::vector<uint8_t> zeros(2 * kMapSlotBytes);
  file_->write(0, zeros);
  file_->sync();
  file_->remove();
  tracking_ = false;
}

}  // namespace stillpoint
