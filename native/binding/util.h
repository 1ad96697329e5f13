// What every binding file needs.
//
// Threads: everything here runs on the JavaScript thread, but for the `work` of run_promise (a thread of the
// pool, no Napi:: anything) and Operation::finish (any thread). Results travel back through one queue per
// environment.
//
// Teardown (worker.terminate(), natural exit): a cleanup hook stops what can be stopped (Gate::add_stopper),
// waits until no operation is running on any thread, then drops the results. process.exit() runs no hooks;
// then native threads run on until the process is gone and touch nothing that is destroyed, for pool and
// environments are never freed by static destructors.
#pragma once

#include <napi.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/base/digest.h"
#include "core/base/error.h"
#include "core/base/id.h"
#include "core/tree/geometry.h"

namespace stillpoint::binding {

// ---- errors ----

// The NativeError of src/native/index.ts: an Error with code and, where known, path and byteOffset.
Napi::Error make_error(Napi::Env env, const std::exception& error);
Napi::Error make_error(Napi::Env env, const std::exception_ptr& error);

[[noreturn]] void throw_argument(const std::string& name, const std::string& expectation);

// Runs the body of a synchronous method or getter; NativeError becomes a JavaScript exception.
template <class Body>
auto guarded(Napi::Env env, Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::exception& error) {
    throw make_error(env, error);
  }
}

// Runs the body of a method that returns a promise; whatever it throws before work starts becomes a
// rejection.
template <class Body>
Napi::Value guarded_promise(Napi::Env env, Body&& body) {
  const auto rejected = [env](const Napi::Error& error) -> Napi::Value {
    Napi::Promise::Deferred deferred(env);
    deferred.Reject(error.Value());
    return deferred.Promise();
  };
  try {
    return body();
  } catch (const Napi::Error& error) {
    return rejected(error);
  } catch (const std::exception& error) {
    return rejected(make_error(env, error));
  }
}

// ---- arguments: each throws `argument`, naming what it wanted ----

std::string arg_string(const Napi::Value& value, const char* name);
bool arg_bool(const Napi::Value& value, const char* name);
std::vector<BlockRange> arg_block_ranges(const Napi::Value& value, const char* name);
// A whole number from 0 to `max` (at most 2^53 - 1).
uint64_t arg_uint(const Napi::Value& value, const char* name, uint64_t max = (uint64_t{1} << 53) - 1);
int64_t arg_int(const Napi::Value& value, const char* name, int64_t min, int64_t max);
// Any Uint8Array, Buffers included. Valid while the value is referenced.
Bytes arg_bytes(const Napi::Value& value, const char* name);
Digest arg_digest(const Napi::Value& value, const char* name);
Napi::Object arg_object(const Napi::Value& value, const char* name);
Napi::Function arg_function(const Napi::Value& value, const char* name);
// 32 and 64 lower-case hex digits.
Id arg_id(const Napi::Value& value, const char* name);
Digest arg_digest_hex(const Napi::Value& value, const char* name);

// A property of an options object; undefined if the object or the property is.
Napi::Value option(const Napi::Value& options, const char* name);

std::string to_hex(Bytes bytes);
// Copies. For large results prefer take_buffer.
Napi::Value to_buffer(Napi::Env env, Bytes bytes);
// A Buffer over memory that `owner` keeps: no copy. Freed with the Buffer.
Napi::Value take_memory(Napi::Env env, uint8_t* data, size_t size, std::shared_ptr<void> owner);
// Hands the vector's memory over to a Buffer without copying.
template <class Allocator>
Napi::Value take_buffer(Napi::Env env, std::vector<uint8_t, Allocator>&& bytes) {
  const auto owner = std::make_shared<std::vector<uint8_t, Allocator>>(std::move(bytes));
  return take_memory(env, owner->data(), owner->size(), owner);
}

// ---- classes ----

// Constructors of the wrapped classes are not exported; factories find them by name. `wrap` passes the shared
// core object on.
void register_class(Napi::Env env, const char* name, const Napi::Function& constructor);
Napi::Object construct(Napi::Env env, const char* name, napi_value external);

template <class Core>
Napi::Object wrap(Napi::Env env, const char* class_name, Core core) {
  return construct(env, class_name, Napi::External<Core>::New(env, &core));
}

// For the constructor of an ObjectWrap made by wrap(): takes the core object out again. Throws if JavaScript
// called `new` itself.
template <class Core>
Core take_wrapped(const Napi::CallbackInfo& info) {
  if (!info[0].IsExternal()) throw Napi::TypeError::New(info.Env(), "illegal constructor");
  return std::move(*info[0].As<Napi::External<Core>>().Data());
}

// The ObjectWrap behind an argument; tagged so that another class's object is an `argument` error, not a
// crash. The wrap's constructor calls tag().
void tag_object(Napi::Object object, const char* class_name);
void check_tag(const Napi::Value& value, const char* class_name, const char* name);
template <class Wrap>
Wrap* arg_wrap(const Napi::Value& value, const char* class_name, const char* name) {
  check_tag(value, class_name, name);
  return Wrap::Unwrap(value.As<Napi::Object>());
}

// ---- lifetime of handles ----

