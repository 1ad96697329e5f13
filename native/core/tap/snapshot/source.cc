#include "core/tap/snapshot/source.h"

#include <libnbd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/base/error.h"
#include "core/tap/snapshot/export.h"

namespace stillpoint {
namespace {

constexpr uint64_t kRequestBytesMax = 16u << 20;
// Lengths are 32 bits on the wire; a whole number of the largest blocks.
constexpr uint64_t kQueryBytesMax = (uint64_t{4} << 30) - (4u << 20);
// Questions that are asked before the first of them is answered.
constexpr size_t kQueriesMax = 64;
constexpr const char* kAllocation = LIBNBD_CONTEXT_BASE_ALLOCATION;

std::string socket_path_of(const std::string& address) {
  static constexpr char kPrefix[] = "unix:";
  if (address.rfind(kPrefix, 0) != 0)
    throw NativeError("argument", "not an address of the form unix:PATH", address);
  return address.substr(sizeof kPrefix - 1);
}

}  // namespace

class NbdSource::Borrowed {
 public:
  explicit Borrowed(NbdSource& source) : source_(source) {
    {
      std::unique_lock lock(source_.mutex_);
      source_.given_back_.wait(lock,
                               [&] { return !source_.idle_.empty() || source_.open_ < kConnectionsMax; });
      if (!source_.idle_.empty()) {
        connection_ = source_.idle_.back();
        source_.idle_.pop_back();
        return;
      }
      source_.open_++;
    }
    try {
      connection_ = source_.connect();
    } catch (...) {
      gone();
      throw;
    }
  }
  ~Borrowed() {
    if (connection_ == nullptr) return;
    if (!abandoned_ && nbd_aio_is_ready(connection_) == 1) {
      std::lock_guard lock(source_.mutex_);
      source_.idle_.push_back(connection_);
    } else {
      nbd_close(connection_);
      std::lock_guard lock(source_.mutex_);
      source_.open_--;
    }
    source_.given_back_.notify_one();
  }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;

  nbd_handle* get() const { return connection_; }
  // It is closed, whatever it may still answer.
  void abandon() { abandoned_ = true; }

 private:
  void gone() {
    {
      std::lock_guard lock(source_.mutex_);
      source_.open_--;
    }
    source_.given_back_.notify_one();
  }

