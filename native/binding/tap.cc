// Tap, createTap, readTapMap, openSnapshot. All but status() runs on the pool.
#include "core/tap/tap.h"

#include <algorithm>
#include <chrono>

#include "binding/async/classes.h"
#include "binding/async/gate.h"
#include "binding/async/operation.h"
#include "binding/async/promises.h"
#include "binding/module.h"
#include "binding/values/arguments.h"
#include "binding/values/buffers.h"
#include "binding/values/errors.h"
#include "binding/values/journal_values.h"
#include "binding/values/tap_status.h"
#include "core/base/error.h"
#include "core/tap/maps/map_format.h"
#include "core/tap/snapshot/source.h"

namespace stillpoint::binding {
namespace {

constexpr const char* kClass = "Tap";
constexpr uint64_t kDurationMsMax = 24 * 3600 * 1000;
constexpr uint32_t kSampleBlocksMax = 65536;

Napi::Value number(Napi::Env env, uint64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

Napi::Value in_ms(Napi::Env env, std::chrono::nanoseconds duration) {
  return Napi::Number::New(env, std::chrono::duration<double, std::milli>(duration).count());
}

std::chrono::milliseconds arg_ms(const Napi::Value& options, const char* name) {
  const Napi::Value value = option(options, name);
  return std::chrono::milliseconds(value.IsUndefined() ? 0 : arg_uint(value, name, kDurationMsMax));
}

uint32_t arg_block_size(const Napi::Value& value) {
  const auto size = static_cast<uint32_t>(arg_uint(value, "blockSize", kBlockSizeMax));
  if (!TreeGeometry{0, size}.valid()) throw_argument("blockSize", "a power of two from 4 KiB to 4 MiB");
  return size;
}

std::vector<uint64_t> arg_sample(const Napi::Value& value) {
  if (!value.IsArray()) throw_argument("sampleBlocks", "an array of block indexes");
  const Napi::Array array = value.As<Napi::Array>();
  if (array.Length() > kSampleBlocksMax) throw_argument("sampleBlocks", "at most 65536 block indexes");
  std::vector<uint64_t> sample;
  for (uint32_t i = 0; i < array.Length(); i++) sample.push_back(arg_uint(array.Get(i), "sampleBlocks"));
  return sample;
}

TapExport::HoldOptions arg_hold_options(const Napi::Object& given, uint32_t block_size) {
  TapExport::HoldOptions options;
  options.snapshot.session_id = arg_id(given.Get("sessionId"), "sessionId");
  if (!given.Get("basePointId").IsNull())
    options.base_point = arg_id(given.Get("basePointId"), "basePointId");
  options.snapshot.full = arg_bool(given.Get("full"), "full");
  options.snapshot.sample = arg_sample(given.Get("sampleBlocks"));
  const uint64_t read_size = arg_block_size(given.Get("readBlockSize"));
  options.snapshot.group_blocks = std::max<uint64_t>(1, read_size / block_size);
  const std::string when_full = arg_string(given.Get("whenFull"), "whenFull");
  if (when_full != "fail" && when_full != "throttle") throw_argument("whenFull", "fail or throttle");
  options.snapshot.throttle = when_full == "throttle";
  options.preserve_bytes_max = arg_uint(given.Get("preserveMaxBytes"), "preserveMaxBytes");
  return options;
}

class TapWrap : public Napi::ObjectWrap<TapWrap> {
 public:
  static void define(Napi::Env env) {
    register_class(
        env, kClass,
        DefineClass(env, kClass,
                    {InstanceMethod<&TapWrap::listen>("listen"),
                     InstanceMethod<&TapWrap::listen_snapshot>("listenSnapshot"),
                     InstanceMethod<&TapWrap::status>("status"), InstanceMethod<&TapWrap::prepare>("prepare"),
                     InstanceMethod<&TapWrap::close_gate>("closeGate"),
                     InstanceMethod<&TapWrap::open_gate>("openGate"), InstanceMethod<&TapWrap::cut>("cut"),
                     InstanceMethod<&TapWrap::abort>("abort"), InstanceMethod<&TapWrap::commit>("commit"),
                     InstanceMethod<&TapWrap::mark>("mark"), InstanceMethod<&TapWrap::adopt>("adopt"),
                     InstanceMethod<&TapWrap::void_map>("voidMap"),
                     InstanceMethod<&TapWrap::check_source>("checkSource"),
                     InstanceMethod<&TapWrap::release_journal>("releaseJournal"),
                     InstanceMethod<&TapWrap::stamp_journal>("stampJournal"),
                     InstanceMethod<&TapWrap::break_journal>("breakJournal"),
                     InstanceMethod<&TapWrap::stop>("stop"), InstanceMethod<&TapWrap::close>("close")}));
  }

  explicit TapWrap(const Napi::CallbackInfo& info)
      : ObjectWrap(info), core_(take_wrapped<std::shared_ptr<Tap>>(info)) {
    tag_object(info.This().As<Napi::Object>(), kClass);
  }
  ~TapWrap() override {
    if (core_) submit_to_pool([core = std::move(core_)]() mutable { core.reset(); });
  }

 private:
  template <class Work>
  Napi::Value run(const Napi::CallbackInfo& info, Work work) {
    gate_->check();
    return run_promise(info.Env(), {{gate_}, {}}, [core = core_, work = std::move(work)] { work(*core); });
  }

  Napi::Value listen(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      return run_promise(
          info.Env(), {{gate_}, {}},
          [core = core_, address = arg_string(info[0], "address"), name = arg_string(info[1], "exportName")] {
            return core->listen(address, name);
          },
          [](Napi::Env env, const std::string& address) { return Napi::String::New(env, address); });
    });
  }

