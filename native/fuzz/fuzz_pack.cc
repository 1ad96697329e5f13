// The pack reader against files from anywhere. The first byte says which checksums are made to fit.
#include <stdlib.h>

#include <cstring>

#include "core/base/error.h"
#include "core/codec/pack_reader.h"
#include "fuzz/fuzz.h"
#include "test/helpers/digesters.h"

using namespace stillpoint;
using stillpoint::test::kPlain;
using namespace stillpoint::fuzz;

namespace {

class MemoryPack final : public PackSource {
 public:
  explicit MemoryPack(Bytes bytes) : bytes_(bytes) {}
  uint64_t length() const override { return bytes_.size(); }
  void read(uint64_t offset, std::span<uint8_t> into) const override {
    if (offset > bytes_.size() || into.size() > bytes_.size() - offset) abort();
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), into.size(), into.begin());
  }

 private:
  Bytes bytes_;
};

void reseal(std::vector<uint8_t>& pack, uint8_t which) {
  if (pack.size() < kPackHeaderBytes + kPackFooterBytes) return;
  const auto put = [&](size_t at, const Digest& sum) {
    std::copy(sum.begin(), sum.end(), pack.begin() + static_cast<std::ptrdiff_t>(at));
  };
  const size_t footer = pack.size() - kPackFooterBytes;
  const uint64_t index = load_le<uint64_t>(pack.data() + footer + 8);
  if (which & 1) put(32, checksum(Bytes(pack).first(32)));
  if (index > footer || index < kPackHeaderBytes) return;
  if (which & 2) reseal_records(std::span(pack).subspan(kPackHeaderBytes, index - kPackHeaderBytes));
  if (which & 4) put(footer + 64, checksum(Bytes(pack).subspan(index, footer + 64 - index)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  std::vector<uint8_t> bytes(data + 1, data + size);
  reseal(bytes, data[0]);
  const MemoryPack pack(bytes);
  size_t damages = 0;
  const PackVerification result = verify_pack(pack, kPlain, [&](const PackDamage& damage) {
    if (damage.offset > bytes.size()) abort();
    ++damages;
  });
  if (result.checked_bytes > bytes.size()) abort();
  const PackIndex salvaged = salvage_pack(pack, kPlain);
  try {
    const PackIndex index = read_pack_index(pack);
    // A pack without damage is all there without its index.
    if (damages == 0 && (salvaged.entries.size() < index.entries.size() ||
                         !std::equal(index.entries.begin(), index.entries.end(), salvaged.entries.begin()))) {
      abort();
    }
  } catch (const NativeError&) {
    if (damages == 0) abort();
  }
  return 0;
}
