// The worked example of the patent in docs/design.md section 9, figures 7A and 7B: six locations, two
// snapshots, every structure at every step.
#include <deque>
#include <map>
#include <set>

#include "core/tap/export.h"
#include "core/tap/snapshot/export.h"
#include "test/helpers/helpers.h"
#include "test/helpers/hold_at_once.h"
#include "test/helpers/memory_export.h"
#include "test/helpers/recording_file.h"

namespace stillpoint::test {
namespace {

constexpr uint32_t kBlock = 4096;
constexpr uint64_t kLocations = 6;
const TreeGeometry kGeometry{kLocations * kBlock, kBlock};

// Location n of the figures is block n - 1. Its content is a letter; '.' is what was there at first.
class Example {
 public:
  Example() {
    auto changed = std::make_unique<BlockMap>(kLocations);
    auto map =
        std::make_unique<ChangeMap>(kGeometry, std::move(changed), nullptr, ChangeMap::Start{{base}, ""});
    map_ = map.get();
    tap = std::make_unique<TapExport>(device, kGeometry, std::move(map));
    for (uint64_t i = 1; i <= kLocations; i++)
      REQUIRE(device->write(at(i), block_of('.'), false, Patience::may_wait) == 0);
    receiver = "......";
  }

  void write(int location, char content) {
    REQUIRE(tap->write(at(static_cast<uint64_t>(location)), block_of(content), false, Patience::may_wait) ==
            0);
  }

  void snapshot(uint8_t session) {
    TapExport::HoldOptions options;
    options.base_point = base;
    options.snapshot.session_id.fill(session);
    options.preserve_file = std::make_unique<RecordingFile>(std::make_shared<Recording>());
    options.preserve_bytes_max = kLocations * kBlock;
    hold = hold_at_once(*tap, std::move(options));
    REQUIRE(hold->map_used);
    view = std::make_unique<SnapshotExport>(hold->snapshot);
  }

  // The session reads what the map names, and nothing else.
  std::string ship() {
    std::vector<NbdExtent> extents;
    REQUIRE(view->block_status(1, 0, kGeometry.size_bytes, 100, extents) == 0);
    std::string shipped;
    uint64_t offset = 0;
    std::string buffered = receiver;
    for (const NbdExtent& extent : extents) {
      for (const uint64_t end = offset + extent.byte_length; offset < end; offset += kBlock) {
        std::vector<uint8_t> bytes(kBlock);
        if (extent.flags == 0) {
          REQUIRE(view->read(offset, bytes, Patience::may_wait) == ESHUTDOWN);
          continue;
        }
        REQUIRE(view->read(offset, bytes, Patience::may_wait) == 0);
        REQUIRE(bytes == block_of(static_cast<char>(bytes[0])));
        shipped += std::to_string(offset / kBlock + 1) + static_cast<char>(bytes[0]) + " ";
        buffered[offset / kBlock] = static_cast<char>(bytes[0]);
      }
    }
    capture_buffer = buffered;
    return shipped;
  }

  void commit() {
    const Id session = hold->snapshot->status().session_id;
    tap->commit();
    base = session;
    receiver = capture_buffer;
    hold.reset();
  }

  std::string device_content() const {
    std::string content;
    for (uint64_t i = 1; i <= kLocations; i++) {
      std::vector<uint8_t> bytes(kBlock);
      REQUIRE(device->read(at(i), bytes, Patience::may_wait) == 0);
      content += static_cast<char>(bytes[0]);
    }
    return content;
  }

  std::string snapshot_map() const { return locations(map_->next_cut()); }
  std::string backup_map() const { return locations(map_->backup()); }
  uint64_t preserved() const { return hold->snapshot->status().preserved_bytes / kBlock; }

  std::shared_ptr<MemoryExport> device = std::make_shared<MemoryExport>(kGeometry.size_bytes);
  std::unique_ptr<TapExport> tap;
  std::optional<TapExport::Hold> hold;
  std::unique_ptr<SnapshotExport> view;
  Id base{1};
  std::string receiver;
  std::string capture_buffer;

 private:
  static uint64_t at(uint64_t location) { return (location - 1) * kBlock; }
  static std::vector<uint8_t> block_of(char content) {
    return std::vector<uint8_t>(kBlock, static_cast<uint8_t>(content));
  }
  static std::string locations(const BlockMap& map) {
    std::string text;
    for (uint64_t i = map.next_set(0); i < kLocations; i = map.next_set(i + 1)) text += std::to_string(i + 1);
    return text;
  }

  ChangeMap* map_;
};

}  // namespace

TEST_CASE("patent example: figures 7A and 7B") {
  Example example;
  const auto expect = [&](const char* device, const char* snapshot_map, const char* backup_map,
                          const char* receiver) {
    CHECK(example.device_content() == device);
    CHECK(example.snapshot_map() == snapshot_map);
    CHECK(example.backup_map() == backup_map);
    CHECK(example.receiver == receiver);
  };
  expect("......", "", "", "......");

  example.write(3, 'a');
  example.write(4, 'a');
  expect("..aa..", "34", "", "......");
  example.write(3, 'b');
  example.write(4, 'b');
  example.write(6, 'a');
  expect("..bb.a", "346", "", "......");

  example.snapshot(2);  // T1
  expect("..bb.a", "", "346", "......");
  CHECK(example.preserved() == 0);

  example.write(1, 'a');  // not needed: nothing to preserve
  expect("a.bb.a", "1", "346", "......");
  CHECK(example.preserved() == 0);
  example.write(3, 'c');  // 3b is preserved
  expect("a.cb.a", "13", "346", "......");
  CHECK(example.preserved() == 1);

  CHECK(example.ship() == "3b 4b 6a ");
  expect("a.cb.a", "13", "346", "......");  // all or nothing: still in the capture buffer
  example.commit();
  expect("a.cb.a", "13", "", "..bb.a");

  example.write(1, 'b');
  example.write(4, 'c');
  example.write(6, 'b');
  expect("b.cc.b", "1346", "", "..bb.a");

  example.snapshot(3);  // T2
  expect("b.cc.b", "", "1346", "..bb.a");
  CHECK(example.ship() == "1b 3c 4c 6b ");
  example.commit();
  expect("b.cc.b", "", "", "b.cc.b");
  CHECK(example.receiver == example.device_content());
}

TEST_CASE("patent example: a failed session between T1 and T2 loses nothing") {
  Example example;
  example.write(3, 'b');
  example.snapshot(2);
  example.write(3, 'c');
  example.write(5, 'a');
  CHECK(example.ship() == "3b ");
  example.tap->abort();
  CHECK(example.backup_map() == "3");
  CHECK(example.snapshot_map() == "35");
  example.snapshot(3);
  CHECK(example.ship() == "3c 5a ");
  example.commit();
  CHECK(example.receiver == example.device_content());
}

}  // namespace stillpoint::test
