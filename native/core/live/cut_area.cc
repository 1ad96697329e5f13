#include "core/live/cut_area.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <string>
#include <utility>

#include "core/base/error.h"
#include "core/base/sparse_file.h"

namespace stillpoint {
namespace {

constexpr uint64_t kMagic = 0x3154554354505053;  // "SPPTCUT1"
constexpr uint64_t kUnitBytesMax = uint64_t{4} << 20;
constexpr uint64_t kDeviceBytesMax = uint64_t{1} << 53;
constexpr uint64_t kDataBytesMax = uint64_t{4} << 30;

bool valid(const CutGeometry& geometry) {
  const auto power_from = [](uint64_t value, uint64_t min) {
    return std::has_single_bit(value) && value >= min && value <= kUnitBytesMax;
  };
  return geometry.device_bytes > 0 && geometry.device_bytes <= kDeviceBytesMax &&
         power_from(geometry.grain_bytes, 4096) && power_from(geometry.unit_bytes, geometry.grain_bytes) &&
         geometry.data_bytes_max >= geometry.unit_bytes && geometry.data_bytes_max <= kDataBytesMax;
}

}  // namespace

struct CutArea::Header {
  uint64_t magic;
  CutGeometry geometry;
  uint64_t data_bytes;
  CutResult result;
};

uint64_t CutGeometry::word_count() const {
  const uint64_t grains = (device_bytes + grain_bytes - 1) / grain_bytes;
  return (grains + 63) / 64;
}

CutArea::CutArea(UniqueFd memory, const CutGeometry& geometry)
    : memory_(std::move(memory)), geometry_(geometry) {
  const uint64_t grain_bits = page_up(geometry.word_count() * sizeof(uint64_t));
  pending_begin_ = page_up(sizeof(Header));
  staged_begin_ = pending_begin_ + grain_bits;
  pieces_begin_ = staged_begin_ + page_up(geometry.unit_words() * sizeof(uint64_t));
  data_begin_ = pieces_begin_ + page_up(geometry.pieces_max() * sizeof(CutPiece));
  end_ = data_begin_ + page_up(geometry.data_bytes_max);
}

CutArea CutArea::create(const CutGeometry& geometry) {
  if (!valid(geometry)) throw NativeError("argument", "geometry of a cut: it is out of bounds");
  UniqueFd memory(memfd_create("stillpoint-cut", MFD_CLOEXEC));
  if (!memory) throw_errno(errno, "memfd_create");
  CutArea area(std::move(memory), geometry);
  if (ftruncate(area.fd(), static_cast<off_t>(area.end_)) != 0) throw_errno(errno, "ftruncate of a cut");
  area.map(area.end_, 0);
  area.header().magic = kMagic;
  area.header().geometry = geometry;
  area.header().data_bytes = geometry.data_bytes_max;
  return area;
}

CutArea CutArea::open(UniqueFd memory) {
  Header header{};
  if (pread(memory.get(), &header, sizeof header, 0) != sizeof header || header.magic != kMagic ||
      !valid(header.geometry) || header.data_bytes > header.geometry.data_bytes_max) {
    throw NativeError("bad-cut-area", "the memory for a cut is not one");
  }
  CutArea area(std::move(memory), header.geometry);
  struct stat status {};
  if (fstat(area.fd(), &status) != 0) throw_errno(errno, "fstat of a cut");
  if (static_cast<uint64_t>(status.st_size) != area.end_) {
    throw NativeError("bad-cut-area", "the memory for a cut has another size");
  }
  // A lock is of an open file, and the descriptor is one of the agent's file.
  const std::string path = "/proc/self/fd/" + std::to_string(area.fd());
  area.lock_ = UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!area.lock_) throw_errno(errno, "open of a cut");
  if (flock(area.lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    throw NativeError("bad-cut-area", "another process uses the memory for a cut");
  }
  area.map(area.data_begin_ + page_up(header.data_bytes), MAP_POPULATE);
  return area;
}

bool CutArea::has_cutter() const {
  if (flock(fd(), LOCK_EX | LOCK_NB) != 0) return true;
  flock(fd(), LOCK_UN);
  return false;
}

void CutArea::map(uint64_t bytes, int flags) {
  void* const mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd(), 0);
  if (mapped == MAP_FAILED) throw_errno(errno, "mmap of a cut");
  bytes_ = static_cast<uint8_t*>(mapped);
  mapped_bytes_ = bytes;
}

void CutArea::limit_data(uint64_t bytes) { header().data_bytes = std::min(bytes, geometry_.data_bytes_max); }

CutArea::CutArea(CutArea&& other) noexcept
    : memory_(std::move(other.memory_)),
      lock_(std::move(other.lock_)),
      geometry_(other.geometry_),
      pending_begin_(other.pending_begin_),
      staged_begin_(other.staged_begin_),
      pieces_begin_(other.pieces_begin_),
      data_begin_(other.data_begin_),
      end_(other.end_),
      mapped_bytes_(other.mapped_bytes_),
      bytes_(std::exchange(other.bytes_, nullptr)) {}

CutArea::~CutArea() {
  if (bytes_ != nullptr) munmap(bytes_, mapped_bytes_);
}

CutArea::Header& CutArea::header() const { return *reinterpret_cast<Header*>(bytes_); }
CutResult& CutArea::result() const { return header().result; }

std::span<uint64_t> CutArea::pending() const {
  return {reinterpret_cast<uint64_t*>(bytes_ + pending_begin_), geometry_.word_count()};
}
std::span<uint64_t> CutArea::staged() const {
  return {reinterpret_cast<uint64_t*>(bytes_ + staged_begin_), geometry_.unit_words()};
}
std::span<CutPiece> CutArea::pieces() const {
  return {reinterpret_cast<CutPiece*>(bytes_ + pieces_begin_), geometry_.pieces_max()};
}
std::span<uint8_t> CutArea::data() const { return {bytes_ + data_begin_, mapped_bytes_ - data_begin_}; }

}  // namespace stillpoint
