// The head of a journal: where it is, and up to where its records may be read. The tap publishes it in a
// mapped file of fixed size in the runtime directory, for others to read without asking. It is not in the
// spool's directory: where a file system copies on write and is full, a write to a mapping kills the
// process.
//
// The file has two slots and a sequence number. A slot is written while the number points to the other one.
// So a reader that finds the number unchanged has read a whole slot, and a tap that is killed while it
// writes leaves a whole one.
//
// Locking: publish() is for one thread at a time; the slots are atomics, of which readers notice changes.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "core/base/id.h"

namespace stillpoint {

struct JournalHead {
  enum class State : uint64_t { open = 1, broken = 2, closed = 3 };
  static constexpr size_t kReasonBytesMax = 160;

  Id journal{};
  Id clock{};
  State state = State::open;
  uint64_t ordinal = 0;  // all up to here are whole; 0: none
  uint64_t stamp = 0;    // of that one
  // Where it lies, and where it ends: the next record begins there, or at the start of the next segment.
  uint64_t segment = 0;
  uint64_t record_offset = 0;
  uint64_t end_offset = 0;
  uint64_t oldest_segment = 0;  // that is still there
  uint64_t last_ordinal = 0;    // that was drawn; of a broken journal: where the head ends
  uint64_t broken_stamp = 0;    // all that is before it is in the journal
  std::string reason;           // why it broke; a clause, cut to its bound

  friend bool operator==(const JournalHead&, const JournalHead&) = default;
};

class HeadFile {
 public:
  // Made anew, mode 0600; what was there is gone. Errno names.
  HeadFile(const std::string& path, const std::string& boot);
  ~HeadFile();
  HeadFile(const HeadFile&) = delete;
  HeadFile& operator=(const HeadFile&) = delete;

  void publish(const JournalHead& head) noexcept;
  void remove() noexcept;

  struct Shared;

 private:
  const std::string path_;
  Shared* shared_ = nullptr;
};

// The head as it is now, by any process. Nothing: there is no such file, it is from before a restart of the
// machine, or nothing was published yet. `bad-magic` (of another version, too), `bad-length`, errno names;
// `EAGAIN` if it changes too quickly.
std::optional<JournalHead> read_head(const std::string& path, const std::string& boot);

// The same as bytes that survive, for the file that a journal leaves when its tap ends.
inline constexpr size_t kHeadBytes = 512;
std::array<uint8_t, kHeadBytes> encode_head(const JournalHead& head);
// `bad-magic`, `bad-version`, `bad-checksum`, `bad-length`.
JournalHead decode_head(const std::array<uint8_t, kHeadBytes>& bytes);

}  // namespace stillpoint
