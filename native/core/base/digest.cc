#include "core/base/digest.h"

#include <cstring>

namespace stillpoint {
namespace {

blake3_hasher derive_key_state(const char* context) {
  blake3_hasher hasher;
  blake3_hasher_init_derive_key(&hasher, context);
  return hasher;
}

// Made when the library is loaded, before any thread: hashing the contexts also settles BLAKE3's detection of
// the processor, which is not synchronized by itself.
const blake3_hasher kNodeState = derive_key_state("stillpoint 2026 digest tree node v1");
const blake3_hasher kRootState = derive_key_state("stillpoint 2026 digest tree root v1");

// The hasher is 1.9 KB, nearly all of it an unused stack: copy only what a fresh state has set.
void init_from(blake3_hasher& hasher, const blake3_hasher& state) {
  std::memcpy(hasher.key, state.key, sizeof hasher.key);
  hasher.chunk = state.chunk;
  hasher.cv_stack_len = 0;
}

Digest finalize(const blake3_hasher& hasher) {
  Digest digest;
  blake3_hasher_finalize(&hasher, digest.data(), digest.size());
  return digest;
}

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

Digest leaf_digest(Bytes bytes) { return is_all_zero(bytes) ? kNullDigest : checksum(bytes); }

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

Digest node_digest(Bytes children) {
  const Bytes content = trim_node_content(children);
  if (content.empty()) return kNullDigest;
  blake3_hasher hasher;
  init_from(hasher, kNodeState);
  blake3_hasher_update(&hasher, content.data(), content.size());
  return finalize(hasher);
}

Digest root_digest(uint64_t size_bytes, uint32_t block_size, const Digest& top) {
  uint8_t geometry[12];
  for (int i = 0; i < 8; i++) geometry[i] = static_cast<uint8_t>(size_bytes >> (8 * i));
  for (int i = 0; i < 4; i++) geometry[8 + i] = static_cast<uint8_t>(block_size >> (8 * i));
  blake3_hasher hasher;
  init_from(hasher, kRootState);
  blake3_hasher_update(&hasher, geometry, sizeof geometry);
  blake3_hasher_update(&hasher, top.data(), top.size());
  return finalize(hasher);
}

const char* blake3_library_version() { return blake3_version(); }

}  // namespace stillpoint
