#include "binding/values/stored_blocks.h"

#include <algorithm>
#include <cstring>

#include "binding/values/arguments.h"
#include "binding/values/errors.h"

namespace stillpoint::binding {
namespace {

Napi::Uint32Array arg_uint32s(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array)
    throw_argument(name, "a Uint32Array");
  return value.As<Napi::Uint32Array>();
}

std::vector<Bytes> arg_runs(const Napi::Value& value, Keep& keep) {
  if (!value.IsArray()) throw_argument("runs", "an array");
  const Napi::Array array = value.As<Napi::Array>();
  std::vector<Bytes> runs;
  for (uint32_t i = 0; i < array.Length(); i++) {
    keep.values.push_back(array.Get(i));
    runs.push_back(arg_bytes(keep.values.back(), "runs"));
  }
  return runs;
}

}  // namespace

StoredBlocks arg_stored_blocks(const Napi::Object& object, Keep& keep) {
  const std::vector<uint64_t> indexes = arg_block_indexes(object.Get("blockIndexes"), "blockIndexes");
  const auto ordinals = arg_uint32s(object, "recordOrdinals");
  const auto record_runs = arg_uint32s(object, "recordRuns");
  const auto record_offsets = arg_uint32s(object, "recordOffsets");
  const Bytes digests = arg_bytes(object.Get("recordDigests"), "recordDigests");
  const size_t record_count = record_runs.ElementLength();
  if (record_offsets.ElementLength() != record_count || digests.size() != record_count * kDigestBytes)
    throw_argument("recordOffsets, recordDigests", "one per record");
  if (indexes.size() != ordinals.ElementLength()) throw_argument("recordOrdinals", "one per block index");
  if (indexes.size() > kBatchEntriesMax) throw_argument("blockIndexes", "at most 65536");
  const std::vector<Bytes> runs = arg_runs(object.Get("runs"), keep);

  StoredBlocks stored;
  for (size_t i = 0; i < indexes.size(); i++) stored.blocks.push_back({indexes[i], ordinals[i]});
  stored.records.resize(record_count);
  for (size_t i = 0; i < record_count; i++) {
    if (record_runs[i] >= runs.size()) throw_argument("recordRuns", "indexes into runs");
    const Bytes run = runs[record_runs[i]];
    stored.records[i].bytes = run.subspan(std::min<size_t>(record_offsets[i], run.size()));
    std::memcpy(stored.records[i].digest.data(), digests.data() + i * kDigestBytes, kDigestBytes);
  }
  return stored;
}

}  // namespace stillpoint::binding
