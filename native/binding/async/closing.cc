#include "binding/async/closing.h"

#include <exception>
#include <utility>

#include "binding/async/environment.h"
#include "binding/async/operation.h"
#include "binding/values/errors.h"

namespace stillpoint::binding {

Napi::Value close_handle(Napi::Env env, const std::shared_ptr<Gate>& gate,
                         const std::shared_ptr<Closer>& closer, std::function<void()> release) {
  Napi::Promise::Deferred deferred(env);
  if (closer->done) {
    deferred.Resolve(env.Undefined());
    return deferred.Promise();
  }
  closer->waiting.push_back(deferred);
  if (gate->closing()) return deferred.Promise();
  // What is waited for may not hold the loop, as the readers of a scan: the process would end
  // before the handle is closed, and nobody would hear of it.
  Environment::of(env).hold_loop();
  gate->close([env, closer, release = std::move(release)] {
    Environment::of(env).let_loop_go();
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

}  // namespace stillpoint::binding
