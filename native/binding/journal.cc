// readJournalHead, scanJournal, applyJournal, JournalReplay. All but opening a window and the list of what is
// touched runs on the pool.
#include <algorithm>
#include <charconv>
#include <string>

#include "binding/async/classes.h"
#include "binding/async/closing.h"
#include "binding/async/gate.h"
#include "binding/async/operation.h"
#include "binding/async/promises.h"
#include "binding/module.h"
#include "binding/values/arguments.h"
#include "binding/values/buffers.h"
#include "binding/values/errors.h"
#include "binding/values/journal_head.h"
#include "binding/values/stored_blocks.h"
#include "core/base/thread_pool.h"
#include "core/device/block_source.h"
#include "core/journal/replay/apply.h"
#include "core/journal/replay/replay.h"
#include "core/journal/run.h"
#include "core/tap/clock/write_clock.h"
#include "core/tap/journal/head.h"

namespace stillpoint::binding {
namespace {

constexpr const char* kClass = "JournalReplay";
constexpr size_t kStampDigitsMax = 40;

// ---- functions ----

Napi::Value read_journal_head_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const std::string path = arg_string(info[0], "path");
    return run_promise(
        info.Env(), {}, [path] { return read_head(path, WriteClock::boot_id()); },
        [](Napi::Env env, const std::optional<JournalHead>& head) -> Napi::Value {
          if (!head) return env.Null();
          return journal_head_object(env, *head);
        });
  });
}

// A time far ahead has a stamp that no record can have.
uint64_t arg_stamp(const Napi::Value& value, const char* name) {
  const std::string digits = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  const bool valid = !digits.empty() && digits.size() <= kStampDigitsMax &&
                     std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!valid) throw_argument(name, "decimal digits");
  uint64_t stamp = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), stamp);
  return error == std::errc::result_out_of_range ? RunBounds::kNone : stamp;
}

RunBounds arg_run_bounds(const Napi::Value& value) {
  const Napi::Object options = arg_object(value, "options");
  RunBounds bounds;
  if (const Napi::Value after = options.Get("afterOrdinal"); !after.IsNull())
    bounds.after = JournalMark{arg_uint(after, "afterOrdinal"), 0};
  if (const Napi::Value stamp = options.Get("throughStamp"); !stamp.IsUndefined())
    bounds.through_stamp = arg_stamp(stamp, "throughStamp");
  if (const Napi::Value bytes = options.Get("bytesMax"); !bytes.IsUndefined())
    bounds.bytes_max = arg_uint(bytes, "bytesMax");
  return bounds;
}

Napi::Value mark_object(Napi::Env env, const JournalMark& mark) {
  if (mark.ordinal == 0) return env.Null();
  Napi::Object object = Napi::Object::New(env);
  object.Set("ordinal", Napi::Number::New(env, static_cast<double>(mark.ordinal)));
  object.Set("stamp", std::to_string(mark.stamp));
  return object;
}

Napi::Value scan_journal_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const Bytes records = arg_bytes(info[0], "records");
    return run_promise(
        info.Env(), {{}, {info[0]}},
        [records, bounds = arg_run_bounds(info[1])] {
          return prove_run(records, bounds, ThreadPool::shared());
        },
        [](Napi::Env env, const JournalRun& run) -> Napi::Value {
          Napi::Object object = Napi::Object::New(env);
          object.Set("recordCount", Napi::Number::New(env, static_cast<double>(run.record_count)));
          object.Set("byteLength", Napi::Number::New(env, static_cast<double>(run.byte_length)));
          object.Set("first", mark_object(env, run.first));
          object.Set("last", mark_object(env, run.last));
          return object;
        });
  });
}

