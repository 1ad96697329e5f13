#include "core/base/digest.h"

#include <cstring>

namespace stillpoint {
namespace {

constexpr char kNodeContext[] = "stillpoint 2026 digest tree node v1";
constexpr char kRootContext[] = "stillpoint 2026 digest tree root v1";
constexpr char kLeafKeyContext[] = "stillpoint 2026 key of leaves v1";
constexpr char kNodeKeyContext[] = "stillpoint 2026 key of nodes v1";
constexpr char kRootKeyContext[] = "stillpoint 2026 key of roots v1";

blake3_hasher fresh() {
  blake3_hasher hasher;
  blake3_hasher_init(&hasher);
  return hasher;
}

blake3_hasher fresh_in(const char* context) {
  blake3_hasher hasher;
  blake3_hasher_init_derive_key(&hasher, context);
  return hasher;
}

blake3_hasher fresh_keyed(const Digester::Key& key, const char* context) {
  blake3_hasher hasher = fresh_in(context);
  blake3_hasher_update(&hasher, key.data(), key.size());
  Digester::Key derived;
  blake3_hasher_finalize(&hasher, derived.data(), derived.size());
  blake3_hasher_init_keyed(&hasher, derived.data());
  return hasher;
}

// Before any thread: BLAKE3 finds out what the processor can at its first use, and does not synchronize that.
[[maybe_unused]] const Digest kProcessorDetected = checksum(Bytes{});

uint64_t load64(const uint8_t* bytes) {
  uint64_t value = 0;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

}  // namespace

bool is_all_zero(Bytes bytes) {
  const uint8_t* at = bytes.data();
  size_t left = bytes.size();
  constexpr size_t kLine = 64;
  for (; left >= kLine; at += kLine, left -= kLine) {
    uint64_t any = 0;
    for (size_t i = 0; i < kLine; i += 8) any |= load64(at + i);
    if (any != 0) return false;
  }
  uint8_t any = 0;
  for (size_t i = 0; i < left; i++) any |= at[i];
  return any == 0;
}

Digester::Digester(const blake3_hasher& leaf, const blake3_hasher& node, const blake3_hasher& root)
    : leaf_(state_of(leaf)), node_(state_of(node)), root_(state_of(root)) {}

Digester::Digester(const Key& key)
    : Digester(fresh_keyed(key, kLeafKeyContext), fresh_keyed(key, kNodeKeyContext),
               fresh_keyed(key, kRootKeyContext)) {}

Digester Digester::plain() { return {fresh(), fresh_in(kNodeContext), fresh_in(kRootContext)}; }

Digester::State Digester::state_of(const blake3_hasher& fresh) {
  State state;
  std::memcpy(state.key.data(), fresh.key, sizeof fresh.key);
  state.chunk = fresh.chunk;
  return state;
}

Digest Digester::digest(const State& state, std::initializer_list<Bytes> parts) {
  blake3_hasher hasher;
  std::memcpy(hasher.key, state.key.data(), sizeof hasher.key);
  hasher.chunk = state.chunk;
  hasher.cv_stack_len = 0;
  for (const Bytes part : parts) blake3_hasher_update(&hasher, part.data(), part.size());
  Digest digest;
  blake3_hasher_finalize(&hasher, digest.data(), digest.size());
  return digest;
}

Digest Digester::leaf_digest(Bytes bytes) const {
  return is_all_zero(bytes) ? zero_digest(bytes.size()) : digest(leaf_, {bytes});
}

Digest Digester::node_digest(Bytes children) const {
  const Bytes content = trim_node_content(children);
  return content.empty() ? kNullDigest : digest(node_, {content});
}

Digest Digester::root_digest(uint64_t size_bytes, uint32_t block_size, const Digest& top) const {
  std::array<uint8_t, 12> geometry;
  for (size_t i = 0; i < 8; i++) geometry[i] = static_cast<uint8_t>(size_bytes >> (8 * i));
  for (size_t i = 0; i < 4; i++) geometry[8 + i] = static_cast<uint8_t>(block_size >> (8 * i));
  return digest(root_, {geometry, top});
}

Digest checksum(std::initializer_list<Bytes> parts) {
  Checksum hasher;
  for (Bytes part : parts) hasher.update(part);
  return hasher.finish();
}

Bytes trim_node_content(Bytes children) {
  size_t size = children.size();
  while (size >= kDigestBytes && is_all_zero(children.subspan(size - kDigestBytes, kDigestBytes))) {
    size -= kDigestBytes;
  }
  return children.first(size);
}

const char* blake3_library_version() { return blake3_version(); }

}  // namespace stillpoint
