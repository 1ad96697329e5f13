#include "core/codec/pack_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "core/base/error.h"

namespace stillpoint {

namespace {

constexpr uint64_t kWindowBytes = 1 << 20;
// What is given up where a disk does not give it.
constexpr uint64_t kUnreadableStep = 4096;
constexpr uint8_t kRecordMagic[4] = {'S', 'P', 'R', '1'};

// Views of a pack that move forward.
class Window {
 public:
  explicit Window(const PackSource& pack) : pack_(pack) {}

  // Valid until the next call. The range must lie within the pack.
  Bytes at(uint64_t offset, uint64_t length) {
    if (offset < begin_ || offset + length > begin_ + held_) load(offset, length);
    return Bytes(buffer_).subspan(offset - begin_, length);
  }

  // As at(), but of up to `length` bytes, as many as the pack has.
  Bytes up_to(uint64_t offset, uint64_t length) {
    return at(offset, std::min(length, pack_.length() - offset));
  }

 private:
  void load(uint64_t offset, uint64_t length) {
    const uint64_t ahead = std::min(std::max(length, kWindowBytes), pack_.length() - offset);
    if (buffer_.size() < ahead) buffer_.resize(ahead);
    held_ = 0;
    begin_ = offset;
    try {
      pack_.read(offset, std::span(buffer_).first(ahead));
      held_ = ahead;
    } catch (const NativeError&) {
      if (ahead == length) throw;
      pack_.read(offset, std::span(buffer_).first(length));  // a bad sector ahead is not in the way yet
      held_ = length;
    }
  }

  const PackSource& pack_;
  std::vector<uint8_t> buffer_;
  uint64_t begin_ = 0;
  uint64_t held_ = 0;
};

PackHeader read_header(const PackSource& pack) {
  std::array<uint8_t, kPackHeaderBytes> bytes;
  const size_t length = std::min<uint64_t>(bytes.size(), pack.length());
  pack.read(0, std::span(bytes).first(length));
  return parse_pack_header(Bytes(bytes).first(length));
}

// The records that prove themselves in [kPackHeaderBytes, end of pack), in order.
std::vector<uint8_t> find_records(const PackSource& pack, const Digester& digester,
                                  std::optional<PackKind> kind) {
  std::vector<uint8_t> index;
  std::vector<uint8_t> scratch;
  Window window(pack);
  uint64_t offset = kPackHeaderBytes;
  while (offset + kRecordHeaderBytes <= pack.length()) {
    try {
      const uint64_t stored_length = parse_record_header(window.at(offset, kRecordHeaderBytes)).stored_length;
      const RecordView record = parse_record(window.up_to(offset, kRecordHeaderBytes + stored_length));
      if (kind && record.kind != record_kind_of(*kind))
        throw NativeError("bad-kind", "pack: not its kind of record");
      if (scratch.size() < record.raw_length) scratch.resize(record.raw_length);
      decode_record(record, digester, scratch.data());
      append_pack_entry(
          index, {record.digest, offset, record.stored_length, record.raw_length, record.codec, record.kind});
      offset += record.bytes.size();
      continue;
    } catch (const NativeError&) {
      ++offset;  // no record here; the next one begins with its magic number
    }
    try {
      const Bytes ahead = window.up_to(offset, kUnreadableStep);
      const auto found =
          std::search(ahead.begin(), ahead.end(), std::begin(kRecordMagic), std::end(kRecordMagic));
      const auto skipped = static_cast<uint64_t>(found - ahead.begin());
      // A magic number may lie across the end of what was searched.
      offset += found == ahead.end()
                    ? std::max<uint64_t>(ahead.size(), sizeof kRecordMagic) - (sizeof kRecordMagic - 1)
                    : skipped;
    } catch (const NativeError&) {
      offset += kUnreadableStep;
    }
  }
  return index;
}

// Where there should be records and are none.
void report_gaps(const PackSource& pack, Bytes index,
                 const std::function<void(const PackDamage&)>& on_damage) {
  uint64_t free_from = kPackHeaderBytes;
  for (size_t i = 0; i < index.size() / kPackIndexEntryBytes; ++i) {
    const PackEntry entry = load_pack_entry(index, i);
    if (entry.offset != free_from) on_damage({free_from, std::nullopt, "pack: no valid record there"});
    free_from = entry.end();
  }
  // What follows is index and footer, unless it looks like a record.
  std::array<uint8_t, sizeof kRecordMagic> magic;
  if (free_from + magic.size() > pack.length()) return;
  try {
    pack.read(free_from, magic);
    if (std::memcmp(magic.data(), kRecordMagic, magic.size()) != 0) return;
  } catch (const NativeError&) {
  }
  on_damage({free_from, std::nullopt, "pack: no valid record there"});
}

}  // namespace

PackFile::PackFile(const std::string& path) : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (fd_ < 0) throw_errno(errno, "open", path);
  struct stat status;
  if (fstat(fd_, &status) != 0) {
    const int error_number = errno;
    close(fd_);
    throw_errno(error_number, "stat", path);
  }
  length_ = static_cast<uint64_t>(status.st_size);
}

