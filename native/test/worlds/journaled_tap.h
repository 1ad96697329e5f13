// A tap with a journal, over a device in memory.
#pragma once

#include "core/tap/export.h"
#include "core/tap/snapshot/export.h"
#include "test/helpers/hold_at_once.h"
#include "test/helpers/memory_export.h"
#include "test/worlds/journal_world.h"

namespace stillpoint::test {

struct JournaledTap : JournalWorld {
  static constexpr uint32_t kBlock = 4096;
  explicit JournaledTap(uint64_t blocks = 64) : geometry{blocks * kBlock, kBlock} {
    device = std::make_shared<MemoryExport>(geometry.size_bytes);
  }

  // As a tap starts; the device is as it was.
  void start() {
    auto map = std::make_unique<ChangeMap>(geometry, std::make_unique<BlockMap>(geometry.block_count()),
                                           nullptr, ChangeMap::Start{{}, "as made"});
    tap = std::make_unique<TapExport>(device, geometry, std::move(map), make());
  }

  // A clean end, as the whole tap makes it.
  int end() {
    const int error = tap->close_clean("");
    if (error == 0) tap->journal()->close();
    return error;
  }

  // A session that reads all: the hold, and the content of its instant.
  TapExport::Hold hold(std::vector<uint8_t>* image = nullptr) {
    TapExport::HoldOptions options;
    options.snapshot.session_id = next_id();
    options.snapshot.full = true;
    options.preserve_file = std::make_unique<RecordingFile>(std::make_shared<Recording>());
    options.preserve_bytes_max = 4 * geometry.size_bytes;
    auto held = hold_at_once(*tap, std::move(options), {std::chrono::seconds(20), std::chrono::seconds(30)});
    if (image != nullptr) {
      image->resize(geometry.size_bytes);
      REQUIRE(held.snapshot->read(0, *image) == 0);
    }
    return held;
  }

  std::vector<uint8_t> content() {
    std::vector<uint8_t> bytes(geometry.size_bytes);
    REQUIRE(device->read(0, bytes, Patience::may_wait) == 0);
    return bytes;
  }
  int write(uint64_t byte_offset, size_t length, uint8_t value, Patience patience = Patience::may_wait) {
    return tap->write(byte_offset, std::vector<uint8_t>(length, value), false, patience);
  }
  // With all that was answered, or all that it will ever have.
  JournalHead current() {
    tap->journal()->settle();
    return tap->journal()->heads().back();
  }
  // What the journal gives from its first record on, over a device of zeros.
  std::vector<uint8_t> replayed(const JournalHead& head) {
    std::vector<uint8_t> image(geometry.size_bytes);
    for (const StoredRecord& stored : read_to(head)) replay(stored, image);
    return image;
  }

  const TreeGeometry geometry;
  std::shared_ptr<MemoryExport> device;
  std::unique_ptr<TapExport> tap;
};

}  // namespace stillpoint::test
