#include "binding/async/environment.h"

#include <memory>
#include <utility>

#include "core/base/thread_pool.h"

namespace stillpoint::binding {

Environment::Environment(Napi::Env env) : env_(env) {
  wake_ = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}),
                                        "stillpoint", 0, 1);
  wake_.Unref(env);
}

Operation* Environment::start(const Keep& keep, bool holds_loop) {
  for (const auto& gate : keep.gates) gate->check();
  std::unique_ptr<Operation> operation(new Operation);
  operation->environment_ = this;
  operation->holds_loop_ = holds_loop;
  operation->gates_ = keep.gates;
  for (const Napi::Value& value : keep.values) {
    // Node-API 8 references objects only; primitives need none.
    if (value.IsObject()) operation->values_.push_back(Napi::Reference<Napi::Value>::New(value, 1));
  }
  // From here on nothing throws: what is counted is also released.
  for (const auto& gate : keep.gates) gate->enter();
  if (holds_loop) hold_loop();
  const std::lock_guard lock(mutex_);
  running_++;
  return operation.release();
}

void Environment::hold_loop() {
  if (holders_++ == 0 && !closed_) wake_.Ref(env_);
}

void Environment::let_loop_go() {
  if (--holders_ == 0 && !closed_) wake_.Unref(env_);
}

void Environment::post(Operation* operation, Operation::Settle settle, bool last) {
  std::lock_guard lock(mutex_);
  queue_.push_back({last ? operation : nullptr, std::move(settle)});
  if (!closed_)
    wake_.NonBlockingCall(this, [](Napi::Env, Napi::Function, Environment* self) { self->drain(); });
  if (last && --running_ == 0) idle_.notify_all();
}

void Environment::drain() {
  for (;;) {
    Item item;
    {
      std::lock_guard lock(mutex_);
      if (queue_.empty()) return;
      item = std::move(queue_.front());
      queue_.pop_front();
    }
    Napi::HandleScope scope(env_);
    try {
      if (item.settle) item.settle(env_);
    } catch (const Napi::Error&) {
      // The environment is being terminated: JavaScript can't be told any more.
    }
    item.settle = nullptr;
    release(item.operation);
  }
}

void Environment::release(Operation* operation) {
  if (operation == nullptr) return;
  for (const auto& gate : operation->gates_) gate->leave();
  if (operation->holds_loop_) let_loop_go();
  delete operation;
}

void Environment::teardown() {
  for (const auto& [id, stop] : stoppers_) stop();
  std::deque<Item> dropped;
  // Gates that become idle here may start their release on the pool: wait again until nothing is left.
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      closed_ = true;
      idle_.wait(lock, [this] { return running_ == 0; });
      dropped.swap(queue_);
    }
    if (dropped.empty()) break;
    for (Item& item : dropped) {
      item.settle = nullptr;
      release(item.operation);
    }
    dropped.clear();
  }
  wake_.Release();
}

void Environment::set_constructor(const std::string& name, const Napi::Function& constructor) {
  constructors_[name] = Napi::Persistent(constructor);
}

int Environment::add_stopper(std::function<void()> stop) {
  stoppers_[next_stopper_] = std::move(stop);
  return next_stopper_++;
}

void init_environment(Napi::Env env) {
  env.SetInstanceData<Environment>(new Environment(env));
  Environment* const self = &Environment::of(env);
  env.AddCleanupHook([self] { self->teardown(); });
}

Operation* Operation::start(Napi::Env env, const Keep& keep, bool holds_loop) {
  // Where no thread can be started, it throws now: an operation that was started must be finished.
  ThreadPool::shared();
  return Environment::of(env).start(keep, holds_loop);
}

void Operation::finish(Settle settle) { environment_->post(this, std::move(settle), true); }
void Operation::post(Settle call) { environment_->post(this, std::move(call), false); }

int add_teardown_stopper(Napi::Env env, std::function<void()> stop) {
  return Environment::of(env).add_stopper(std::move(stop));
}

void remove_teardown_stopper(Napi::Env env, int id) { Environment::of(env).remove_stopper(id); }

void submit_to_pool(std::function<void()> task) { ThreadPool::shared().submit(std::move(task)); }

}  // namespace stillpoint::binding
