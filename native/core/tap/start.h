// The start of a tap: whether its map file can be believed, and the map that follows from it.
#pragma once

#include <memory>
#include <string>

#include "core/tap/files/tap_file.h"
#include "core/tap/maps/change_map.h"
#include "core/tree/geometry.h"

namespace stillpoint {

// `file` null: nothing is remembered. `distrust` not empty: what is in it is not to be believed, for this
// reason. A map of another identity or geometry, or a damaged one, is not used either. Errno names if a new
// map can't be written.
std::unique_ptr<ChangeMap> start_change_map(std::unique_ptr<TapFile> file, const std::string& identity,
                                            const TreeGeometry& geometry, const std::string& distrust);

}  // namespace stillpoint