  NbdSource& source_;
  nbd_handle* connection_ = nullptr;
  bool abandoned_ = false;
};

NbdSource::NbdSource(const std::string& address, const std::string& export_name)
    : path_(address), socket_path_(socket_path_of(address)), export_name_(export_name) {
  const Borrowed connection(*this);
  const int64_t size = nbd_get_size(connection.get());
  if (size < 0) fail(connection.get(), "asking for the size", 0);
  size_bytes_ = static_cast<uint64_t>(size);
}

NbdSource::~NbdSource() {
  for (nbd_handle* const connection : idle_) {
    nbd_shutdown(connection, 0);
    nbd_close(connection);
  }
}

nbd_handle* NbdSource::connect() const {
  nbd_handle* const connection = nbd_create();
  if (connection == nullptr) throw_errno(ENOMEM, "making a connection", path_);
  if (nbd_set_export_name(connection, export_name_.c_str()) == 0 &&
      nbd_add_meta_context(connection, kAllocation) == 0 &&
      nbd_add_meta_context(connection, SnapshotExport::kChangedContext) == 0 &&
      nbd_connect_unix(connection, socket_path_.c_str()) == 0)
    return connection;
  const int error = nbd_get_errno();
  const std::string reason = nbd_get_error();
  nbd_close(connection);
  const char* const name = error == 0 ? nullptr : strerrorname_np(error);
  throw NativeError(name == nullptr ? "ENOTCONN" : name, "connecting: " + reason, path_);
}

void NbdSource::fail(nbd_handle* connection, const char* action, uint64_t byte_offset) const {
  const int error = nbd_get_errno();
  const bool answered = error != 0 && nbd_aio_is_ready(connection) == 1;
  throw_errno(answered ? error : ENOTCONN, action, path_, static_cast<int64_t>(byte_offset));
}

void NbdSource::read(uint64_t byte_offset, std::span<uint8_t> into) {
  const Borrowed connection(*this);
  while (!into.empty()) {
    const auto part = into.first(std::min<size_t>(into.size(), kRequestBytesMax));
    if (nbd_pread(connection.get(), part.data(), part.size(), byte_offset, 0) != 0)
      fail(connection.get(), "reading", byte_offset);
    byte_offset += part.size();
    into = into.subspan(part.size());
  }
}

void NbdSource::done_with(uint64_t byte_offset, uint64_t byte_length) {
  const Borrowed connection(*this);
  while (byte_length > 0) {
    const uint64_t part = std::min(byte_length, kQueryBytesMax);
    if (nbd_trim(connection.get(), part, byte_offset, 0) != 0)
      fail(connection.get(), "releasing", byte_offset);
    byte_offset += part;
    byte_length -= part;
  }
}

void NbdSource::write(uint64_t byte_offset, Bytes) {
  throw_errno(EPERM, "writing", path_, static_cast<int64_t>(byte_offset));
}

void NbdSource::zero(uint64_t byte_offset, uint64_t) {
  throw_errno(EPERM, "zeroing", path_, static_cast<int64_t>(byte_offset));
}

std::vector<NbdExtent> NbdSource::query(const char* context, uint64_t byte_offset, uint64_t byte_length,
                                        size_t queries) {
  struct Answer {
    const char* context;
    uint64_t byte_length;
    std::vector<NbdExtent> extents;
    int error;
  };
  // Outlives the connection's use of it, whatever fails.
  std::vector<Answer> answers;
  answers.reserve(queries);
  Borrowed connection(*this);
  bool alive = true;
  const uint64_t end = byte_offset + byte_length;
  for (uint64_t at = byte_offset; at < end && answers.size() < queries && alive; at += kQueryBytesMax) {
    Answer& answer = answers.emplace_back(Answer{context, std::min(end - at, kQueryBytesMax), {}, 0});
    nbd_extent_callback extents{};
    extents.user_data = &answer;
    extents.callback = [](void* data, const char* name, uint64_t, uint32_t* entries, size_t count, int*) {
      auto& into = *static_cast<Answer*>(data);
      if (std::strcmp(name, into.context) != 0) return 0;
      for (size_t i = 0; i + 1 < count; i += 2) into.extents.push_back({entries[i], entries[i + 1]});
      return 0;
    };
    nbd_completion_callback completed{};
    completed.user_data = &answer;
    completed.callback = [](void* data, int* error) {
      static_cast<Answer*>(data)->error = *error;
      return 1;  // that is all there is to do about it
    };
    alive = nbd_aio_block_status(connection.get(), answer.byte_length, at, extents, completed, 0) >= 0;
  }
  while (alive && nbd_aio_in_flight(connection.get()) > 0) alive = nbd_poll(connection.get(), -1) >= 0;
  if (!alive) {
    connection.abandon();
    throw_errno(ENOTCONN, "asking for extents", path_, static_cast<int64_t>(byte_offset));
  }

  std::vector<NbdExtent> extents;
  for (const Answer& answer : answers) {
    if (answer.error != 0)
      throw_errno(answer.error, "asking for extents", path_, static_cast<int64_t>(byte_offset));
    if (answer.extents.empty())
      throw NativeError("ENOTSUP", std::string("the server does not know ") + context, path_);
    extents.insert(extents.end(), answer.extents.begin(), answer.extents.end());
    uint64_t told = 0;
    for (const NbdExtent& extent : answer.extents) told += extent.byte_length;
    // It may tell less than was asked, or more: what follows does not join.
    if (told != answer.byte_length) break;
  }
  return extents;
}

uint64_t NbdSource::next(uint64_t from, bool hole) {
  std::lock_guard lock(extents_mutex_);
  while (from < size_bytes_) {
    uint64_t at = extents_begin_;
    for (const NbdExtent& extent : extents_) {
      const uint64_t end = at + extent.byte_length;
      const bool is_hole = (extent.flags & LIBNBD_STATE_ZERO) != 0;
      if (from >= at && from < end && is_hole == hole) return from;
      if (from >= at && from < end) from = end;
      at = end;
    }
    if (from >= size_bytes_) break;
    extents_ = query(kAllocation, from, size_bytes_ - from, 1);
    extents_begin_ = from;
  }
  return size_bytes_;
}

uint64_t NbdSource::next_data(uint64_t from) { return next(from, false); }
uint64_t NbdSource::next_hole(uint64_t from) { return next(from, true); }

std::vector<BlockRange> NbdSource::changed_ranges(uint32_t block_size) {
  std::vector<BlockRange> ranges;
  // Many at once where there is little to tell, since then a round trip is what each costs.
  size_t queries = 1;
  for (uint64_t at = 0; at < size_bytes_;) {
    const uint64_t from = at;
    for (const NbdExtent& extent : query(SnapshotExport::kChangedContext, at, size_bytes_ - at, queries)) {
      const uint64_t end = std::min(size_bytes_, at + extent.byte_length);
      if (extent.flags != 0) {
        const uint64_t first = at / block_size;
        const uint64_t last = (end + block_size - 1) / block_size;
        if (!ranges.empty() && ranges.back().end >= first) {
          ranges.back().end = last;
        } else {
          ranges.push_back({first, last});
        }
      }
      at = end;
    }
    queries = at - from >= queries * kQueryBytesMax ? std::min(2 * queries, kQueriesMax) : 1;
  }
  return ranges;
}

}  // namespace stillpoint
