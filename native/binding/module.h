// Every binding file adds its functions to the exports. Names and shapes: src/native/index.ts.
#pragma once

#include <napi.h>

#include <memory>

namespace stillpoint {
class BlockSource;
class Digester;
class TreeFile;
class LeafOverlay;
class Tracker;
}  // namespace stillpoint

namespace stillpoint::binding {

class Gate;

void init_digest(Napi::Env env, Napi::Object exports);
void init_memory(Napi::Env env, Napi::Object exports);
void init_device(Napi::Env env, Napi::Object exports);
void init_scan(Napi::Env env, Napi::Object exports);
void init_tree(Napi::Env env, Napi::Object exports);
void init_codec(Napi::Env env, Napi::Object exports);
void init_patch(Napi::Env env, Napi::Object exports);
void init_restore(Napi::Env env, Napi::Object exports);
void init_journal(Napi::Env env, Napi::Object exports);
void init_tap(Napi::Env env, Napi::Object exports);
void init_reflink(Napi::Env env, Napi::Object exports);
void init_track(Napi::Env env, Napi::Object exports);
void init_live(Napi::Env env, Napi::Object exports);

// Handles as arguments of other rooms' functions: the core object and the gate that counts its users. Throw
// `argument` for anything else, and `closed`.
template <class Core>
struct Handle {
  std::shared_ptr<Core> core;
  std::shared_ptr<Gate> gate;
};
Napi::Object wrap_digester(Napi::Env env, const Digester& core);
// Valid while the value is referenced: copy it for work on other threads.
const Digester& arg_digester(const Napi::Value& value, const char* name);
// A Device of this source, with what else its kind of source can do.
Napi::Object wrap_device(Napi::Env env, std::shared_ptr<BlockSource> core);
Handle<BlockSource> arg_device(const Napi::Value& value, const char* name);   // A, device.cc
Handle<TreeFile> arg_tree(const Napi::Value& value, const char* name);        // B, tree.cc
Handle<LeafOverlay> arg_overlay(const Napi::Value& value, const char* name);  // B, tree.cc
Handle<Tracker> arg_tracker(const Napi::Value& value, const char* name);      // track.cc

}  // namespace stillpoint::binding
