// LiveCopy and createLiveCopy. What touches maps or the device runs on the pool; one call at a time.
#include <memory>
#include <mutex>
#include <utility>

#include "binding/async/classes.h"
#include "binding/async/closing.h"
#include "binding/async/gate.h"
#include "binding/async/promises.h"
#include "binding/module.h"
#include "binding/values/arguments.h"
#include "binding/values/errors.h"
#include "core/device/block_device.h"
#include "core/live/live_copy.h"
#include "core/tree/geometry.h"

namespace stillpoint::binding {
namespace {

constexpr const char* kClass = "LiveCopy";
constexpr uint64_t kMemoryBytesMax = uint64_t{64} << 30;
constexpr uint32_t kSampleBlocksMax = 65536;

Napi::Value number(Napi::Env env, uint64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

Napi::Value range_array(Napi::Env env, const std::vector<CutRange>& ranges) {
  Napi::Array array = Napi::Array::New(env, ranges.size());
  for (uint32_t i = 0; i < ranges.size(); i++) {
    Napi::Array pair = Napi::Array::New(env, 2);
    pair.Set(0u, number(env, ranges[i].begin));
    pair.Set(1u, number(env, ranges[i].end));
    array.Set(i, pair);
  }
  return array;
}

const char* state_name(CutState state) {
  switch (state) {
    case CutState::complete:
      return "complete";
    case CutState::too_much:
      return "too-much";
    case CutState::failed:
      return "failed";
    default:
      return "none";
  }
}

Napi::Value cut_report(Napi::Env env, const CutResult& result, uint64_t grain_bytes) {
  Napi::Object report = Napi::Object::New(env);
  report.Set("state", state_name(result.state));
  report.Set("wantedBytes", number(env, result.wanted_bytes));
  report.Set("aheadBytes", number(env, result.ahead_bytes));
  report.Set("error", Napi::Number::New(env, result.error));
  report.Set("errorOffset", number(env, result.error_offset));
  std::vector<CutRange> written(result.written, result.written + result.written_count);
  for (CutRange& range : written) range = {range.begin * grain_bytes, range.end * grain_bytes};
  report.Set("writtenBytes", range_array(env, written));
  report.Set("isWrittenMore", result.written_more);
  report.Set("marksMs", Napi::Number::New(env, static_cast<double>(result.marks_ns) / 1e6));
  report.Set("readMs", Napi::Number::New(env, static_cast<double>(result.read_ns) / 1e6));
  return report;
}

class LiveCopyWrap : public Napi::ObjectWrap<LiveCopyWrap> {
 public:
  static void define(Napi::Env env) {
    register_class(
        env, kClass,
        DefineClass(
            env, kClass,
            {InstanceMethod<&LiveCopyWrap::begin>("begin"), InstanceMethod<&LiveCopyWrap::collect>("collect"),
             InstanceMethod<&LiveCopyWrap::ship>("ship"), InstanceMethod<&LiveCopyWrap::stage>("stage"),
             InstanceMethod<&LiveCopyWrap::doubt>("doubt"),
             InstanceMethod<&LiveCopyWrap::prepare_cut>("prepareCut"),
             InstanceMethod<&LiveCopyWrap::descriptors>("descriptors"),
             InstanceMethod<&LiveCopyWrap::cut_has_ended>("cutHasEnded"),
             InstanceMethod<&LiveCopyWrap::report>("report"), InstanceMethod<&LiveCopyWrap::accept>("accept"),
             InstanceMethod<&LiveCopyWrap::is_untouched>("isUntouched"),
             InstanceMethod<&LiveCopyWrap::changed_blocks>("changedBlocks"),
             InstanceMethod<&LiveCopyWrap::unchanged_sample>("unchangedSample"),
             InstanceMethod<&LiveCopyWrap::open_view>("openView"),
             InstanceMethod<&LiveCopyWrap::close>("close")}));
  }

  explicit LiveCopyWrap(const Napi::CallbackInfo& info)
      : ObjectWrap(info), core_(take_wrapped<std::shared_ptr<LiveCopy>>(info)) {
    tag_object(info.This().As<Napi::Object>(), kClass);
  }

 private:
  // On the pool, one after the other.
  template <class Work, class Convert>
  Napi::Value in_turn(const Napi::CallbackInfo& info, Work work, Convert convert) {
    gate_->check();
    return run_promise(
        info.Env(), {{gate_}, {}},
        [core = core_, mutex = mutex_, work = std::move(work)] {
          const std::lock_guard lock(*mutex);
          return work(*core);
        },
        std::move(convert));
  }

  Napi::Value begin(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      const Napi::Object given = arg_object(info[0], "options");
      LiveCopy::Begin begin{arg_bool(given.Get("everything"), "everything"), {}};
      const Napi::Value sample = given.Get("sampleBlocks");
      if (!sample.IsArray() || sample.As<Napi::Array>().Length() > kSampleBlocksMax) {
        throw_argument("sampleBlocks", "an array of at most 65536 block indexes");
      }
      const Napi::Array blocks = sample.As<Napi::Array>();
      for (uint32_t i = 0; i < blocks.Length(); i++) {
        begin.sample_blocks.push_back(arg_uint(blocks.Get(i), "sampleBlocks"));
      }
      return in_turn(
          info, [begin = std::move(begin)](LiveCopy& copy) { copy.begin(begin); },
          [](Napi::Env env) { return env.Undefined(); });
    });
  }

