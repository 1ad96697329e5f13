// The start of a tap: whether its map file can be believed, and the map and the journal that follow from it.
#pragma once

#include <memory>
#include <string>

#include "core/tap/files/tap_file.h"
#include "core/tap/maps/change_map.h"
#include "core/tree/geometry.h"

namespace stillpoint {

struct TapStart {
  std::unique_ptr<ChangeMap> map;
  // The journal that may go on: it has all writes up to the clean end of a map that counts. Zeros: none, or
  // the tap had none.
  Id journal{};
  std::string no_journal;  // not empty: none may, whichever it was, and why
};

// `file` null: nothing is remembered. `distrust` not empty: what is in it is not to be believed, for this
// reason. A map of another identity or geometry, or a damaged one, is not used either. Errno names if a new
// map can't be written.
TapStart start_maps(std::unique_ptr<TapFile> file, const std::string& identity, const TreeGeometry& geometry,
                    const std::string& distrust);

}  // namespace stillpoint
