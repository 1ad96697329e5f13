// Scan, ScanChunk and createScan. The scan's own threads read; encode() runs on the pool; nothing here waits.
#include "core/scan/scan.h"

#include "binding/async/classes.h"
#include "binding/async/closing.h"
#include "binding/async/gate.h"
#include "binding/async/operation.h"
#include "binding/async/promises.h"
#include "binding/module.h"
#include "binding/values/arguments.h"
#include "binding/values/buffers.h"
#include "binding/values/errors.h"
#include "core/codec/compress.h"

namespace stillpoint::binding {
namespace {

constexpr const char* kScanClass = "Scan";
constexpr const char* kChunkClass = "ScanChunk";
constexpr unsigned kReadRetriesMax = 100;
constexpr uint64_t kMemoryBytesMax = uint64_t{1} << 40;

Napi::Value number(Napi::Env env, uint64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

class ChunkWrap : public Napi::ObjectWrap<ChunkWrap> {
 public:
  static void define(Napi::Env env) {
    register_class(
        env, kChunkClass,
        DefineClass(env, kChunkClass,
                    {InstanceAccessor<&ChunkWrap::digests>("digests"),
                     InstanceAccessor<&ChunkWrap::block_indexes>("blockIndexes"),
                     InstanceAccessor<&ChunkWrap::patch_statistics>("patchStatistics"),
                     InstanceMethod<&ChunkWrap::encode>("encode"), InstanceMethod<&ChunkWrap::split>("split"),
                     InstanceMethod<&ChunkWrap::release>("release")}));
  }

  explicit ChunkWrap(const Napi::CallbackInfo& info)
      : ObjectWrap(info), core_(take_wrapped<std::shared_ptr<ScanChunk>>(info)), weight_(core_->raw_bytes()) {
    const Napi::Env env = info.Env();
    Napi::Object self = info.This().As<Napi::Object>();
    const auto set = [&](const char* name, Napi::Value value) {
      self.DefineProperty(Napi::PropertyDescriptor::Value(name, value, napi_enumerable));
    };
    set("entryCount", number(env, core_->entries().size()));
    set("rawBytes", number(env, core_->raw_bytes()));
    set("badBlocks", bad_blocks(env));
    // So that forgotten chunks make the collector hurry.
    Napi::MemoryManagement::AdjustExternalMemory(env, static_cast<int64_t>(weight_));
  }

  void Finalize(Napi::BasicEnv env) override { lose_weight(env); }

 private:
  void lose_weight(Napi::BasicEnv env) {
    Napi::MemoryManagement::AdjustExternalMemory(env, -static_cast<int64_t>(std::exchange(weight_, 0)));
  }

  Napi::Value bad_blocks(Napi::Env env) const {
    Napi::Array blocks = Napi::Array::New(env);
    for (const BadBlock& bad : core_->bad_blocks()) {
      Napi::Array ranges = Napi::Array::New(env);
      for (const ByteRange& range : bad.bad_ranges) {
        Napi::Object item = Napi::Object::New(env);
        item.Set("byteOffset", number(env, range.byte_offset));
        item.Set("byteLength", number(env, range.byte_length));
        ranges.Set(ranges.Length(), item);
      }
      Napi::Object block = Napi::Object::New(env);
      block.Set("blockIndex", number(env, bad.block_index));
      block.Set("bytes", to_buffer(env, bad.bytes));
      block.Set("badRanges", ranges);
      blocks.Set(blocks.Length(), block);
    }
    return blocks;
  }

  Napi::Value digests(const Napi::CallbackInfo& info) {
    auto buffer = Napi::Buffer<uint8_t>::New(info.Env(), core_->payload_count() * kDigestBytes);
    uint8_t* to = buffer.Data();
    for (const ScanEntry& entry : core_->entries()) {
      if (!is_null(entry.digest)) to = std::copy(entry.digest.begin(), entry.digest.end(), to);
    }
    return buffer;
  }

  Napi::Value block_indexes(const Napi::CallbackInfo& info) {
    auto indexes = Napi::Float64Array::New(info.Env(), core_->payload_count());
    size_t i = 0;
    for (const ScanEntry& entry : core_->entries()) {
      if (!is_null(entry.digest)) indexes[i++] = static_cast<double>(entry.block_index);
    }
    return indexes;
  }

  Napi::Value patch_statistics(const Napi::CallbackInfo& info) {
    const PatchStatistics& statistics = core_->patch_statistics();
    Napi::Object object = Napi::Object::New(info.Env());
    object.Set("patchedBlocks", number(info.Env(), statistics.patched_blocks));
    object.Set("unsentBytes", number(info.Env(), statistics.unsent_bytes));
    return object;
  }

  Napi::Value encode(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      const Napi::Object given = arg_object(info[0], "options");
      EncodeOptions options{};
      options.session_id = arg_id(given.Get("sessionId"), "sessionId");
      options.sequence = arg_uint(given.Get("sequence"), "sequence");
      options.agent_time_ms = arg_uint(given.Get("agentTimeMs"), "agentTimeMs");
      options.compression_level =
          static_cast<int>(arg_uint(given.Get("compressionLevel"), "compressionLevel", kCompressionLevelMax));
      if (const Napi::Value held = given.Get("held"); !held.IsUndefined()) options.held = held_bits(held);
      if (const Napi::Value pieces = given.Get("pieces"); !pieces.IsUndefined()) {
        const Bytes bytes = arg_bytes(pieces, "pieces");
        options.pieces.assign(bytes.begin(), bytes.end());
      }
      lose_weight(info.Env());
      return run_promise(
          info.Env(), {}, [core = core_, options] { return core->encode(options); },
          [](Napi::Env env, ByteVector&& body) { return take_buffer(env, std::move(body)); });
    });
  }