  Napi::Value collect(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      return in_turn(
          info, [](LiveCopy& copy) { return std::pair(copy.collect(), copy.staged_bytes()); },
          [](Napi::Env env, const std::pair<LiveCopy::Pending, uint64_t>& collected) {
            const auto& [pending, staged_bytes] = collected;
            Napi::Object object = Napi::Object::New(env);
            object.Set("grains", number(env, pending.grains));
            object.Set("shipBytes", number(env, pending.ship_bytes));
            object.Set("stageBytes", number(env, pending.stage_bytes));
            object.Set("readBytes", number(env, pending.read_bytes));
            object.Set("stagedBytes", number(env, staged_bytes));
            return object;
          });
    });
  }

  Napi::Value ship(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      return in_turn(
          info, [](LiveCopy& copy) { return copy.ship(); }, range_array);
    });
  }

  Napi::Value stage(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      return in_turn(
          info, [](LiveCopy& copy) { copy.stage(); }, [](Napi::Env env) { return env.Undefined(); });
    });
  }

  Napi::Value doubt(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      const std::string what = arg_string(info[0], "what");
      if (what != "queued" && what != "everything") throw_argument("what", "queued or everything");
      const auto doubt = what == "queued" ? LiveCopy::Doubt::queued : LiveCopy::Doubt::everything;
      return in_turn(
          info, [doubt](LiveCopy& copy) { copy.doubt(doubt); },
          [](Napi::Env env) { return env.Undefined(); });
    });
  }

  Napi::Value prepare_cut(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      const uint64_t read_bytes = arg_uint(info[0], "readBytes", kMemoryBytesMax);
      return in_turn(
          info, [read_bytes](LiveCopy& copy) { copy.prepare_cut(read_bytes); },
          [](Napi::Env env) { return env.Undefined(); });
    });
  }

  Napi::Value descriptors(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      gate_->check();
      const std::vector<int> descriptors = core_->descriptors();
      Napi::Array array = Napi::Array::New(env, descriptors.size());
      for (uint32_t i = 0; i < descriptors.size(); i++) array.Set(i, Napi::Number::New(env, descriptors[i]));
      return array;
    });
  }

  Napi::Value cut_has_ended(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      gate_->check();
      return Napi::Boolean::New(env, core_->cut_has_ended());
    });
  }

  Napi::Value report(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      return in_turn(
          info, [](LiveCopy& copy) { return std::pair(copy.report(), copy.grain_bytes()); },
          [](Napi::Env env, const std::pair<CutResult, uint64_t>& finished) {
            return cut_report(env, finished.first, finished.second);
          });
    });
  }

  Napi::Value accept(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      return in_turn(
          info, [](LiveCopy& copy) { copy.accept(); }, [](Napi::Env env) { return env.Undefined(); });
    });
  }

  Napi::Value is_untouched(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      const uint64_t begin = arg_uint(info[0], "beginByte");
      const uint64_t end = arg_uint(info[1], "endByte");
      return in_turn(
          info, [begin, end](LiveCopy& copy) { return copy.untouched(begin, end); },
          [](Napi::Env env, bool untouched) { return Napi::Boolean::New(env, untouched); });
    });
  }

  Napi::Value changed_blocks(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&] {
      gate_->check();
      return range_array(env, core_->changed_blocks());
    });
  }

  Napi::Value unchanged_sample(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      gate_->check();
      const std::vector<uint64_t> blocks = core_->unchanged_sample();
      Napi::Array array = Napi::Array::New(env, blocks.size());
      for (uint32_t i = 0; i < blocks.size(); i++) array.Set(i, number(env, blocks[i]));
      return array;
    });
  }

  // It keeps the copy alive.
  Napi::Value open_view(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] {
      gate_->check();
      return wrap_device(info.Env(), std::make_shared<LiveView>(core_));
    });
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    return close_handle(
        info.Env(), gate_, closer_,
        [core = std::make_shared<std::shared_ptr<LiveCopy>>(std::move(core_))] { core->reset(); });
  }

  std::shared_ptr<LiveCopy> core_;  // moved away by close()
  std::shared_ptr<std::mutex> mutex_ = std::make_shared<std::mutex>();
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  std::shared_ptr<Closer> closer_ = std::make_shared<Closer>();
};

Napi::Value create_live_copy(const Napi::CallbackInfo& info) {
  return guarded_promise(info.Env(), [&] {
    const Handle<BlockSource> source = arg_device(info[0], "device");
    const auto device = std::dynamic_pointer_cast<BlockDevice>(source.core);
    if (!device) throw_argument("device", "a block device");
    const Handle<Tracker> tracker = arg_tracker(info[1], "tracker");
    const Napi::Object given = arg_object(info[2], "options");
    const LiveOptions options{arg_uint(given.Get("blockSize"), "blockSize", kBlockSizeMax),
                              arg_uint(given.Get("stagingMaxBytes"), "stagingMaxBytes", kMemoryBytesMax),
                              arg_uint(given.Get("cutMaxBytes"), "cutMaxBytes", kMemoryBytesMax)};
    return run_promise(
        info.Env(), {{source.gate, tracker.gate}, {}},
        [device, tracker = tracker.core, options] {
          return std::make_shared<LiveCopy>(device, tracker, options);
        },
        [](Napi::Env env, std::shared_ptr<LiveCopy> core) { return wrap(env, kClass, std::move(core)); });
  });
}

}  // namespace

void init_live(Napi::Env env, Napi::Object exports) {
  LiveCopyWrap::define(env);
  exports.Set("createLiveCopy", Napi::Function::New(env, create_live_copy, "createLiveCopy"));
}

}  // namespace stillpoint::binding
