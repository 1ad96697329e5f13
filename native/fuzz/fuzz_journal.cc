// The reader of a journal's records against segments from anywhere. The first byte says whether checksums are
// made to fit.
#include <stdlib.h>

#include <algorithm>
#include <vector>

#include "core/base/error.h"
#include "core/base/little_endian.h"
#include "core/tap/journal/head.h"
#include "core/tap/journal/record.h"

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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  std::vector<uint8_t> bytes(data + 1, data + size);
  if (data[0] & 2) read_head_of(bytes);
  if (data[0] & 1) reseal(bytes);
  try {
    for (Bytes left = bytes; !left.empty();) {
      const JournalRecordView view = parse_journal_record(left);
      if (view.bytes.size() > left.size() || view.record.record_bytes() != view.bytes.size()) abort();
      check_journal_record(view);
      check_encoded(view);
      left = left.subspan(view.bytes.size());
    }
  } catch (const NativeError&) {
  }
  return 0;
}
