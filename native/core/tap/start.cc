#include "core/tap/start.h"

#include <utility>

#include "core/base/error.h"

namespace stillpoint {
namespace {

ChangeMap::Start find_start(TapFile& file, const std::string& identity, const TreeGeometry& geometry,
                            BlockMap& changed) {
  try {
    const MapHeader header = read_map_header(file);
    if (header.identity != identity) return {{}, "the map is of another device"};
    if (!(header.geometry == geometry)) return {{}, "the map is of another size or block size"};
    if (header.points.empty()) return {{}, "the map was void when the tap ended"};
    read_map_blocks(file, changed);
    return {header.points, header.clean ? "the map was written at a clean end"
                                        : "the tap did not end cleanly: the map names whole regions"};
  } catch (const NativeError& error) {
    changed.clear();
    if (error.code() == "truncated") return {{}, "there was no map yet"};
    return {{}, std::string("the map can't be used: ") + error.what()};
  }
}

}  // namespace

std::unique_ptr<ChangeMap> start_change_map(std::unique_ptr<TapFile> file, const std::string& identity,
                                            const TreeGeometry& geometry, const std::string& distrust) {
  auto changed = std::make_unique<BlockMap>(geometry.block_count());
  ChangeMap::Start start{{}, "changes are not remembered between runs"};
  std::unique_ptr<MapFile> map;
  if (file) {
    start =
        distrust.empty() ? find_start(*file, identity, geometry, *changed) : ChangeMap::Start{{}, distrust};
    map = std::make_unique<MapFile>(std::move(file), identity, geometry, start.points, *changed);
  }
  return std::make_unique<ChangeMap>(geometry, std::move(changed), std::move(map), std::move(start));
}

}  // namespace stillpoint
