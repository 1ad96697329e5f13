#include "core/tap/start.h"

#include <utility>

#include "core/base/error.h"

namespace stillpoint {
namespace {

struct Found {
  ChangeMap::Start start;
  bool clean = false;
  Id journal{};
};

Found find_map(TapFile& file, const std::string& identity, const TreeGeometry& geometry, BlockMap& changed) {
  try {
    const MapHeader header = read_map_header(file);
    if (header.identity != identity) return {{{}, "the map is of another device"}};
    if (!(header.geometry == geometry)) return {{{}, "the map is of another size or block size"}};
    if (header.points.empty()) return {{{}, "the map was void when the tap ended"}};
    read_map_blocks(file, changed);
    const char* const reason = header.clean ? "the map was written at a clean end"
                                            : "the tap did not end cleanly: the map names whole regions";
    return {{header.points, reason}, header.clean, header.journal};
  } catch (const NativeError& error) {
    changed.clear();
    if (error.code() == "truncated") return {{{}, "there was no map yet"}};
    return {{{}, std::string("the map can't be used: ") + error.what()}};
  }
}

std::string why_no_journal(const Found& found) {
  if (found.start.points.empty()) return found.start.reason;
  return found.clean ? "" : "the tap did not end cleanly";
}

}  // namespace

TapStart start_maps(std::unique_ptr<TapFile> file, const std::string& identity, const TreeGeometry& geometry,
                    const std::string& distrust) {
  auto changed = std::make_unique<BlockMap>(geometry.block_count());
  Found found{{{}, "changes are not remembered between runs"}};
  std::unique_ptr<MapFile> map;
  if (file) {
    found = distrust.empty() ? find_map(*file, identity, geometry, *changed) : Found{{{}, distrust}};
    map = std::make_unique<MapFile>(std::move(file), identity, geometry, found.start.points, *changed);
  }
  TapStart start{nullptr, found.journal, why_no_journal(found)};
  start.map =
      std::make_unique<ChangeMap>(geometry, std::move(changed), std::move(map), std::move(found.start));
  return start;
}

}  // namespace stillpoint
