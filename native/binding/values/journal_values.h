// Journals of taps, from and to JavaScript. Stamps are decimal digits there: they are more than a number
// holds.
#pragma once

#include <napi.h>

#include "core/tap/tap.h"

namespace stillpoint::binding {

// Nothing: undefined or null.
std::optional<TapJournalOptions> arg_journal_options(const Napi::Value& value);
Napi::Value journal_position(Napi::Env env, const JournalPosition& position);
Napi::Value journal_status(Napi::Env env, const Tap::JournalStatus& status);

}  // namespace stillpoint::binding
