// Reads whole packs: the index, a proof of every record, and the records that can be saved without an index.
// Memory: the index, and one window of at most a record or 1 MiB.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/codec/pack.h"

namespace stillpoint {

// Where a pack's bytes come from: a file, or memory in tests and fuzzers.
class PackSource {
 public:
  virtual ~PackSource() = default;
  virtual uint64_t length() const = 0;
  // All of [offset, offset + into.size()), which lies within length(), or throws.
  virtual void read(uint64_t offset, std::span<uint8_t> into) const = 0;
};

class PackFile final : public PackSource {
 public:
  explicit PackFile(const std::string& path);
  PackFile(const PackFile&) = delete;
  PackFile& operator=(const PackFile&) = delete;
  ~PackFile() override;

  uint64_t length() const override { return length_; }
  void read(uint64_t offset, std::span<uint8_t> into) const override;

 private:
  std::string path_;
  int fd_;
  uint64_t length_ = 0;
};

struct PackIndex {
  Id pack_id;
  PackKind kind;
  std::vector<uint8_t> entries;  // kPackIndexEntryBytes each

  size_t record_count() const { return entries.size() / kPackIndexEntryBytes; }
};

// Header, footer and index, all three checked.
PackIndex read_pack_index(const PackSource& pack);

struct PackDamage {
  uint64_t offset;
  std::optional<Digest> digest;  // none where nothing believable names the record
  std::string reason;
};

struct PackVerification {
  uint64_t record_count;   // named by the index; found, if there is none to believe
  uint64_t checked_bytes;  // of good records
};

// Reads every record and proves it against its index entry. Without a believable header or index, that is one
// damage, and the records are those that salvage finds. Throws only what isn't the pack's own doing, such as
// a missing file.
PackVerification verify_pack(const PackSource& pack, const Digester& digester,
                             const std::function<void(const PackDamage&)>& on_damage);

// The records of a pack that prove themselves, whatever its index says. A damaged header gives a pack id of
// zeros.
PackIndex salvage_pack(const PackSource& pack, const Digester& digester);

}  // namespace stillpoint
