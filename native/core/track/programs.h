// The tracing programs, written for the running kernel and one device. Each looks whether an event is a write
// to the device, and sets a bit for every grain that it touches:
//
//   block_bio_queue       a write was submitted                          -> map `queued`
//   block_rq_complete     a request was completed, or a part of it       -> map `done`
//   block_bio_complete    the same of a device without a request queue   -> map `done`
//
// "Write" is every operation with an odd number: write, discard, secure erase, write zeroes, zone append
// (include/linux/blk_types.h). Operations from 32 on are passed through to the driver and carry no sector:
// they are counted, and nobody knows what they changed.
//
// A device without a request queue (dm, md, zram) may cut a submitted write into parts, and what completes in
// the end shows only the last part. So the range is kept from when it was queued until its completion, in a
// hash map by the address of the bio (`in_flight`). One that has no room is counted.
//
// The kernel does not run a program that already runs on the same processor: an interrupt that completes a
// write in that moment is not seen. Task, soft interrupt and hard interrupt can nest, no more, so of three
// copies of a program one always runs (docs/live.md). kCompletionCopies says so.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/track/assembler.h"
#include "core/track/btf.h"

namespace stillpoint {

inline constexpr unsigned kCompletionCopies = 3;

// Where things are in the running kernel.
struct KernelLayout {
  uint32_t queue_type_id, request_type_id, bio_type_id;       // of the three tracepoints
  uint32_t queue_bio_argument, complete_bio_argument;         // which argument is the bio
  uint32_t bio_operation, bio_device, bio_sector, bio_bytes;  // offsets
  uint32_t device_disk, disk_major, disk_minor;
  uint32_t request_operation, request_sector;
  // From a request to its disk: through its queue, or directly (`queue_disk` is unused then).
  uint32_t request_path, queue_disk;
  bool disk_through_queue;

  // `no-btf` and `old-kernel`, with what is missing.
  static KernelLayout of(const Btf& btf);
};

// What is tracked: sectors of 512 bytes of a whole disk.
struct TrackTarget {
  uint32_t disk_major;
  uint32_t disk_minor;
  uint64_t start_sector;
  uint64_t sector_count;
  uint32_t grain_bytes;  // a power of two, 4 KiB or more
  bool has_request_queue;

  uint64_t grain_count() const;
  uint64_t word_count() const;  // of 64 grains each
};

// Descriptors of the maps that the programs write to.
struct TrackMaps {
  int queued;
  int done;
  int counters;
  int in_flight;  // -1 for a device that has a request queue
};

// Of the map `counters`, in u64.
enum Counter : uint32_t { kPassedThrough = 0, kNotNoted = 1, kCounters = 8 };

// What in_flight holds of each bio.
struct InFlightRange {
  uint64_t first_grain;
  uint64_t last_grain;
};

using Program = std::vector<bpf_insn>;
Program queue_program(const KernelLayout& layout, const TrackTarget& target, const TrackMaps& maps);
Program request_program(const KernelLayout& layout, const TrackTarget& target, const TrackMaps& maps);
Program bio_program(const KernelLayout& layout, const TrackTarget& target, const TrackMaps& maps);

}  // namespace stillpoint
