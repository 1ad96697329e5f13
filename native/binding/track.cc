// Tracker, attachTracker, openTracker, detachTracker, checkTracking. What takes longer than a system call or
// two runs on the pool.
#include "binding/async/classes.h"
#include "binding/async/closing.h"
#include "binding/async/gate.h"
#include "binding/async/promises.h"
#include "binding/module.h"
#include "binding/values/arguments.h"
#include "binding/values/buffers.h"
#include "binding/values/errors.h"
#include "core/track/tracker.h"
#include "core/tree/geometry.h"

namespace stillpoint::binding {
namespace {

constexpr const char* kClass = "Tracker";
constexpr uint64_t kNumberMax = (uint64_t{1} << 32) - 1;

Napi::Value number(Napi::Env env, uint64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

TrackTarget arg_target(const Napi::Value& value) {
  const Napi::Object given = arg_object(value, "target");
  TrackTarget target{};
  target.disk_major = static_cast<uint32_t>(arg_uint(given.Get("diskMajor"), "diskMajor", kNumberMax));
  target.disk_minor = static_cast<uint32_t>(arg_uint(given.Get("diskMinor"), "diskMinor", kNumberMax));
  target.start_sector = arg_uint(given.Get("startSector"), "startSector");
  target.sector_count = arg_uint(given.Get("sectorCount"), "sectorCount");
  target.grain_bytes = static_cast<uint32_t>(arg_uint(given.Get("grainBytes"), "grainBytes", kNumberMax));
  target.has_request_queue = arg_bool(given.Get("hasRequestQueue"), "hasRequestQueue");
  return target;
}

Napi::Object target_object(Napi::Env env, const TrackTarget& target) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("diskMajor", number(env, target.disk_major));
  object.Set("diskMinor", number(env, target.disk_minor));
  object.Set("startSector", number(env, target.start_sector));
  object.Set("sectorCount", number(env, target.sector_count));
  object.Set("grainBytes", number(env, target.grain_bytes));
  object.Set("hasRequestQueue", Napi::Boolean::New(env, target.has_request_queue));
  return object;
}

class TrackerWrap : public Napi::ObjectWrap<TrackerWrap> {
 public:
  static void define(Napi::Env env) {
    register_class(env, kClass,
                   DefineClass(env, kClass,
                               {InstanceMethod<&TrackerWrap::counters>("counters"),
                                InstanceMethod<&TrackerWrap::record>("record"),
                                InstanceMethod<&TrackerWrap::write_record>("writeRecord"),
                                InstanceMethod<&TrackerWrap::marked>("marked"),
                                InstanceMethod<&TrackerWrap::mark>("mark"),
                                InstanceMethod<&TrackerWrap::forget_kept>("forgetKept"),
                                InstanceMethod<&TrackerWrap::close>("close")}));
  }

  explicit TrackerWrap(const Napi::CallbackInfo& info)
      : ObjectWrap(info), core_(take_wrapped<std::shared_ptr<Tracker>>(info)) {
    const Napi::Env env = info.Env();
    Napi::Object self = info.This().As<Napi::Object>();
    tag_object(self, kClass);
    self.DefineProperty(
        Napi::PropertyDescriptor::Value("target", target_object(env, core_->target()), napi_enumerable));
    self.DefineProperty(
        Napi::PropertyDescriptor::Value("memoryBytes", number(env, core_->memory_bytes()), napi_enumerable));
  }

  Handle<Tracker> handle() const {
    gate_->check();
    return {core_, gate_};
  }

 private:
  Napi::Value counters(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      gate_->check();
      const Tracker::Counters counters = core_->counters();
      Napi::Object object = Napi::Object::New(env);
      object.Set("passedThrough", number(env, counters.passed_through));
      object.Set("notNoted", number(env, counters.not_noted));
      object.Set("queueMisses", number(env, counters.queue_misses));
      object.Set("completionMisses", number(env, counters.completion_misses));
      object.Set("runNs", number(env, counters.run_ns));
      return object;
    });
  }

  Napi::Value record(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      gate_->check();
      const auto bytes = core_->record();
      return bytes ? to_buffer(env, *bytes) : env.Null();
    });
  }

  void write_record(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      gate_->check();
      core_->write_record(arg_bytes(info[0], "bytes"));
    });
  }

  Napi::Value marked(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      return run_promise(
          info.Env(), {{gate_}, {}}, [core = core_] { return core->marked_grains(); },
          [](Napi::Env env, uint64_t grains) { return number(env, grains); });
    });
  }

  Napi::Value mark(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      std::vector<BlockRange> ranges = arg_block_ranges(info[0], "ranges");
      const uint64_t block_bytes = arg_uint(info[1], "blockSize", kBlockSizeMax);
      return run_promise(info.Env(), {{gate_}, {}}, [core = core_, ranges = std::move(ranges), block_bytes] {
        for (const BlockRange& range : ranges) core->mark(range.begin * block_bytes, range.end * block_bytes);
      });
    });
  }

  Napi::Value forget_kept(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      return run_promise(info.Env(), {{gate_}, {}}, [core = core_] { core->kept().clear_all(); });
    });
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    return close_handle(
        info.Env(), gate_, closer_,
        [core = std::make_shared<std::shared_ptr<Tracker>>(std::move(core_))] { core->reset(); });
  }

  std::shared_ptr<Tracker> core_;  // moved away by close()
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  std::shared_ptr<Closer> closer_ = std::make_shared<Closer>();
};

Napi::Value wrap_tracker(Napi::Env env, std::shared_ptr<Tracker> core) {
  return wrap(env, kClass, std::move(core));
}

Napi::Value attach_tracker(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const std::string directory = arg_string(info[0], "directory");
    const TrackTarget target = arg_target(info[1]);
    // Undeclared: for a test of the tests.
    const Napi::Value wrong = option(info[1], "marksDoneWhenQueued");
    const auto done_at = !wrong.IsUndefined() && arg_bool(wrong, "marksDoneWhenQueued")
                             ? Tracker::DoneAt::queued
                             : Tracker::DoneAt::completion;
    return run_promise(
        info.Env(), {},
        [directory, target, done_at] {
          return std::make_shared<Tracker>(Tracker::attach(directory, target, done_at));
        },
        wrap_tracker);
  });
}

Napi::Value open_tracker(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const std::string directory = arg_string(info[0], "directory");
    return run_promise(
        info.Env(), {}, [directory] { return std::make_shared<Tracker>(Tracker::open(directory)); },
        wrap_tracker);
  });
}

Napi::Value detach_tracker(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const std::string directory = arg_string(info[0], "directory");
    return run_promise(info.Env(), {}, [directory] { Tracker::detach(directory); });
  });
}

Napi::Value check_tracking(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(),
                         [&] { return run_promise(info.Env(), {}, [] { Tracker::check_support(); }); });
}

}  // namespace

Handle<Tracker> arg_tracker(const Napi::Value& value, const char* name) {
  return arg_wrap<TrackerWrap>(value, kClass, name)->handle();
}

void init_track(Napi::Env env, Napi::Object exports) {
  TrackerWrap::define(env);
  exports.Set("attachTracker", Napi::Function::New(env, attach_tracker, "attachTracker"));
  exports.Set("openTracker", Napi::Function::New(env, open_tracker, "openTracker"));
  exports.Set("detachTracker", Napi::Function::New(env, detach_tracker, "detachTracker"));
  exports.Set("checkTracking", Napi::Function::New(env, check_tracking, "checkTracking"));
}

}  // namespace stillpoint::binding
