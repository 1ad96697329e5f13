// Records, batches and packs. Encoding one record and the frames of a pack returns at once; all else runs on
// the pool.
#include "binding/async/calling.h"
#include "binding/async/operation.h"
#include "binding/async/promises.h"
#include "binding/module.h"
#include "binding/values/arguments.h"
#include "binding/values/buffers.h"
#include "binding/values/errors.h"
#include "binding/values/stored_blocks.h"
#include "core/base/error.h"
#include "core/base/thread_pool.h"
#include "core/codec/batch.h"
#include "core/codec/compress.h"
#include "core/codec/pack_reader.h"
#include "core/tree/tree_file.h"

namespace stillpoint::binding {
namespace {

constexpr uint64_t kTimeMax = (uint64_t{1} << 53) - 1;

int arg_level(const Napi::Value& value) {
  return static_cast<int>(arg_uint(value, "compressionLevel", kCompressionLevelMax));
}

RecordKind arg_record_kind(const Napi::Value& value) {
  const uint64_t kind = arg_uint(value, "kind");
  if (kind != 1 && kind != 2) throw_argument("kind", "1 (block) or 2 (tree node)");
  return static_cast<RecordKind>(kind);
}

template <class Array, class Item, class Field>
Array to_array(Napi::Env env, const std::vector<Item>& items, Field field) {
  Array array = Array::New(env, items.size());
  for (size_t i = 0; i < items.size(); ++i) array[i] = field(items[i]);
  return array;
}

template <class Item>
Napi::Value to_digests(Napi::Env env, const std::vector<Item>& items) {
  std::vector<uint8_t> digests;
  digests.reserve(items.size() * kDigestBytes);
  for (const Item& item : items) digests.insert(digests.end(), item.digest.begin(), item.digest.end());
  return take_buffer(env, std::move(digests));
}

// ---- batches ----

struct BoundsArgument {
  BatchBounds bounds;
  Keep keep;
  std::shared_ptr<TreeFile> expected;
};

BoundsArgument arg_bounds(const Napi::Value& body, const Napi::Value& value) {
  const Napi::Object object = arg_object(value, "bounds");
  const Id session_id = arg_id(object.Get("sessionId"), "sessionId");
  const uint64_t sequence = arg_uint(object.Get("sequence"), "sequence");
  const TreeGeometry geometry = arg_geometry(object.Get("sizeBytes"), object.Get("blockSize"));
  BoundsArgument result{
      {session_id, sequence, geometry, arg_digester(object.Get("digester"), "digester")}, {}, nullptr};
  result.keep.values = {body};
  const Napi::Value expected = object.Get("expected");
  if (!expected.IsUndefined()) {
    const Handle<TreeFile> tree = arg_tree(expected, "expected");
    result.expected = tree.core;
    result.bounds.expected = tree.core.get();
    result.keep.gates = {tree.gate};
  }
  return result;
}

Napi::Value decoded_object(Napi::Env env, const BatchView& batch) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("entryCount", Napi::Number::New(env, static_cast<double>(batch.entries.size())));
  object.Set("blockIndexes", to_array<Napi::Float64Array>(env, batch.entries, [](const BatchEntry& entry) {
               return static_cast<double>(entry.block_index);
             }));
  object.Set("blockCounts", to_array<Napi::Uint32Array>(env, batch.entries, [](const BatchEntry& entry) {
               return entry.block_count;
             }));
  object.Set("kinds", to_array<Napi::Uint8Array>(env, batch.entries, [](const BatchEntry& entry) {
               return static_cast<uint8_t>(entry.kind);
             }));
  object.Set("recordOrdinals", to_array<Napi::Uint32Array>(env, batch.entries, [](const BatchEntry& entry) {
               return entry.record_ordinal;
             }));
  object.Set("digests", to_digests(env, batch.entries));
  object.Set("recordsOffset", Napi::Number::New(env, static_cast<double>(batch.records_offset)));
  object.Set("recordsLength", Napi::Number::New(env, static_cast<double>(batch.records_length)));
  double offset = 0;
  object.Set("recordOffsets", to_array<Napi::Float64Array>(env, batch.records, [&](const RecordView& record) {
               const double at = offset;
               offset += static_cast<double>(record.bytes.size());
               return at;
             }));
  object.Set("recordStoredLengths",
             to_array<Napi::Uint32Array>(env, batch.records,
                                         [](const RecordView& record) { return record.stored_length; }));
  object.Set("recordRawLengths",
             to_array<Napi::Uint32Array>(env, batch.records,
                                         [](const RecordView& record) { return record.raw_length; }));
  object.Set("recordCodecs", to_array<Napi::Uint8Array>(env, batch.records, [](const RecordView& record) {
               return static_cast<uint8_t>(record.codec);
             }));
  object.Set("recordDigests", to_digests(env, batch.records));
  return object;
}

Napi::Value decode_batch_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const Bytes body = arg_bytes(info[0], "body");
    const BoundsArgument argument = arg_bounds(info[0], info[1]);
    return run_promise(
        info.Env(), argument.keep,
        [body, bounds = argument.bounds, tree = argument.expected] {
          return decode_batch(body, bounds, ThreadPool::shared());
        },
        [](Napi::Env env, const BatchView& batch) { return decoded_object(env, batch); });
  });
}

