// A tap over a device in memory, for tests of what it does.
#pragma once

#include <memory>
#include <vector>

#include "core/tap/export.h"
#include "core/tap/snapshot/export.h"
#include "test/helpers/helpers.h"
#include "test/helpers/hold_at_once.h"
#include "test/helpers/memory_export.h"
#include "test/helpers/recording_file.h"

namespace stillpoint::test {

inline constexpr uint32_t kBlock = 4096;
inline constexpr uint64_t kBlocks = 64;
inline const TreeGeometry kGeometry{kBlocks * kBlock - 512, kBlock};  // the last block is short
inline const Id kBase{1};

struct World {
  explicit World(std::vector<Id> points = {kBase}) {
    auto map = std::make_unique<ChangeMap>(kGeometry, std::make_unique<BlockMap>(kBlocks), nullptr,
                                           ChangeMap::Start{std::move(points), "as made"});
    tap = std::make_unique<TapExport>(device, kGeometry, std::move(map));
  }

  TapExport::HoldOptions options(uint64_t preserve_blocks = kBlocks) {
    TapExport::HoldOptions options;
    options.base_point = kBase;
    options.snapshot.session_id.fill(9);
    options.preserve_file = std::make_unique<RecordingFile>(preserve);
    options.preserve_bytes_max = preserve_blocks * kBlock;
    return options;
  }

  int write(uint64_t block, uint8_t content, Patience patience = Patience::may_wait) {
    const std::vector<uint8_t> bytes(kGeometry.block_length(block), content);
    return tap->write(block * kBlock, bytes, false, patience);
  }

  static int read(const TapExport::Hold& hold, uint64_t block, std::vector<uint8_t>& into) {
    into.resize(kGeometry.block_length(block));
    return hold.snapshot->read(block * kBlock, into);
  }

  static bool holds(const TapExport::Hold& hold, uint64_t block, uint8_t content) {
    std::vector<uint8_t> bytes;
    return read(hold, block, bytes) == 0 && bytes == std::vector<uint8_t>(bytes.size(), content);
  }

  std::shared_ptr<MemoryExport> device = std::make_shared<MemoryExport>(kGeometry.size_bytes);
  std::shared_ptr<Recording> preserve = std::make_shared<Recording>();
  std::unique_ptr<TapExport> tap;
};

}  // namespace stillpoint::test