  Napi::Value listen_snapshot(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      return run_promise(
          info.Env(), {{gate_}, {}},
          [core = core_, address = arg_string(info[0], "address")] { return core->listen_snapshot(address); },
          [](Napi::Env env, const std::string& address) { return Napi::String::New(env, address); });
    });
  }

  Napi::Value prepare(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      const Napi::Object given = arg_object(info[0], "options");
      const auto options =
          std::make_shared<TapExport::HoldOptions>(arg_hold_options(given, core_->geometry().block_size));
      return run(info, [options, directory = arg_string(given.Get("preserveDirectory"), "preserveDirectory")](
                           Tap& tap) { tap.prepare(std::move(*options), directory); });
    });
  }

  Napi::Value close_gate(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      const Napi::Object given = arg_object(info[0], "limits");
      const TapExport::GateLimits limits{arg_ms(given, "barrierMs"), arg_ms(given, "closedMs")};
      return run_promise(
          info.Env(), {{gate_}, {}}, [core = core_, limits] { return core->close_gate(limits); },
          [](Napi::Env env, std::chrono::nanoseconds quiet) { return in_ms(env, quiet); });
    });
  }

  Napi::Value open_gate(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] { return run(info, [](Tap& tap) { tap.open_gate(); }); });
  }

  Napi::Value cut(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      return run_promise(
          info.Env(), {{gate_}, {}}, [core = core_] { return core->cut(); },
          [](Napi::Env env, const TapExport::Hold& hold) {
            Napi::Object result = Napi::Object::New(env);
            const auto instant =
                std::chrono::duration_cast<std::chrono::milliseconds>(hold.instant.time_since_epoch());
            result.Set("instantMs", number(env, static_cast<uint64_t>(instant.count())));
            result.Set("mapUsed", Napi::Boolean::New(env, hold.map_used));
            result.Set("reason", Napi::String::New(env, hold.reason));
            result.Set("changedBlocks", number(env, hold.changed_blocks));
            result.Set("closedMs", in_ms(env, hold.closed));
            result.Set("exportName", Napi::String::New(env, to_hex(hold.snapshot->status().session_id)));
            if (hold.journal) result.Set("journal", journal_position(env, *hold.journal));
            return result;
          });
    });
  }

  Napi::Value abort(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] { return run(info, [](Tap& tap) { tap.abort(); }); });
  }
  Napi::Value commit(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] { return run(info, [](Tap& tap) { tap.commit(); }); });
  }
  Napi::Value mark(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      return run(info, [ranges = arg_block_ranges(info[0], "ranges")](Tap& tap) { tap.mark(ranges); });
    });
  }
  Napi::Value adopt(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      const Id point = arg_id(info[0], "pointId");
      const bool complete = arg_bool(info[1], "complete");
      return run(info, [point, complete](Tap& tap) { tap.adopt(point, complete); });
    });
  }
  Napi::Value void_map(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      return run(info, [reason = arg_string(info[0], "reason")](Tap& tap) { tap.make_void(reason); });
    });
  }
  Napi::Value release_journal(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      return run(info, [journal = arg_id(info[0], "journalId"), ordinal = arg_uint(info[1], "ordinal")](
                           Tap& tap) { tap.release_journal(journal, ordinal); });
    });
  }
  Napi::Value stamp_journal(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      return run_promise(
          info.Env(), {{gate_}, {}}, [core = core_] { return core->stamp_journal(); },
          [](Napi::Env env, const std::optional<JournalPosition>& position) {
            return position ? journal_position(env, *position) : env.Null();
          });
    });
  }
  Napi::Value break_journal(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      return run(info, [journal = arg_id(info[0], "journalId"), reason = arg_string(info[1], "reason")](
                           Tap& tap) { tap.break_journal(journal, reason); });
    });
  }
  Napi::Value stop(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] { return run(info, [](Tap& tap) { tap.stop(); }); });
  }

  Napi::Value check_source(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      return run_promise(
          info.Env(), {{gate_}, {}}, [core = core_] { return core->check_source(); },
          [](Napi::Env env, const SourceState& source) {
            Napi::Object result = Napi::Object::New(env);
            result.Set("sizeBytes", number(env, source.size_bytes));
            result.Set("leastBytes", number(env, source.least_bytes));
            result.Set("foreignWriters", number(env, source.foreign_writers));
            return result;
          });
    });
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&]() -> Napi::Value {
      gate_->check();
      const std::string continuity = arg_string(info[0], "continuity");
      return run_promise(
          info.Env(), {{gate_}, {}},
          [core = std::exchange(core_, nullptr), gate = gate_, continuity]() mutable {
            std::string failure = core->close(continuity);
            core.reset();
            return failure;
          },
          [](Napi::Env env, const std::string& failure) { return Napi::String::New(env, failure); });
    });
  }

  Napi::Value status(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&] {
      if (!core_) throw NativeError("closed", "the tap is closed");
      return tap_status(env, *core_);
    });
  }

  std::shared_ptr<Tap> core_;  // moved away by close()
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
};