Napi::Value decode_blocks_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const Bytes body = arg_bytes(info[0], "body");
    const BoundsArgument argument = arg_bounds(info[0], info[1]);
    return run_promise(
        info.Env(), argument.keep,
        [body, bounds = argument.bounds, tree = argument.expected] {
          return decode_blocks(body, bounds, ThreadPool::shared());
        },
        [](Napi::Env env, std::vector<ByteVector> blocks) {
          Napi::Array array = Napi::Array::New(env, blocks.size());
          for (size_t i = 0; i < blocks.size(); ++i) {
            array.Set(static_cast<uint32_t>(i), take_buffer(env, std::move(blocks[i])));
          }
          return array;
        });
  });
}

BatchBuilder arg_builder(const Napi::Object& options) {
  return {arg_id(options.Get("sessionId"), "sessionId"), arg_uint(options.Get("sequence"), "sequence"),
          arg_uint(options.Get("agentTimeMs"), "agentTimeMs", kTimeMax)};
}

Napi::Value encode_batch_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const Napi::Object options = arg_object(info[0], "options");
    Keep keep;
    StoredBlocks stored = arg_stored_blocks(options, keep);
    return run_promise(
        info.Env(), keep,
        [builder = arg_builder(options), stored = std::move(stored)]() mutable {
          return encode_batch(std::move(builder), stored.blocks, stored.records);
        },
        [](Napi::Env env, ByteVector body) { return take_buffer(env, std::move(body)); });
  });
}

Napi::Value encode_block_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const Napi::Object options = arg_object(info[0], "options");
    const Napi::Value bytes_value = options.Get("bytes");
    const Bytes bytes = arg_bytes(bytes_value, "bytes");
    const uint64_t block_index = arg_uint(options.Get("blockIndex"), "blockIndex");
    const int level = arg_level(options.Get("compressionLevel"));
    const Digester digester = arg_digester(options.Get("digester"), "digester");
    return run_promise(
        info.Env(), {{}, {bytes_value}},
        [builder = arg_builder(options), block_index, bytes, level, digester]() mutable {
          const Digest digest = digester.leaf_digest(bytes);
          ByteVector record;
          if (is_null(digest)) {
            builder.add_zeros(block_index, 1);
          } else {
            record = encode_record(RecordKind::block, digest, bytes, level);
            builder.add_payload(block_index, digest, builder.add_record(record));
          }
          return builder.finish();
        },
        [](Napi::Env env, ByteVector body) { return take_buffer(env, std::move(body)); });
  });
}

// ---- records ----

Napi::Value encode_record_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return take_buffer(info.Env(), encode_record(arg_record_kind(info[0]), arg_digest(info[1], "digest"),
                                                 arg_bytes(info[2], "raw"), arg_level(info[3])));
  });
}

Napi::Value decode_record_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const Bytes bytes = arg_bytes(info[0], "record");
    const Digest expected = arg_digest(info[1], "expectedDigest");
    const Digester digester = arg_digester(info[2], "digester");
    return run_promise(
        info.Env(), {{}, {info[0]}},
        [bytes, expected, digester] {
          const RecordView record = parse_record(bytes);
          if (record.bytes.size() != bytes.size()) throw NativeError("bad-length", "record: bytes follow it");
          if (record.digest != expected)
            throw NativeError("bad-digest", "record: not the one that was asked for");
          std::vector<uint8_t> scratch(record.raw_length);
          const Bytes raw = decode_record(record, digester, scratch.data());
          if (raw.data() != scratch.data()) scratch.assign(raw.begin(), raw.end());
          return scratch;
        },
        [](Napi::Env env, std::vector<uint8_t> raw) { return take_buffer(env, std::move(raw)); });
  });
}

