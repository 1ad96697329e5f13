// The part of util.h that has state: environments, operations, gates.
#include <condition_variable>
#include <deque>
#include <mutex>

#include "binding/module.h"
#include "binding/util.h"
#include "core/base/thread_pool.h"

namespace stillpoint::binding {

// One per napi_env (main thread, each worker), kept as its instance data.
//
// Locking: mutex_ guards queue_ and running_; all else belongs to the JavaScript thread. wake_ is called
// under mutex_, and never after teardown() has seen running_ at 0, so it outlives its callers.
class Environment {
 public:
  explicit Environment(Napi::Env env) : env_(env) {
    wake_ = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}),
                                          "stillpoint", 0, 1);
    wake_.Unref(env);
  }
  ~Environment() = default;
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  Operation* start(const Keep& keep, bool holds_loop) {
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
    if (holds_loop && holders_++ == 0 && !closed_) wake_.Ref(env_);
    const std::lock_guard lock(mutex_);
    running_++;
    return operation.release();
  }

  // Any thread.
  void post(Operation* operation, Operation::Settle settle, bool last) {
    std::lock_guard lock(mutex_);
    queue_.push_back({last ? operation : nullptr, std::move(settle)});
    if (!closed_)
      wake_.NonBlockingCall(this, [](Napi::Env, Napi::Function, Environment* self) { self->drain(); });
    if (last && --running_ == 0) idle_.notify_all();
  }

  void drain() {
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

  void release(Operation* operation) {
    if (operation == nullptr) return;
    for (const auto& gate : operation->gates_) gate->leave();
    if (operation->holds_loop_ && --holders_ == 0 && !closed_) wake_.Unref(env_);
    delete operation;
  }

  // Cleanup hook, JavaScript thread: hooks run in reverse order, so wake_'s own comes later.
  void teardown() {
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

  Napi::Env env_;
  std::map<std::string, Napi::FunctionReference> constructors_;
  std::map<int, std::function<void()>> stoppers_;
  int next_stopper_ = 0;

 private:
  struct Item {
    Operation* operation = nullptr;  // null: a call in between
    Operation::Settle settle;
  };

  Napi::ThreadSafeFunction wake_;
  size_t holders_ = 0;
  bool closed_ = false;  // written under mutex_, by the JavaScript thread
  std::mutex mutex_;
  std::condition_variable idle_;
  std::deque<Item> queue_;
  size_t running_ = 0;
};

void init_environment(Napi::Env env) {
  env.SetInstanceData<Environment>(new Environment(env));
  Environment* const self = &Environment::of(env);
  env.AddCleanupHook([self] { self->teardown(); });
}

// ---- classes ----

void register_class(Napi::Env env, const char* name, const Napi::Function& constructor) {
  Environment::of(env).constructors_[name] = Napi::Persistent(constructor);
}

Napi::Object construct(Napi::Env env, const char* name, napi_value external) {
  return Environment::of(env).constructors_.at(name).New({external});
}

// ---- lifetime of handles ----

void Gate::check() const {
  if (closing_) throw NativeError("closed", "the handle is closed");
}

void Gate::enter() {
  check();
  in_flight_++;
}

void Gate::leave() {
  if (--in_flight_ == 0 && when_idle_) std::exchange(when_idle_, nullptr)();
}

bool Gate::close(std::function<void()> when_idle) {
  if (closing_) return false;
  closing_ = true;
  for (const auto& [id, stop] : stoppers_) stop();
  if (in_flight_ == 0) {
    when_idle();
  } else {
    when_idle_ = std::move(when_idle);
  }
  return true;
}

int Gate::add_stopper(std::function<void()> stop) {
  stoppers_[next_stopper_] = std::move(stop);
  return next_stopper_++;
}

Napi::Value close_handle(Napi::Env env, const std::shared_ptr<Gate>& gate,
                         const std::shared_ptr<Closer>& closer, std::function<void()> release) {
  Napi::Promise::Deferred deferred(env);
  if (closer->done) {
    deferred.Resolve(env.Undefined());
    return deferred.Promise();
  }
  closer->waiting.push_back(deferred);
  gate->close([env, closer, release = std::move(release)] {
    Operation* const operation = Operation::start(env, {});
    submit_to_pool([operation, closer, release] {
      std::exception_ptr failure;
      try {
        release();
      } catch (...) {
        failure = std::current_exception();
      }
      operation->finish([closer, failure](Napi::Env e) {
        closer->done = true;
        for (const auto& waiting : std::exchange(closer->waiting, {})) {
          if (failure) {
            waiting.Reject(make_error(e, failure).Value());
          } else {
            waiting.Resolve(e.Undefined());
          }
        }
      });
    });
  });
  return deferred.Promise();
}

// ---- operations ----

Operation* Operation::start(Napi::Env env, const Keep& keep, bool holds_loop) {
  // Where no thread can be started, it throws now: an operation that was started must be finished.
  ThreadPool::shared();
  return Environment::of(env).start(keep, holds_loop);
}

void Operation::finish(Settle settle) { environment_->post(this, std::move(settle), true); }
void Operation::post(Settle call) { environment_->post(this, std::move(call), false); }

int add_teardown_stopper(Napi::Env env, std::function<void()> stop) {
  Environment& environment = Environment::of(env);
  environment.stoppers_[environment.next_stopper_] = std::move(stop);
  return environment.next_stopper_++;
}

void remove_teardown_stopper(Napi::Env env, int id) { Environment::of(env).stoppers_.erase(id); }

void submit_to_pool(std::function<void()> task) { ThreadPool::shared().submit(std::move(task)); }

}  // namespace stillpoint::binding
