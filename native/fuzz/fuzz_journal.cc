// The readers of a journal's records against segments from anywhere: runs, replays in memory, and records
// that are written to a device. What is accepted must give what a plain array gives. The first byte says
// whether checksums are made to fit, and of which size device and blocks are.
#include <stdlib.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/base/error.h"
#include "core/base/little_endian.h"
#include "core/device/memory_device.h"
#include "core/journal/record.h"
#include "core/journal/replay/apply.h"
#include "core/journal/replay/replay.h"
#include "core/journal/run.h"
#include "core/tap/journal/head.h"

using namespace stillpoint;

namespace {

void reseal(std::span<uint8_t> records) {
  while (records.size() >= kJournalHeaderBytes) {
    const size_t payload = load_le<uint32_t>(records.data() + 8);
    if (payload > records.size() - kJournalHeaderBytes) return;
    const Digest sum =
        checksum({Bytes(records).subspan(kJournalHeaderBytes, payload), Bytes(records).first(48)});
    std::copy_n(sum.begin(), 16, records.begin() + 48);
    records = records.subspan(kJournalHeaderBytes + payload);
  }
}

// A record that was accepted says nothing that its bytes don't.
void check_encoded(const JournalRecordView& view) {
  const auto header = encode_journal_header(view.record, view.payload());
  if (!std::equal(header.begin(), header.end(), view.bytes.begin())) abort();
}

void read_head_of(Bytes bytes) {
  std::array<uint8_t, kHeadBytes> head{};
  std::copy_n(bytes.begin(), std::min(bytes.size(), head.size()), head.begin());
  const Digest sum = checksum(Bytes(head).first(kHeadBytes - kDigestBytes));
  std::copy(sum.begin(), sum.end(), head.end() - kDigestBytes);
  try {
    if (decode_head(encode_head(decode_head(head))) != decode_head(head)) abort();
  } catch (const NativeError&) {
  }
}

bool refused(const std::function<void()>& call) {
  try {
    call();
    return false;
  } catch (const NativeError&) {
    return true;
  }
}

// One by one, as the readers don't.
struct Model {
  std::vector<uint8_t> device;
  uint64_t whole = 0;  // bytes of whole records
  bool fits = true;

  Model(Bytes bytes, uint64_t size) : device(size) {
    JournalRun run = prove_run(bytes, {}, ThreadPool::shared(), [&](auto views) {
      for (const JournalRecordView& view : views) {
        check_encoded(view);
        apply(view);
      }
    });
    if (run.byte_length > bytes.size() || (run.record_count == 0) != (run.last.ordinal == 0)) abort();
    if (run.record_count > 0 && run.last.ordinal - run.first.ordinal + 1 != run.record_count) abort();
    whole = run.byte_length;
  }

  void apply(const JournalRecordView& view) {
    const JournalRecord& record = view.record;
    if (record.byte_offset + record.byte_length > device.size()) fits = false;
    if (!fits || record.byte_length == 0) return;
    uint8_t* const at = device.data() + record.byte_offset;
    if (record.kind == JournalKind::write) {
      std::memcpy(at, view.payload().data(), record.byte_length);
    } else {
      std::memset(at, 0, record.byte_length);
    }
  }
};

void check_readers(Bytes bytes, const Model& model, const TreeGeometry& geometry) {
  ThreadPool& pool = ThreadPool::shared();
  MemoryDevice device(geometry.size_bytes);
  const bool all = model.fits && model.whole == bytes.size();
  if (refused([&] { apply_records(device, bytes, {}, pool); }) == all) abort();
  std::vector<uint8_t> content(geometry.size_bytes);
  device.read(0, content);
  if (all ? content != model.device : !is_all_zero(content)) abort();

  JournalReplay replay(geometry, 7);
  if (refused([&] { replay.note(bytes, pool); }) == all) abort();
  std::vector<uint64_t> window;
  for (const BlockRange& range : replay.touched(3))
    for (uint64_t block = range.begin; block < range.end; block++) window.push_back(block);
  replay.open(window);
  if (refused([&] { replay.apply(bytes, pool); }) == all) abort();
  if (!all) return;
  const auto digests = replay.digests(Digester::plain(), pool);
  for (uint64_t block = 0, i = 0; block < geometry.block_count(); block++) {
    const Bytes expected =
        Bytes(model.device).subspan(block * geometry.block_size, geometry.block_length(block));
    if (i == window.size() || window[i] != block) {
      if (!is_all_zero(expected)) abort();
    } else {
      const Digest digest = Digester::plain().leaf_digest(expected);
      if (!std::equal(digest.begin(), digest.end(), digests.data() + i++ * kDigestBytes)) abort();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  std::vector<uint8_t> bytes(data + 1, data + size);
  if (data[0] & 2) read_head_of(bytes);
  if (data[0] & 1) reseal(bytes);
  const TreeGeometry geometry{(data[0] & 4) != 0 ? 300'001u : 5'000u, (data[0] & 8) != 0 ? 65536u : 4096u};
  try {
    const Model model(bytes, geometry.size_bytes);
    check_readers(bytes, model, geometry);
    check_readers(Bytes(bytes).first(model.whole), model, geometry);
  } catch (const NativeError& error) {
    // It names the record, and no reader passes over it.
    if (error.byte_offset() < 0 || error.byte_offset() >= static_cast<int64_t>(bytes.size())) abort();
    JournalReplay replay(geometry);
    if (!refused([&] { replay.note(bytes, ThreadPool::shared()); })) abort();
  }
  return 0;
}