  std::vector<uint8_t> held_bits(Napi::Value given) const {
    const Bytes bits = arg_bytes(given, "held");
    if (bits.size() != (core_->payload_count() + 7) / 8) {
      throw_argument("held", "a bit for each of " + std::to_string(core_->payload_count()) + " digests");
    }
    return {bits.begin(), bits.end()};
  }

  Napi::Value split(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      const uint64_t raw_bytes = arg_uint(info[0], "rawBytes");
      ScanChunk::Parts parts = core_->split(raw_bytes, held_bits(info[1]));
      lose_weight(env);
      Napi::Array pair = Napi::Array::New(env, 2);
      pair.Set(0u, wrap(env, kChunkClass, std::move(parts.first)));
      pair.Set(1u, parts.rest ? wrap(env, kChunkClass, std::move(parts.rest)) : env.Null());
      return pair;
    });
  }

  void release(const Napi::CallbackInfo& info) {
    core_->release();
    lose_weight(info.Env());
  }

  const std::shared_ptr<ScanChunk> core_;
  uint64_t weight_;
};

class ScanWrap : public Napi::ObjectWrap<ScanWrap> {
 public:
  static void define(Napi::Env env) {
    register_class(
        env, kScanClass,
        DefineClass(
            env, kScanClass,
            {InstanceMethod<&ScanWrap::next>("next"), InstanceMethod<&ScanWrap::progress>("progress"),
             InstanceMethod<&ScanWrap::cancel>("cancel"), InstanceMethod<&ScanWrap::close>("close")}));
  }

  explicit ScanWrap(const Napi::CallbackInfo& info)
      : ObjectWrap(info), core_(take_wrapped<std::shared_ptr<Scan>>(info)) {}

  // Its destructor waits for the readers: not on this thread.
  ~ScanWrap() override { destroy_later(std::move(core_)); }

  static void destroy_later(std::shared_ptr<Scan> core) {
    if (!core) return;
    core->cancel();
    submit_to_pool([core = std::move(core)]() mutable { core.reset(); });
  }

 private:
  Napi::Value next(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded_promise(env, [&] {
      const auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
      Operation* const operation = Operation::start(env, {{gate_}, {info.This()}});
      core_->next([operation, deferred](std::shared_ptr<ScanChunk> chunk, const std::exception_ptr& failure) {
        operation->finish([deferred, chunk = std::move(chunk), failure](Napi::Env e) mutable {
          settle_promise(e, *deferred, failure, [&]() -> Napi::Value {
            return chunk ? wrap(e, kChunkClass, std::move(chunk)) : e.Null();
          });
        });
      });
      return deferred->Promise();
    });
  }

