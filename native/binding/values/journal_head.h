// TapJournalHead of src/native/border/journal.ts.
#pragma once

#include <napi.h>

#include "core/tap/journal/head.h"

namespace stillpoint::binding {

Napi::Object journal_head_object(Napi::Env env, const JournalHead& head);

}  // namespace stillpoint::binding
