// Promises for work on the pool.
#pragma once

#include <napi.h>

#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "binding/async/operation.h"
#include "binding/values/errors.h"

namespace stillpoint::binding {

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
