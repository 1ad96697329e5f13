#include "binding/values/tap_status.h"

#include <chrono>

#include "binding/values/buffers.h"
#include "binding/values/journal_values.h"

namespace stillpoint::binding {
namespace {

Napi::Value number(Napi::Env env, uint64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

Napi::Value map_status(Napi::Env env, const TapExport::Status& status) {
  Napi::Object map = Napi::Object::New(env);
  map.Set("pointIds", status.points.empty() ? env.Null() : Napi::Value(hex_list(env, status.points)));
  map.Set("reason", Napi::String::New(env, status.reason));
  map.Set("changedBlocks", number(env, status.changed_blocks));
  map.Set("writtenBlocks", number(env, status.written_blocks));
  map.Set("persistent", Napi::Boolean::New(env, status.persistent));
  return map;
}

Napi::Value hold_status(Napi::Env env, const Snapshot::Status& status) {
  Napi::Object hold = Napi::Object::New(env);
  hold.Set("sessionId", Napi::String::New(env, to_hex(status.session_id)));
  hold.Set("state", Napi::String::New(env, status.state == Snapshot::State::held ? "held" : "invalid"));
  hold.Set("reason", Napi::String::New(env, status.reason));
  hold.Set("neededBlocks", number(env, status.needed_blocks));
  hold.Set("preservedBytes", number(env, status.preserved_bytes));
  hold.Set("preserveMaxBytes", number(env, status.preserve_bytes_max));
  return hold;
}

Napi::Value counters(Napi::Env env, const Tap& tap, const TapExport::Status& status) {
  using std::chrono::duration_cast;
  const NbdCounters& now = tap.counters();
  Napi::Object result = Napi::Object::New(env);
  result.Set("connections", number(env, tap.open_connections()));
  result.Set("reads", number(env, now.reads));
  result.Set("writes", number(env, now.writes));
  result.Set("readBytes", number(env, now.read_bytes));
  result.Set("writtenBytes", number(env, now.written_bytes));
  result.Set("flushes", number(env, now.flushes));
  result.Set("errors", number(env, now.errors));
  const auto stall = duration_cast<std::chrono::microseconds>(status.longest_stall);
  result.Set("longestStallMicroseconds", number(env, static_cast<uint64_t>(stall.count())));
  Napi::Value quiet = env.Null();
  if (status.quiet) {
    const auto ms = duration_cast<std::chrono::milliseconds>(*status.quiet);
    quiet = number(env, static_cast<uint64_t>(ms.count()));
  }
  result.Set("quietMs", quiet);
  return result;
}

}  // namespace

Napi::Array hex_list(Napi::Env env, const std::vector<Id>& ids) {
  Napi::Array list = Napi::Array::New(env, ids.size());
  for (uint32_t i = 0; i < ids.size(); i++) list.Set(i, Napi::String::New(env, to_hex(ids[i])));
  return list;
}

Napi::Value tap_status(Napi::Env env, const Tap& tap) {
  const TapExport::Status status = tap.status();
  Napi::Object result = Napi::Object::New(env);
  result.Set("path", Napi::String::New(env, tap.options().path));
  result.Set("sizeBytes", number(env, tap.geometry().size_bytes));
  result.Set("blockSize", number(env, tap.geometry().block_size));
  result.Set("readOnly", Napi::Boolean::New(env, tap.options().read_only));
  result.Set("map", map_status(env, status));
  result.Set("hold", status.snapshot ? hold_status(env, *status.snapshot) : env.Null());
  result.Set("counters", counters(env, tap, status));
  if (const auto journal = tap.journal_status()) result.Set("journal", journal_status(env, *journal));
  return result;
}

}  // namespace stillpoint::binding