  Napi::Value progress(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (core_) last_progress_ = core_->progress();
    Napi::Object result = Napi::Object::New(env);
    result.Set("scannedBytes", number(env, last_progress_.scanned_bytes));
    result.Set("readBytes", number(env, last_progress_.read_bytes));
    result.Set("changedBlocks", number(env, last_progress_.changed_blocks));
    result.Set("againBytes", number(env, last_progress_.again_bytes));
    result.Set("zeroBlocks", number(env, last_progress_.zero_blocks));
    result.Set("badBytes", number(env, last_progress_.bad_bytes));
    return result;
  }

  void cancel(const Napi::CallbackInfo&) {
    if (core_) core_->cancel();
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    if (core_) {
      last_progress_ = core_->progress();
      core_->cancel();
    }
    return close_handle(
        info.Env(), gate_, closer_,
        [core = std::make_shared<std::shared_ptr<Scan>>(std::move(core_))] { core->reset(); });
  }

  std::shared_ptr<Scan> core_;  // moved away by close()
  ScanProgress last_progress_{};
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  std::shared_ptr<Closer> closer_ = std::make_shared<Closer>();
};

std::vector<BlockRange> arg_ranges(const Napi::Value& value, uint64_t block_count) {
  if (!value.IsUndefined()) return arg_block_ranges(value, "ranges");
  return block_count == 0 ? std::vector<BlockRange>{} : std::vector<BlockRange>{{0, block_count}};
}

// Device, base and overlay count the scan among their work in flight until its readers have ended; closing
// one of them cancels it.
Napi::Value create_scan(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const Handle<BlockSource> device = arg_device(info[0], "device");
    const Napi::Object given = arg_object(info[1], "options");
    const Handle<TreeFile> base = arg_tree(given.Get("base"), "base");
    ScanOptions options;
    options.device = device.core;
    options.base = base.core;
    std::vector<std::shared_ptr<Gate>> gates{device.gate, base.gate};
    if (const Napi::Value value = given.Get("overlay"); !value.IsUndefined()) {
      const Handle<LeafOverlay> overlay = arg_overlay(value, "overlay");
      options.overlay = overlay.core;
      gates.push_back(overlay.gate);
    }
    options.ranges = arg_ranges(given.Get("ranges"), base.core->block_count());
    if (const Napi::Value value = given.Get("digestOnly"); !value.IsUndefined()) {
      options.digest_only = arg_bool(value, "digestOnly");
    }
    const auto set = [&](const char* name, auto& field, uint64_t max) {
      const Napi::Value value = given.Get(name);
      if (!value.IsUndefined())
        field = static_cast<std::decay_t<decltype(field)>>(arg_uint(value, name, max));
    };
    set("readers", options.readers, Scan::kReadersMax);
    set("memoryBytes", options.memory_bytes, kMemoryBytesMax);
    set("chunkBytes", options.chunk_bytes, Scan::kChunkBytesMax);
    set("readRetries", options.read_retries, kReadRetriesMax);

    // The readers may end before this function does: whatever they report waits for the JavaScript thread.
    struct Stoppers {
      std::vector<std::pair<std::shared_ptr<Gate>, int>> gates;
      int teardown = 0;
    };
    const auto stoppers = std::make_shared<Stoppers>();
    Operation* const running = Operation::start(env, {gates, {}}, false);
    const auto settle = [stoppers](Napi::Env e) {
      for (const auto& [gate, id] : stoppers->gates) gate->remove_stopper(id);
      remove_teardown_stopper(e, stoppers->teardown);
    };
    std::shared_ptr<Scan> core;
    try {
      core = std::make_shared<Scan>(std::move(options), [running, settle] { running->finish(settle); });
    } catch (...) {
      running->finish({});
      throw;
    }
    const auto stop = [weak = std::weak_ptr<Scan>(core)] {
      if (const auto scan = weak.lock()) scan->cancel();
    };
    for (const auto& gate : gates) stoppers->gates.emplace_back(gate, gate->add_stopper(stop));
    stoppers->teardown = add_teardown_stopper(env, stop);
    return wrap(env, kScanClass, core);
  });
}

}  // namespace

void init_scan(Napi::Env env, Napi::Object exports) {
  ScanWrap::define(env);
  ChunkWrap::define(env);
  exports.Set("createScan", Napi::Function::New(env, create_scan, "createScan"));
}

}  // namespace stillpoint::binding
