// Writes the blocks of a point to a device: decompress, digest, compare with the point's tree, write, on the
// pool. Neighbouring blocks are written together; every write begins on a block boundary, so only a device's
// short tail is not aligned.
//
// Locking: none of its own. Calls may overlap as long as their blocks are distinct; the tree must not change
// meanwhile.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "core/base/id.h"
#include "core/base/thread_pool.h"
#include "core/device/block_source.h"
#include "core/tree/tree_file.h"

namespace stillpoint {

class RestoreWriter {
 public:
  // `geometry-mismatch` if the device is smaller than the tree's.
  RestoreWriter(std::shared_ptr<BlockSource> device, std::shared_ptr<const TreeFile> tree, ThreadPool& pool);

  // A restore's batch, payload only. No byte of a block that isn't the tree's is written; others of the batch
  // may be. Answers the bytes written.
  uint64_t write(Bytes batch_body, const Id& point_id);
  void zero(uint64_t byte_offset, uint64_t byte_length) { device_->zero(byte_offset, byte_length); }
  void flush() { device_->flush(); }

  using Progress = std::function<void(uint64_t done_bytes)>;
  // Flushes, then reads all of the tree's range again and compares. The first block that differs.
  // `cancelled` once cancel() was called.
  std::optional<uint64_t> verify(const Progress& on_progress);
  void cancel() { cancelled_ = true; }

 private:
  void write_run(uint64_t byte_offset, Bytes bytes);
  // First block in [from, end) that differs, or end.
  uint64_t first_difference(uint64_t from, uint64_t end) const;

  std::shared_ptr<BlockSource> device_;
  std::shared_ptr<const TreeFile> tree_;
  ThreadPool& pool_;
  std::mutex buffered_write_mutex_;
  std::atomic<bool> cancelled_ = false;
};

}  // namespace stillpoint
