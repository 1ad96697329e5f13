#include "binding/values/journal_values.h"

#include <chrono>

#include "binding/values/arguments.h"
#include "binding/values/buffers.h"
#include "binding/values/journal_head.h"

namespace stillpoint::binding {
namespace {

Napi::Value number(Napi::Env env, uint64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

Napi::Value stamp(Napi::Env env, uint64_t value) { return Napi::String::New(env, std::to_string(value)); }

}  // namespace

std::optional<TapJournalOptions> arg_journal_options(const Napi::Value& value) {
  if (value.IsUndefined() || value.IsNull()) return std::nullopt;
  const Napi::Object given = arg_object(value, "journal");
  const Napi::Object clock = arg_object(given.Get("clock"), "journal.clock");
  TapJournalOptions options;
  options.directory = arg_string(given.Get("directory"), "journal.directory");
  options.head_directory = arg_string(given.Get("headDirectory"), "journal.headDirectory");
  options.bytes_max = arg_uint(given.Get("maxBytes"), "journal.maxBytes");
  options.clock_word_path = arg_string(clock.Get("wordPath"), "journal.clock.wordPath");
  options.clock_lock_path = arg_string(clock.Get("lockPath"), "journal.clock.lockPath");
  options.clock_reservation_path = arg_string(clock.Get("reservationPath"), "journal.clock.reservationPath");
  return options;
}

Napi::Value journal_position(Napi::Env env, const JournalPosition& position) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("journalId", Napi::String::New(env, to_hex(position.journal)));
  result.Set("clockId", Napi::String::New(env, to_hex(position.clock)));
  result.Set("ordinal", number(env, position.ordinal));
  result.Set("stamp", stamp(env, position.stamp));
  return result;
}

Napi::Value journal_status(Napi::Env env, const Tap::JournalStatus& status) {
  Napi::Array heads = Napi::Array::New(env, status.heads.size());
  for (uint32_t i = 0; i < status.heads.size(); i++) heads.Set(i, journal_head_object(env, status.heads[i]));
  Napi::Object result = Napi::Object::New(env);
  result.Set("heads", heads);
  result.Set("failure", Napi::String::New(env, status.failure));
  const auto ahead = std::chrono::duration_cast<std::chrono::milliseconds>(status.ahead);
  result.Set("aheadMs", number(env, static_cast<uint64_t>(ahead.count())));
  return result;
}

}  // namespace stillpoint::binding
