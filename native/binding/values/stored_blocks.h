// StoredBlocks of src/native/border/batch.ts: blocks as records that lie in pieces of packs.
#pragma once

#include <napi.h>

#include <vector>

#include "binding/async/operation.h"
#include "core/codec/batch.h"

namespace stillpoint::binding {

struct StoredBlocks {
  std::vector<BatchSource> blocks;
  std::vector<RecordSource> records;  // in the runs, which `keep` was given
};

StoredBlocks arg_stored_blocks(const Napi::Object& object, Keep& keep);

}  // namespace stillpoint::binding
