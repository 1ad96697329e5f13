// Bytes, and ranges of blocks, on their way to JavaScript.
#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/digest.h"
#include "core/tree/geometry.h"

namespace stillpoint::binding {

std::string to_hex(Bytes bytes);
// An array of pairs [begin, end].
Napi::Value block_ranges(Napi::Env env, const std::vector<BlockRange>& ranges);
// Copies. For large results prefer take_buffer.
Napi::Value to_buffer(Napi::Env env, Bytes bytes);
// A Buffer over memory that `owner` keeps: no copy. Freed with the Buffer.
Napi::Value take_memory(Napi::Env env, uint8_t* data, size_t size, std::shared_ptr<void> owner);
// Hands the vector's memory over to a Buffer without copying.
template <class Allocator>
Napi::Value take_buffer(Napi::Env env, std::vector<uint8_t, Allocator>&& bytes) {
  const auto owner = std::make_shared<std::vector<uint8_t, Allocator>>(std::move(bytes));
  return take_memory(env, owner->data(), owner->size(), owner);
}

}  // namespace stillpoint::binding