Napi::Value create_tap(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const Napi::Object given = arg_object(info[0], "options");
    TapOptions options;
    options.path = arg_string(given.Get("path"), "path");
    if (const Napi::Value value = given.Get("readOnly"); !value.IsUndefined())
      options.read_only = arg_bool(value, "readOnly");
    options.block_size = arg_block_size(given.Get("blockSize"));
    if (const Napi::Value value = given.Get("mapPath"); !value.IsNull())
      options.map_path = arg_string(value, "mapPath");
    options.identity = arg_string(given.Get("identity"), "identity");
    if (const Napi::Value value = given.Get("distrust"); !value.IsUndefined())
      options.distrust = arg_string(value, "distrust");
    options.journal = arg_journal_options(given.Get("journal"));
    return run_promise(
        info.Env(), {}, [options] { return std::make_shared<Tap>(options); },
        [](Napi::Env env, std::shared_ptr<Tap> core) { return wrap(env, kClass, std::move(core)); });
  });
}

Napi::Value read_tap_map(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_promise(
        info.Env(), {},
        [path = arg_string(info[0], "path")]() -> std::optional<MapHeader> {
          const auto file = TapFile::open_existing(path);
          if (!file) return std::nullopt;
          try {
            return read_map_header(*file);
          } catch (const NativeError& error) {
            if (error.code() == "truncated") return std::nullopt;
            throw;
          }
        },
        [](Napi::Env env, const std::optional<MapHeader>& header) -> Napi::Value {
          if (!header) return env.Null();
          Napi::Object result = Napi::Object::New(env);
          result.Set("identity", Napi::String::New(env, header->identity));
          result.Set("sizeBytes", number(env, header->geometry.size_bytes));
          result.Set("blockSize", number(env, header->geometry.block_size));
          result.Set("clean", Napi::Boolean::New(env, header->clean));
          result.Set("continuity", Napi::String::New(env, header->continuity));
          result.Set("pointIds", hex_list(env, header->points));
          return result;
        });
  });
}

Napi::Value open_snapshot(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    return run_promise(
        info.Env(), {},
        [address = arg_string(info[0], "address"), name = arg_string(info[1], "exportName")] {
          return std::make_shared<NbdSource>(address, name);
        },
        [](Napi::Env env, const std::shared_ptr<NbdSource>& source) {
          Napi::Object device = wrap_device(env, source);
          // Weak: a closed device has no connections left, whoever still has the object.
          device.Set(
              "changedRanges",
              Napi::Function::New(env, [weak = std::weak_ptr(source)](const Napi::CallbackInfo& call) {
                return guarded_promise(call.Env(), [&] {
                  // Counts as the device's work in flight, so that close() waits for it.
                  const Handle<BlockSource> handle = arg_device(call.This(), "this");
                  const uint32_t block_size = arg_block_size(call[0]);
                  return run_promise(
                      call.Env(), {{handle.gate}, {}},
                      [source = weak.lock(), block_size] { return source->changed_ranges(block_size); },
                      [](Napi::Env e, const std::vector<BlockRange>& ranges) {
                        return block_ranges(e, ranges);
                      });
                });
              }));
          return device;
        });
  });
}

}  // namespace

void init_tap(Napi::Env env, Napi::Object exports) {
  TapWrap::define(env);
  exports.Set("createTap", Napi::Function::New(env, create_tap, "createTap"));
  exports.Set("readTapMap", Napi::Function::New(env, read_tap_map, "readTapMap"));
  exports.Set("openSnapshot", Napi::Function::New(env, open_snapshot, "openSnapshot"));
}

}  // namespace stillpoint::binding
