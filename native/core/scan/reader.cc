#include "core/scan/reader.h"

#include <algorithm>
#include <cstring>

#include "core/base/error.h"

namespace stillpoint {
namespace {

// The errors with which Linux reports a bad place, not a lost device: I/O error, critical medium, protection
// and target errors, and checksum failures of file systems under an image.
bool is_bad_medium(const NativeError& error) {
  for (const char* code : {"EIO", "ENODATA", "EILSEQ", "EREMOTEIO", "EBADMSG", "EUCLEAN"}) {
    if (error.code() == code) return true;
  }
  return false;
}

class Salvage {
 public:
  Salvage(BlockSource& device, unsigned retries, const std::atomic<bool>& stopping)
      : device_(device), retries_(retries), stopping_(stopping) {}

  void read(uint64_t byte_offset, std::span<uint8_t> into) {
    if (try_read(byte_offset, into)) return;
    const uint64_t sector = device_.logical_sector_size();
    // Halves end at sector boundaries of the device, wherever the range begins.
    const uint64_t middle = (byte_offset + into.size() / 2 + sector - 1) / sector * sector;
    if (into.size() <= sector || middle >= byte_offset + into.size()) {
      std::memset(into.data(), 0, into.size());
      if (!bad_.empty() && bad_.back().byte_offset + bad_.back().byte_length == byte_offset) {
        bad_.back().byte_length += into.size();
      } else {
        bad_.push_back({byte_offset, into.size()});
      }
      return;
    }
    read(byte_offset, into.first(middle - byte_offset));
    read(middle, into.subspan(middle - byte_offset));
  }

  std::vector<ByteRange> take_bad() { return std::move(bad_); }

 private:
  bool try_read(uint64_t byte_offset, std::span<uint8_t> into) {
    for (unsigned attempt = 0; attempt <= retries_; attempt++) {
      if (stopping_) throw NativeError("cancelled", "the scan was cancelled");
      try {
        device_.read(byte_offset, into);
        return true;
      } catch (const NativeError& error) {
        if (!is_bad_medium(error)) throw;
      }
    }
    return false;
  }

  BlockSource& device_;
  const unsigned retries_;
  const std::atomic<bool>& stopping_;
  std::vector<ByteRange> bad_;
};

}  // namespace

std::vector<ByteRange> read_what_is_readable(BlockSource& device, uint64_t byte_offset,
                                             std::span<uint8_t> into, unsigned retries,
                                             const std::atomic<bool>& stopping) {
  Salvage salvage(device, retries, stopping);
  salvage.read(byte_offset, into);
  return salvage.take_bad();
}

}  // namespace stillpoint