Napi::Value apply_journal_of(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const Handle<BlockSource> device = arg_device(info[0], "device");
    const Bytes records = arg_bytes(info[1], "records");
    return run_promise(
        info.Env(), {{device.gate}, {info[1]}},
        [core = device.core, records, except = arg_block_ranges(info[2], "except")] {
          return apply_records(*core, records, except, ThreadPool::shared());
        },
        [](Napi::Env env, uint64_t written) -> Napi::Value {
          Napi::Object object = Napi::Object::New(env);
          object.Set("writtenBytes", Napi::Number::New(env, static_cast<double>(written)));
          return object;
        });
  });
}

// ---- replays ----

class ReplayWrap : public Napi::ObjectWrap<ReplayWrap> {
 public:
  static void define(Napi::Env env) {
    register_class(
        env, kClass,
        DefineClass(
            env, kClass,
            {InstanceMethod<&ReplayWrap::note>("note"),
             InstanceMethod<&ReplayWrap::touched_ranges>("touchedRanges"),
             InstanceMethod<&ReplayWrap::open>("open"), InstanceMethod<&ReplayWrap::load>("load"),
             InstanceMethod<&ReplayWrap::apply>("apply"), InstanceMethod<&ReplayWrap::digests>("digests"),
             InstanceMethod<&ReplayWrap::close>("close")}));
  }

  explicit ReplayWrap(const Napi::CallbackInfo& info)
      : ObjectWrap(info), core_(take_wrapped<std::shared_ptr<JournalReplay>>(info)) {}
  // A window of many megabytes is given back: not on this thread.
  ~ReplayWrap() override {
    if (core_) submit_to_pool([core = std::move(core_)]() mutable { core.reset(); });
  }

 private:
  Napi::Value note(const Napi::CallbackInfo& info) {
    return with_records(info,
                        [](JournalReplay& core, Bytes records) { core.note(records, ThreadPool::shared()); });
  }

  Napi::Value apply(const Napi::CallbackInfo& info) {
    return with_records(
        info, [](JournalReplay& core, Bytes records) { core.apply(records, ThreadPool::shared()); });
  }

  template <class Work>
  Napi::Value with_records(const Napi::CallbackInfo& info, Work work) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      const Bytes records = arg_bytes(info[0], "records");
      return run_promise(info.Env(), {{gate_}, {info[0]}},
                         [core = core_, records, work] { work(*core, records); });
    });
  }

  Napi::Value touched_ranges(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      gate_->check();
      return block_ranges(info.Env(), core_->touched());
    });
  }

  void open(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      gate_->check();
      core_->open(arg_block_indexes(info[0], "blockIndexes"));
    });
  }

  Napi::Value load(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      Keep keep{{gate_}, {}};
      StoredBlocks stored = arg_stored_blocks(arg_object(info[0], "blocks"), keep);
      return run_promise(
          info.Env(), keep,
          [core = core_, stored = std::move(stored), digester = arg_digester(info[1], "digester")] {
            core->load(stored.blocks, stored.records, digester, ThreadPool::shared());
          });
    });
  }

  Napi::Value digests(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      return run_promise(
          info.Env(), {{gate_}, {}},
          [core = core_, digester = arg_digester(info[0], "digester")] {
            return core->digests(digester, ThreadPool::shared());
          },
          [](Napi::Env env, std::vector<uint8_t> digests) { return take_buffer(env, std::move(digests)); });
    });
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    return close_handle(
        info.Env(), gate_, closer_,
        [core = std::make_shared<std::shared_ptr<JournalReplay>>(std::move(core_))] { core->reset(); });
  }

  std::shared_ptr<JournalReplay> core_;  // moved away by close()
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  std::shared_ptr<Closer> closer_ = std::make_shared<Closer>();
};

Napi::Value create_journal_replay(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return wrap(info.Env(), kClass, std::make_shared<JournalReplay>(arg_geometry(info[0], info[1])));
  });
}

}  // namespace

void init_journal(Napi::Env env, Napi::Object exports) {
  ReplayWrap::define(env);
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("readJournalHead", read_journal_head_of);
  add("scanJournal", scan_journal_of);
  add("applyJournal", apply_journal_of);
  add("createJournalReplay", create_journal_replay);
}

}  // namespace stillpoint::binding
