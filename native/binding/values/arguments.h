// What JavaScript passed, checked: each function throws `argument`, and says what it wanted.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/digest.h"
#include "core/base/id.h"
#include "core/tree/geometry.h"

namespace stillpoint::binding {

std::string arg_string(const Napi::Value& value, const char* name);
bool arg_bool(const Napi::Value& value, const char* name);
std::vector<BlockRange> arg_block_ranges(const Napi::Value& value, const char* name);
// A Float64Array of whole numbers.
std::vector<uint64_t> arg_block_indexes(const Napi::Value& value, const char* name);
// A whole number from 0 to `max` (at most 2^53 - 1).
uint64_t arg_uint(const Napi::Value& value, const char* name, uint64_t max = (uint64_t{1} << 53) - 1);
int64_t arg_int(const Napi::Value& value, const char* name, int64_t min, int64_t max);
// Any Uint8Array, Buffers included. Valid while the value is referenced.
Bytes arg_bytes(const Napi::Value& value, const char* name);
Digest arg_digest(const Napi::Value& value, const char* name);
// A device's size and the size of its blocks, which a tree can have.
TreeGeometry arg_geometry(const Napi::Value& size_bytes, const Napi::Value& block_size);
Napi::Object arg_object(const Napi::Value& value, const char* name);
Napi::Function arg_function(const Napi::Value& value, const char* name);
// 32 and 64 lower-case hex digits.
Id arg_id(const Napi::Value& value, const char* name);
Digest arg_digest_hex(const Napi::Value& value, const char* name);

// A property of an options object; undefined if the object or the property is.
Napi::Value option(const Napi::Value& options, const char* name);

}  // namespace stillpoint::binding