// Counts the operations in flight on one handle, so that close() can wait for them. JavaScript thread only.
//
// state     enter()            leave()                        close()
// -------   ----------------   ----------------------------   -------------------------------------
// open      counts             counts                         -> closing; stoppers called
// closing   throws `closed`    last one: released -> closed   waits with the first one
// closed    throws `closed`    -                              done at once
class Gate {
 public:
  Gate() = default;
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  void check() const;
  void enter();
  void leave();
  // Calls when_idle once nothing is in flight, maybe at once. Second and later calls: false, and nothing
  // happens.
  bool close(std::function<void()> when_idle);
  bool closing() const { return closing_; }

  // Called by close() before it waits: long work in flight (a scan) ends early.
  int add_stopper(std::function<void()> stop);
  void remove_stopper(int id) { stoppers_.erase(id); }

 private:
  bool closing_ = false;
  size_t in_flight_ = 0;
  std::function<void()> when_idle_;
  std::map<int, std::function<void()>> stoppers_;
  int next_stopper_ = 0;
};

// close() of a handle: waits for work in flight, runs `release` (may block: destructors, fsync) on the pool,
// resolves. Repeated calls resolve at the same time. `closer` is a member of the wrap.
struct Closer {
  std::vector<Napi::Promise::Deferred> waiting;
  bool done = false;
};
Napi::Value close_handle(Napi::Env env, const std::shared_ptr<Gate>& gate,
                         const std::shared_ptr<Closer>& closer, std::function<void()> release);

// ---- operations ----

// What an operation keeps alive until it settles: values (input Buffers, callbacks) and the handles that it
// uses.
struct Keep {
  std::vector<std::shared_ptr<Gate>> gates;
  std::vector<Napi::Value> values;
};

// One piece of native work in flight. Made and settled on the JavaScript thread; finish() is called exactly
// once, from any thread.
class Operation {
 public:
  using Settle = std::function<void(Napi::Env)>;

  // Throws `closed` if a gate is. With `holds_loop` the process does not exit by itself before this settles.
  static Operation* start(Napi::Env env, const Keep& keep, bool holds_loop = true);
  // `settle` runs later on the JavaScript thread (never, if the environment ends first), is destroyed there
  // too, and frees this.
  void finish(Settle settle);

  // Called from any thread: runs `call` on the JavaScript thread while the operation is in flight (progress
  // callbacks). Unordered with nothing: calls and the settling come in the order in which they were posted.
  void post(Settle call);

 private:
  friend class Environment;
  Operation() = default;

  class Environment* environment_ = nullptr;
  std::vector<std::shared_ptr<Gate>> gates_;
  std::vector<Napi::Reference<Napi::Value>> values_;
  bool holds_loop_ = true;
};

// Called at environment teardown on the JavaScript thread, before waiting for operations; for work that would
// otherwise not end.
int add_teardown_stopper(Napi::Env env, std::function<void()> stop);
void remove_teardown_stopper(Napi::Env env, int id);

void submit_to_pool(std::function<void()> task);

// Resolves with value(), or rejects with `failure` or what value() throws.
template <class Value>
void settle_promise(Napi::Env env, const Napi::Promise::Deferred& deferred, const std::exception_ptr& failure,
                    Value value) {
  try {
    if (failure) std::rethrow_exception(failure);
    deferred.Resolve(value());
  } catch (...) {
    deferred.Reject(make_error(env, std::current_exception()).Value());
  }
}

// Runs work() on the pool and settles a promise with convert(env, result), or undefined for void work without
// convert. work: no Napi, may throw NativeError. convert: JavaScript thread, may throw Napi::Error.
template <class Work, class Convert>
Napi::Value run_promise(Napi::Env env, const Keep& keep, Work work, Convert convert) {
  using Result = std::invoke_result_t<Work&>;
  // First, for it may throw where the environment is being terminated, and a started operation must be
  // finished.
  const auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
  Operation* const operation = Operation::start(env, keep);
  submit_to_pool([operation, deferred, work = std::move(work), convert = std::move(convert)]() mutable {
    std::exception_ptr failure;
    std::optional<Work> job(std::move(work));
    if constexpr (std::is_void_v<Result>) {
      try {
        (*job)();
      } catch (...) {
        failure = std::current_exception();
      }
      job.reset();  // what it captured is free before a close() that waits for this goes on
      operation->finish([deferred, convert = std::move(convert), failure](Napi::Env e) mutable {
        settle_promise(e, *deferred, failure, [&] { return convert(e); });
      });
    } else {
      auto result = std::make_shared<std::optional<Result>>();
      try {
        result->emplace((*job)());
      } catch (...) {
        failure = std::current_exception();
      }
      job.reset();
      operation->finish([deferred, convert = std::move(convert), failure, result](Napi::Env e) mutable {
        settle_promise(e, *deferred, failure, [&] { return convert(e, std::move(**result)); });
      });
    }
  });
  return deferred->Promise();
}

template <class Work>
Napi::Value run_promise(Napi::Env env, const Keep& keep, Work work) {
  static_assert(std::is_void_v<std::invoke_result_t<Work&>>);
  return run_promise(env, keep, std::move(work), [](Napi::Env e) { return e.Undefined(); });
}

}  // namespace stillpoint::binding
