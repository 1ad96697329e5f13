// RestoreWriter. All of it runs on the pool; close() ends a verification in flight.
#include "binding/async/calling.h"
#include "binding/async/classes.h"
#include "binding/async/closing.h"
#include "binding/async/gate.h"
#include "binding/async/operation.h"
#include "binding/async/promises.h"
#include "binding/module.h"
#include "binding/values/arguments.h"
#include "binding/values/errors.h"
#include "core/base/thread_pool.h"
#include "core/restore/restore_writer.h"

namespace stillpoint::binding {
namespace {

constexpr const char* kClass = "RestoreWriter";

struct Parts {
  std::shared_ptr<RestoreWriter> writer;
  std::vector<std::shared_ptr<Gate>> gates;  // of the device and the tree: they must not close under work
};

class RestoreWrap : public Napi::ObjectWrap<RestoreWrap> {
 public:
  static void define(Napi::Env env) {
    register_class(
        env, kClass,
        DefineClass(
            env, kClass,
            {InstanceMethod<&RestoreWrap::write>("write"), InstanceMethod<&RestoreWrap::zero>("zero"),
             InstanceMethod<&RestoreWrap::flush>("flush"), InstanceMethod<&RestoreWrap::verify>("verify"),
             InstanceMethod<&RestoreWrap::close>("close")}));
  }

  explicit RestoreWrap(const Napi::CallbackInfo& info) : ObjectWrap(info), parts_(take_wrapped<Parts>(info)) {
    tag_object(info.This().As<Napi::Object>(), kClass);
    parts_.gates.push_back(gate_);
    const auto cancel = [writer = std::weak_ptr(parts_.writer)] {
      if (const auto alive = writer.lock()) alive->cancel();
    };
    gate_->add_stopper(cancel);
    teardown_stopper_ = add_teardown_stopper(info.Env(), cancel);
  }
  ~RestoreWrap() override { remove_teardown_stopper(Env(), teardown_stopper_); }

 private:
  Napi::Value write(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      const Bytes body = arg_bytes(info[0], "batchBody");
      const Id point_id = arg_id(info[1], "pointId");
      return run_promise(
          info.Env(), {parts_.gates, {info[0]}},
          [writer = parts_.writer, body, point_id] { return writer->write(body, point_id); },
          [](Napi::Env env, uint64_t written) {
            Napi::Object object = Napi::Object::New(env);
            object.Set("writtenBytes", Napi::Number::New(env, static_cast<double>(written)));
            return object;
          });
    });
  }

  Napi::Value zero(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      const uint64_t byte_offset = arg_uint(info[0], "byteOffset");
      const uint64_t byte_length = arg_uint(info[1], "byteLength");
      return run_promise(info.Env(), {parts_.gates, {}}, [writer = parts_.writer, byte_offset, byte_length] {
        writer->zero(byte_offset, byte_length);
      });
    });
  }

  Napi::Value flush(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      return run_promise(info.Env(), {parts_.gates, {}}, [writer = parts_.writer] { writer->flush(); });
    });
  }

  Napi::Value verify(const Napi::CallbackInfo& info) {
    return guarded_promise(info.Env(), [&] {
      gate_->check();
      const Napi::Env env = info.Env();
      const Napi::Function on_progress = info[0].IsUndefined()
                                             ? Napi::Function::New(env, [](const Napi::CallbackInfo&) {})
                                             : arg_function(info[0], "onProgress");
      return run_calling(
          env, {parts_.gates, {}}, on_progress,
          [writer = parts_.writer](const auto& call) {
            return writer->verify([&](uint64_t done_bytes) {
              call([done_bytes](Napi::Env e) {
                return Napi::Number::New(e, static_cast<double>(done_bytes));
              });
            });
          },
          [](Napi::Env e, std::optional<uint64_t> found) -> Napi::Value {
            if (!found) return e.Null();
            return Napi::Number::New(e, static_cast<double>(*found));
          });
    });
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    return close_handle(info.Env(), gate_, closer_,
                        [parts = std::make_shared<Parts>(std::move(parts_))] { parts->writer.reset(); });
  }

  int teardown_stopper_;
  Parts parts_;  // moved away by close()
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  std::shared_ptr<Closer> closer_ = std::make_shared<Closer>();
};

Napi::Value create_restore_writer(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const Handle<BlockSource> device = arg_device(info[0], "device");
    const Handle<TreeFile> tree = arg_tree(info[1], "tree");
    auto writer = std::make_shared<RestoreWriter>(device.core, tree.core, ThreadPool::shared());
    return wrap(env, kClass, Parts{std::move(writer), {device.gate, tree.gate}});
  });
}

}  // namespace

void init_restore(Napi::Env env, Napi::Object exports) {
  RestoreWrap::define(env);
  exports.Set("createRestoreWriter", Napi::Function::New(env, create_restore_writer, "createRestoreWriter"));
}

}  // namespace stillpoint::binding
