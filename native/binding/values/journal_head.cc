#include "binding/values/journal_head.h"

#include <string>

#include "binding/values/buffers.h"

namespace stillpoint::binding {

Napi::Object journal_head_object(Napi::Env env, const JournalHead& head) {
  const char* const state = head.state == JournalHead::State::open     ? "open"
                            : head.state == JournalHead::State::broken ? "broken"
                                                                       : "closed";
  Napi::Object object = Napi::Object::New(env);
  const auto number = [&](const char* name, uint64_t value) {
    object.Set(name, Napi::Number::New(env, static_cast<double>(value)));
  };
  object.Set("journalId", to_hex(head.journal));
  object.Set("clockId", to_hex(head.clock));
  object.Set("state", state);
  number("ordinal", head.ordinal);
  object.Set("stamp", std::to_string(head.stamp));
  number("segment", head.segment);
  number("recordOffset", head.record_offset);
  number("endOffset", head.end_offset);
  number("oldestSegment", head.oldest_segment);
  number("lastOrdinal", head.last_ordinal);
  object.Set("brokenStamp", std::to_string(head.broken_stamp));
  object.Set("reason", head.reason);
  return object;
}

}  // namespace stillpoint::binding
