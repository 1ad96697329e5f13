#include "core/tap/snapshot/preserve_area.h"

#include <cerrno>

namespace stillpoint {

int PreserveArea::store(uint64_t byte_offset, Bytes original, Patience patience) {
  if (abandoned_) return ECANCELED;
  if (used_bytes_.fetch_add(original.size()) + original.size() > bytes_max_) {
    used_bytes_ -= original.size();
    return kFull;
  }
  const auto write = [&] { return file_->write(byte_offset, original); };
  const int error = patience == Patience::immediate ? quick_writes_.attempt(write) : write();
  if (error != 0) used_bytes_ -= original.size();
  return error;
}

int PreserveArea::load(uint64_t byte_offset, std::span<uint8_t> into) {
  const int error = file_->read(byte_offset, into);
  // Abandoned meanwhile, the file may have read as zeros.
  return abandoned_ ? ESHUTDOWN : error;
}

void PreserveArea::release(uint64_t byte_offset, uint64_t byte_length, uint64_t stored_bytes) {
  if (stored_bytes == 0 || abandoned_) return;
  file_->discard(byte_offset, byte_length);
  used_bytes_ -= stored_bytes;
}

}  // namespace stillpoint