// ---- packs ----

Napi::Value encode_pack_header_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Id pack_id = arg_id(info[0], "packId");
    const uint64_t kind = arg_uint(info[1], "kind");
    if (kind != 1 && kind != 2) throw_argument("kind", "1 (data) or 2 (tree)");
    return to_buffer(info.Env(), encode_pack_header(pack_id, static_cast<PackKind>(kind)));
  });
}

Napi::Value encode_pack_tail_of(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return take_buffer(info.Env(),
                       encode_pack_tail(arg_id(info[0], "packId"), arg_uint(info[1], "indexOffset"),
                                        arg_bytes(info[2], "entries")));
  });
}

Napi::Value pack_index_object(Napi::Env env, PackIndex index) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("packId", to_hex(index.pack_id));
  object.Set("kind", Napi::Number::New(env, static_cast<double>(index.kind)));
  object.Set("recordCount", Napi::Number::New(env, static_cast<double>(index.record_count())));
  object.Set("entries", take_buffer(env, std::move(index.entries)));
  return object;
}

Napi::Value read_pack_index_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const std::string path = arg_string(info[0], "path");
    return run_promise(
        info.Env(), {}, [path] { return read_pack_index(PackFile(path)); }, pack_index_object);
  });
}

Napi::Value salvage_pack_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const std::string path = arg_string(info[0], "path");
    const Digester digester = arg_digester(info[1], "digester");
    return run_promise(
        info.Env(), {}, [path, digester] { return salvage_pack(PackFile(path), digester); },
        pack_index_object);
  });
}

Napi::Value damage_object(Napi::Env env, const PackDamage& damage) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("offset", Napi::Number::New(env, static_cast<double>(damage.offset)));
  object.Set("digest", damage.digest ? to_buffer(env, *damage.digest) : env.Null());
  object.Set("reason", damage.reason);
  return object;
}

Napi::Value verify_pack_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const std::string path = arg_string(info[0], "path");
    return run_calling(
        info.Env(), {}, arg_function(info[2], "onDamage"),
        [path, digester = arg_digester(info[1], "digester")](const auto& call) {
          return verify_pack(PackFile(path), digester, [&](const PackDamage& damage) {
            call([damage](Napi::Env env) { return damage_object(env, damage); });
          });
        },
        [](Napi::Env env, const PackVerification& result) {
          Napi::Object object = Napi::Object::New(env);
          object.Set("recordCount", Napi::Number::New(env, static_cast<double>(result.record_count)));
          object.Set("checkedBytes", Napi::Number::New(env, static_cast<double>(result.checked_bytes)));
          return object;
        });
  });
}

}  // namespace

void init_codec(Napi::Env env, Napi::Object exports) {
  Napi::Object constants = exports.Get("constants").As<Napi::Object>();
  const auto constant = [&](const char* name, size_t value) {
    constants.Set(name, Napi::Number::New(env, static_cast<double>(value)));
  };
  constant("recordHeaderBytes", kRecordHeaderBytes);
  constant("packHeaderBytes", kPackHeaderBytes);
  constant("packIndexEntryBytes", kPackIndexEntryBytes);
  constant("packFooterBytes", kPackFooterBytes);
  constant("batchHeaderBytes", kBatchHeaderBytes);
  constant("batchEntryBytes", kBatchEntryBytes);
  constant("batchTrailerBytes", kBatchTrailerBytes);

  const auto function = [&](const char* name, Napi::Value (*body)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, body, name));
  };
  function("decodeBatch", decode_batch_of);
  function("decodeBlocks", decode_blocks_of);
  function("encodeBatch", encode_batch_of);
  function("encodeBlock", encode_block_of);
  function("encodeRecord", encode_record_of);
  function("decodeRecord", decode_record_of);
  function("encodePackHeader", encode_pack_header_of);
  function("encodePackTail", encode_pack_tail_of);
  function("readPackIndex", read_pack_index_of);
  function("salvagePack", salvage_pack_of);
  function("verifyPack", verify_pack_of);
}

}  // namespace stillpoint::binding
