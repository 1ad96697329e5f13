// Applies records to blocks in memory, a window of blocks at a time: for audits, and points made of journals.
//
// pass        note()         open()                load()                    apply()         digests()
// ---------   ------------   -------------------   -----------------------   -------------   ---------
// noting      marks blocks   -> window, unloaded   refused                   refused         refused
// unloaded    marks blocks   another window        bytes of the base         -> applied      of zeros, and
//                                                                                            what was loaded
// applied     marks blocks   another window        refused: it would undo    the records     of its blocks
//                                                  records                   that follow
//
// The records of each pass are proven, and follow each other from call to call: those that are noted, and
// those that are applied to one window.
//
// Memory: a map of at most 32 MiB, and the window. Locking: one call at a time; another one is refused
// (`EBUSY`). open() and touched() take little time, all else is for the pool.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "core/base/aligned_buffer.h"
#include "core/base/thread_pool.h"
#include "core/codec/batch.h"
#include "core/journal/run.h"
#include "core/tap/maps/block_map.h"
#include "core/tree/geometry.h"

namespace stillpoint {

class JournalReplay {
 public:
  static constexpr uint64_t kWindowBytesMax = uint64_t{256} << 20;
  // Of a larger device, each bit of the map stands for several blocks.
  static constexpr uint64_t kMapBitsMax = uint64_t{1} << 28;
  static constexpr size_t kTouchedRangesMax = size_t{1} << 18;

  // Bounds are for tests.
  explicit JournalReplay(const TreeGeometry& geometry, uint64_t map_bits_max = kMapBitsMax);

  // The errors of prove_all(); `bad-index`: beyond the device.
  void note(Bytes records, ThreadPool& pool);
  // All blocks that were noted; where those would be too many ranges, some that lie between them, too.
  std::vector<BlockRange> touched(size_t ranges_max = kTouchedRangesMax) const;

  // Ascending. `argument`: they are not, are not of the device, or too many.
  void open(std::vector<uint64_t> block_indexes);
  // Blocks of the window as records of packs, each proven by the digest that it must have. `bad-index`,
  // `bad-order`, `bad-kind`, `bad-length`, `bad-digest`, and what decode_record finds. The window is of no
  // use then.
  void load(std::span<const BatchSource> blocks, std::span<const RecordSource> records,
            const Digester& digester, ThreadPool& pool);
  // As note(). Nothing of `records` is applied then.
  void apply(Bytes records, ThreadPool& pool);
  std::vector<uint8_t> digests(const Digester& digester, ThreadPool& pool);

 private:
  enum class Pass { noting, unloaded, applied };

  std::unique_lock<std::mutex> lock() const;
  std::span<uint8_t> block(size_t place) const;
  size_t place_of(uint64_t block_index) const;
  void clear_window();
  void load_block(const BatchSource& source, const RecordSource& record, const Digester& digester);

  const TreeGeometry geometry_;
  const uint64_t blocks_per_bit_;
  mutable std::mutex mutex_;
  BlockMap touched_;
  std::optional<JournalMark> noted_;

  Pass pass_ = Pass::noting;
  std::optional<JournalMark> applied_;
  std::vector<uint64_t> window_;
  AlignedBuffer bytes_;      // kept for the next window
  bool is_cleared_ = false;  // for this one
};

}  // namespace stillpoint
