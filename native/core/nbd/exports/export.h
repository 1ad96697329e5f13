// The port of what the NBD server serves. DeviceExport serves a device or an image as it is; taps and tests
// have their own.
//
// Threads: every method may be called from any number of threads at once; none after the destructor has
// begun. Ranges are inside the export and have at least one byte: the server checks that. No method throws:
// users' I/O always ends in an answer.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/digest.h"

namespace stillpoint {

// Whether the caller is a thread that serves others meanwhile.
enum class Patience { immediate, may_wait };

// What an operation answers besides 0 and errno values: it could not be done at once, and nothing was done of
// it. Only with Patience::immediate.
inline constexpr int kWouldWait = -1;

// The same, of what lies behind the present end of a device that was cut, or is gone: it can neither be read
// nor written. EIO on the wire.
inline constexpr int kPastEnd = -2;

// "Input/output error", of what an operation answers.
std::string describe_failure(int error);

// What has become of the device below since it was opened.
struct SourceState {
  uint64_t size_bytes;           // now; 0 if it is gone
  uint64_t least_bytes;          // the smallest size that was seen
  uint64_t foreign_writers = 0;  // others that had the file open for writing, and have closed it
};

// A run of bytes of one status in one metadata context (NBD specification, "Metadata querying").
struct NbdExtent {
  uint64_t byte_length;
  uint32_t flags;
};

struct ZeroOptions {
  bool may_punch = true;   // not NBD_CMD_FLAG_NO_HOLE
  bool fast_only = false;  // NBD_CMD_FLAG_FAST_ZERO: ENOTSUP at once where it would be no faster than writing
};

class NbdExport {
 public:
  struct Properties {
    uint64_t size_bytes = 0;
    uint32_t block_size_min = 1;
    uint32_t block_size_preferred = 4096;
    bool read_only = false;
    bool can_flush = true;  // and FUA
    bool can_trim = true;
    bool can_zero = true;
    bool can_fast_zero = true;
    bool can_multi_conn = true;
    std::string description;
    std::vector<std::string> contexts;  // metadata contexts, such as "base:allocation"
  };

  virtual ~NbdExport() = default;
  NbdExport(const NbdExport&) = delete;
  NbdExport& operator=(const NbdExport&) = delete;

  virtual const Properties& properties() const = 0;
  virtual SourceState source_state() noexcept { return {properties().size_bytes, properties().size_bytes}; }

  virtual int read(uint64_t byte_offset, std::span<uint8_t> into, Patience patience) noexcept = 0;
  virtual int write(uint64_t byte_offset, Bytes bytes, bool fua, Patience patience) noexcept = 0;
  // What was answered before survives a power cut.
  virtual int flush() noexcept = 0;
  virtual int trim(uint64_t byte_offset, uint64_t byte_length, bool fua) noexcept = 0;
  virtual int zero(uint64_t byte_offset, uint64_t byte_length, const ZeroOptions& options,
                   bool fua) noexcept = 0;
  virtual int cache(uint64_t byte_offset, uint64_t byte_length) noexcept = 0;
  // Appends extents from byte_offset on, neighbours of different flags: at least one, at most `extents_max`,
  // maybe covering less than the range, never more. `context` is an index into properties().contexts.
  virtual int block_status(size_t context, uint64_t byte_offset, uint64_t byte_length, size_t extents_max,
                           std::vector<NbdExtent>& extents) noexcept = 0;

 protected:
  NbdExport() = default;
};

}  // namespace stillpoint
