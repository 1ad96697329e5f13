#include "binding/async/gate.h"

#include <utility>

#include "core/base/error.h"

namespace stillpoint::binding {

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

}  // namespace stillpoint::binding