PackFile::~PackFile() { close(fd_); }

void PackFile::read(uint64_t offset, std::span<uint8_t> into) const {
  while (!into.empty()) {
    const ssize_t got = pread(fd_, into.data(), into.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno(errno, "read", path_, static_cast<int64_t>(offset));
    if (got == 0)
      throw NativeError("truncated", path_ + ": became shorter", path_, static_cast<int64_t>(offset));
    offset += static_cast<uint64_t>(got);
    into = into.subspan(static_cast<size_t>(got));
  }
}

PackIndex read_pack_index(const PackSource& pack) {
  const PackHeader header = read_header(pack);
  if (pack.length() < kPackHeaderBytes + kPackFooterBytes)
    throw NativeError("truncated", "pack: has no footer");
  std::array<uint8_t, kPackFooterBytes> footer_bytes;
  pack.read(pack.length() - kPackFooterBytes, footer_bytes);
  const PackFooter footer = parse_pack_footer(footer_bytes, pack.length());
  PackIndex index{header.pack_id, header.kind,
                  std::vector<uint8_t>(footer.record_count * kPackIndexEntryBytes)};
  pack.read(footer.index_offset, index.entries);
  check_pack_tail(index.entries, footer_bytes);
  if (footer.pack_id != header.pack_id)
    throw NativeError("bad-index", "pack: header and footer name two packs");
  check_pack_index(index.entries, footer.index_offset, header.kind);
  return index;
}

PackVerification verify_pack(const PackSource& pack, const Digester& digester,
                             const std::function<void(const PackDamage&)>& on_damage) {
  PackVerification result{0, 0};
  PackIndex index;
  try {
    index = read_pack_index(pack);
  } catch (const NativeError& error) {
    on_damage({0, std::nullopt, error.what()});
    index = salvage_pack(pack, digester);
    report_gaps(pack, index.entries, on_damage);
  }
  Window window(pack);
  std::vector<uint8_t> scratch;
  for (size_t i = 0; i < index.record_count(); ++i) {
    const PackEntry entry = load_pack_entry(index.entries, i);
    ++result.record_count;
    try {
      const RecordView record = parse_record(window.at(entry.offset, entry.end() - entry.offset));
      if (record.kind != entry.kind || record.codec != entry.codec || record.raw_length != entry.raw_length ||
          record.stored_length != entry.stored_length || record.digest != entry.digest) {
        throw NativeError("bad-index", "record: not the one that the index names");
      }
      if (scratch.size() < record.raw_length) scratch.resize(record.raw_length);
      decode_record(record, digester, scratch.data());
      result.checked_bytes += record.bytes.size();
    } catch (const NativeError& error) {
      on_damage({entry.offset, entry.digest, error.what()});
    }
  }
  return result;
}

PackIndex salvage_pack(const PackSource& pack, const Digester& digester) {
  std::optional<PackHeader> header;
  try {
    header = read_header(pack);
  } catch (const NativeError&) {
    // The records may still be good.
  }
  if (header) return {header->pack_id, header->kind, find_records(pack, digester, header->kind)};
  PackIndex index{{}, PackKind::data, find_records(pack, digester, std::nullopt)};
  if (index.record_count() > 0 && load_pack_entry(index.entries, 0).kind == RecordKind::node) {
    index.kind = PackKind::tree;
  }
  return index;
}

}  // namespace stillpoint
