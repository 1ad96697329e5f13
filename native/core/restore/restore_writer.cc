#include "core/restore/restore_writer.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "core/base/aligned_buffer.h"
#include "core/base/error.h"
#include "core/codec/batch.h"

namespace stillpoint {

namespace {

// Bytes of one write or read; one block if that is more.
constexpr uint64_t kRunBytes = 1 << 20;
// Runs that verify() reads between two looks at progress and cancellation.
constexpr uint64_t kRunsPerStep = 64;

// One buffer for each thread, kept: every run needs one, and fresh pages cost as much as the copy into them.
AlignedBuffer& run_buffer(size_t size) {
  thread_local AlignedBuffer buffer;
  if (buffer.size() < size) buffer = AlignedBuffer(size);
  return buffer;
}

struct Run {
  size_t first_entry;
  size_t entry_count;
};

std::vector<Run> runs_of(const BatchView& batch, uint64_t blocks_max) {
  std::vector<Run> runs;
  for (size_t i = 0; i < batch.entries.size(); ++i) {
    const bool goes_on = !runs.empty() && runs.back().entry_count < blocks_max &&
                         batch.entries[i - 1].block_index + 1 == batch.entries[i].block_index;
    if (goes_on) {
      ++runs.back().entry_count;
    } else {
      runs.push_back({i, 1});
    }
  }
  return runs;
}

}  // namespace

RestoreWriter::RestoreWriter(std::shared_ptr<BlockSource> device, std::shared_ptr<const TreeFile> tree,
                             ThreadPool& pool)
    : device_(std::move(device)), tree_(std::move(tree)), pool_(pool) {
  if (device_->size_bytes() < tree_->geometry().size_bytes) {
    throw NativeError("geometry-mismatch", device_->path() + ": smaller than the tree's device",
                      device_->path());
  }
}

uint64_t RestoreWriter::write(Bytes batch_body, const Id& point_id) {
  const TreeGeometry& geometry = tree_->geometry();
  const BatchView batch = parse_batch(batch_body, {point_id, 0, geometry, tree_->digester(), tree_.get()});
  uint64_t written = 0;
  for (const BatchEntry& entry : batch.entries) {
    if (entry.kind != EntryKind::payload)
      throw NativeError("bad-kind", "batch: a restore's holds payload only");
    written += geometry.block_length(entry.block_index);
  }
  const uint64_t blocks_max = std::max<uint64_t>(1, kRunBytes / geometry.block_size);
  const std::vector<Run> runs = runs_of(batch, blocks_max);
  pool_.parallel_for(runs.size(), [&](size_t i) {
    AlignedBuffer& buffer = run_buffer(blocks_max * geometry.block_size);
    const std::span entries = std::span(batch.entries).subspan(runs[i].first_entry, runs[i].entry_count);
    uint8_t* at = buffer.data();
    for (const BatchEntry& entry : entries) {
      const Bytes raw = decode_content(batch.records[entry.record_ordinal], tree_->digester(), at);
      if (raw.data() != at) std::memcpy(at, raw.data(), raw.size());
      at += raw.size();
    }
    write_run(entries.front().block_index * geometry.block_size, Bytes(buffer.data(), at));
  });
  return written;
}

void RestoreWriter::write_run(uint64_t byte_offset, Bytes bytes) {
  std::unique_lock lock(buffered_write_mutex_, std::defer_lock);
  if (!device_->direct()) lock.lock();
  device_->write(byte_offset, bytes);
}

std::optional<uint64_t> RestoreWriter::verify(const Progress& on_progress) {
  const TreeGeometry& geometry = tree_->geometry();
  const uint64_t block_count = geometry.block_count();
  const uint64_t run_blocks = std::max<uint64_t>(1, kRunBytes / geometry.block_size);
  device_->flush();
  device_->drop_cache();
  uint64_t block = 0;
  while (block < block_count) {
    if (cancelled_)
      throw NativeError("cancelled", device_->path() + ": verification was cancelled", device_->path());
    // A hole that the tree calls NULL is right without being read.
    const uint64_t data_block = device_->next_data(block * geometry.block_size) / geometry.block_size;
    block = std::max(block, std::min(tree_->next_non_null(block), data_block));
    const uint64_t end = std::min(block_count, block + kRunsPerStep * run_blocks);
    std::atomic<uint64_t> first = block_count;
    pool_.parallel_for((end - block + run_blocks - 1) / run_blocks, [&](size_t i) {
      const uint64_t from = block + i * run_blocks;
      const uint64_t to = std::min(end, from + run_blocks);
      if (from > first) return;
      const uint64_t found = first_difference(from, to);
      if (found == to) return;
      uint64_t known = first;
      while (found < known && !first.compare_exchange_weak(known, found)) {
      }
    });
    if (first < block_count) return first;
    block = end;
    if (on_progress) on_progress(std::min(geometry.size_bytes, end * geometry.block_size));
  }
  return std::nullopt;
}

uint64_t RestoreWriter::first_difference(uint64_t from, uint64_t end) const {
  const TreeGeometry& geometry = tree_->geometry();
  const uint64_t byte_offset = from * geometry.block_size;
  const uint64_t byte_end = std::min(geometry.size_bytes, end * geometry.block_size);
  if (tree_->next_non_null(from) >= end && device_->next_data(byte_offset) >= byte_end) return end;
  const std::span<uint8_t> bytes = run_buffer(byte_end - byte_offset).first(byte_end - byte_offset);
  device_->read(byte_offset, bytes);
  std::vector<Digest> leaves(end - from);
  tree_->read_leaves(from, leaves.size(), leaves.data());
  uint64_t begin = 0;
  for (uint64_t block = from; block < end; ++block) {
    const uint32_t length = geometry.block_length(block);
    if (tree_->digester().leaf_digest(bytes.subspan(begin, length)) != leaves[block - from]) return block;
    begin += length;
  }
  return end;
}

}  // namespace stillpoint
