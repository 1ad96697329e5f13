// The port of devices: BlockDevice (block devices and regular files), NbdSource (a tap's snapshot),
// MemoryDevice (tests).
//
// Threads: every method may be called from any number of threads at once; none is called again after the
// destructor has begun. Ranges are inside the device; otherwise the error is `argument`. Failures are
// NativeErrors with an errno name, the path and the byte offset. `ETRUNCATED`: the device now ends before its
// size_bytes(), at the byte offset or before it. The missing part never reads as zeros, and is not a hole.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "core/base/digest.h"

namespace stillpoint {

class BlockSource {
 public:
  enum class Type { block, file, memory, snapshot };

  virtual ~BlockSource() = default;
  BlockSource(const BlockSource&) = delete;
  BlockSource& operator=(const BlockSource&) = delete;

  virtual const std::string& path() const = 0;
  virtual Type type() const = 0;
  virtual uint64_t size_bytes() const = 0;
  virtual uint32_t logical_sector_size() const = 0;
  // Reads and writes past the page cache. Fastest with memory from AlignedBuffer and whole sectors; anything
  // else works too.
  virtual bool direct() const = 0;

  // All of the range or an exception; what `into` then holds is undefined.
  virtual void read(uint64_t byte_offset, std::span<uint8_t> into) = 0;
  // Calls look(bytes) with the range where it lies in memory, if that is cheaper than reading it; else, or if
  // the look was interrupted, answers false, and read() tells the truth. What `look` may do:
  // core/device/cached_view.h.
  virtual bool look_at_cached(uint64_t /*byte_offset*/, uint64_t /*byte_length*/,
                              const std::function<void(Bytes)>& /*look*/) {
    return false;
  }
  // The range has been read for the last time: what keeps it as it was need not do so any more.
  virtual void done_with(uint64_t /*byte_offset*/, uint64_t /*byte_length*/) {}
  virtual void write(uint64_t byte_offset, Bytes bytes) = 0;
  // The range reads as zeros afterwards: a hole, BLKZEROOUT or written zeros, never a discard alone.
  virtual void zero(uint64_t byte_offset, uint64_t byte_length) = 0;
  // What was written survives a power cut.
  virtual void flush() = 0;
  // Forgets clean cached pages where that is possible, so that later reads come from the medium.
  virtual void drop_cache() {}

  // First offset >= from that may hold data other than zeros (not in a hole), or size_bytes().
  virtual uint64_t next_data(uint64_t from) = 0;
  // First offset >= from that lies in a hole, or size_bytes().
  virtual uint64_t next_hole(uint64_t from) = 0;

 protected:
  BlockSource() = default;
};

}  // namespace stillpoint
