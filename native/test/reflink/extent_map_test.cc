#include "core/reflink/extent_map.h"

#include <fcntl.h>
#include <unistd.h>

#include <vector>

#include "core/reflink/clone.h"
#include "test/helpers/helpers.h"

namespace stillpoint::test {
namespace {

class OpenFile {
 public:
  explicit OpenFile(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    REQUIRE(fd_ >= 0);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() { ::close(fd_); }

  int get() const { return fd_; }
  void write_page(uint64_t page) const {
    const std::vector<uint8_t> bytes(4096, 0x55);
    REQUIRE(::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(page * 4096)) == 4096);
  }

 private:
  int fd_;
};

}  // namespace

TEST_CASE("extent map: each second page of a file, over several questions") {
  const TemporaryDirectory directory;
  const OpenFile file(directory / "file");
  constexpr uint64_t kPages = 3000;
  for (uint64_t i = 0; i < kPages; i++) file.write_page(2 * i);
  REQUIRE(::ftruncate(file.get(), static_cast<off_t>(2 * kPages * 4096)) == 0);
  if (code_of([&] { count_extents(file.get(), ""); }) == "EOPNOTSUPP") {
    MESSAGE("the temporary directory's file system does not tell extents");
    return;
  }
  ExtentMap map(file.get(), "");
  std::vector<bool> found(2 * kPages);
  uint64_t end = 0;
  while (const auto extent = map.next()) {
    REQUIRE(extent->logical >= end);
    end = extent->end();
    for (uint64_t page = extent->logical / 4096; page < extent->end() / 4096; page++) found.at(page) = true;
  }
  for (uint64_t page = 0; page < found.size(); page++) REQUIRE(found[page] == (page % 2 == 0));
  CHECK(map.count() == kPages);
  CHECK(count_extents(file.get(), "") == kPages);

  const auto same = differing_blocks_of(file.get(), file.get(), 2 * kPages * 4096, 4096, "");
  CHECK(same.ranges.empty());
  CHECK(same.extent_count == kPages);
  const OpenFile empty(directory / "empty");
  CHECK(differing_blocks_of(empty.get(), file.get(), 2 * kPages * 4096, 4096, "").ranges.size() == kPages);
  // Nothing is compared behind the size, and a file may have more there.
  CHECK(differing_blocks_of(empty.get(), file.get(), 8192, 4096, "").ranges.size() == 1);
}

TEST_CASE("clones: what is impossible is said by its errno") {
  const TemporaryDirectory directory;
  const OpenFile file(directory / "file");
  const OpenFile other(directory / "other");
  file.write_page(0);
  int closed = ::dup(file.get());
  REQUIRE(::close(closed) == 0);
  CHECK(code_of([&] { clone_file(closed, other.get(), ""); }) == "EBADF");
  CHECK(code_of([&] { count_extents(closed, ""); }) == "EBADF");
  CHECK(code_of([&] { clone_support(closed, ""); }) == "EBADF");
  CHECK(code_of([&] { set_attribute(closed, "user.stillpoint", {}, ""); }) == "EBADF");
  CHECK(code_of([&] { get_attribute(closed, "user.stillpoint", ""); }) == "EBADF");
}

}  // namespace stillpoint::test
