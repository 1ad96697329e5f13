// All steps of a tap's hold at once, as a session of one device takes them.
#pragma once

#include <utility>

#include "core/tap/export.h"

namespace stillpoint::test {

inline TapExport::Hold hold_at_once(TapExport& tap, TapExport::HoldOptions options,
                                    const TapExport::GateLimits& limits = {}) {
  tap.prepare(std::move(options));
  try {
    tap.close_gate(limits);
    return tap.cut();
  } catch (...) {
    tap.abort();
    throw;
  }
}

}  // namespace stillpoint::test
