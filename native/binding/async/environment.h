// What belongs to one environment of Node: the main thread, or a worker.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>

#include "binding/async/operation.h"

namespace stillpoint::binding {

// One per napi_env, kept as its instance data. Also implements Operation.
//
// Locking: mutex_ guards queue_ and running_; all else belongs to the JavaScript thread. wake_ is called
// under mutex_, and never after teardown() has seen running_ at 0, so it outlives its callers.
class Environment {
 public:
  explicit Environment(Napi::Env env);
  ~Environment() = default;
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  Operation* start(const Keep& keep, bool holds_loop);
  // The process does not exit by itself while anybody holds the loop.
  void hold_loop();
  void let_loop_go();
  // Any thread. `last`: the operation settles with this.
  void post(Operation* operation, Operation::Settle settle, bool last);
  // Cleanup hook, JavaScript thread: hooks run in reverse order, so wake_'s own comes later.
  void teardown();

  void set_constructor(const std::string& name, const Napi::Function& constructor);
  Napi::FunctionReference& constructor(const std::string& name) { return constructors_.at(name); }

  int add_stopper(std::function<void()> stop);
  void remove_stopper(int id) { stoppers_.erase(id); }

 private:
  struct Item {
    Operation* operation = nullptr;  // null: a call in between
    Operation::Settle settle;
  };

  void drain();
  void release(Operation* operation);

  Napi::Env env_;
  std::map<std::string, Napi::FunctionReference> constructors_;
  std::map<int, std::function<void()>> stoppers_;
  int next_stopper_ = 0;

  Napi::ThreadSafeFunction wake_;
  size_t holders_ = 0;
  bool closed_ = false;  // written under mutex_, by the JavaScript thread
  std::mutex mutex_;
  std::condition_variable idle_;
  std::deque<Item> queue_;
  size_t running_ = 0;
};

// Makes the environment's Environment, and has it torn down in the end.
void init_environment(Napi::Env env);

}  // namespace stillpoint::binding
