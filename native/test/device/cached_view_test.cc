#include "core/device/cached_view.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "core/device/block_device.h"
#include "test/helpers/helpers.h"

using namespace stillpoint;
using namespace stillpoint::test;

namespace {

// A file of random bytes, in the page cache, and open.
struct CachedFile {
  TemporaryDirectory directory;
  std::vector<uint8_t> content;
  int fd;
  mutable CachedView view;

  explicit CachedFile(size_t size) : content(Random(size).bytes(size)) {
    fd = ::open((directory / "file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(::pwrite(fd, content.data(), size, 0) == static_cast<ssize_t>(size));
  }
  CachedFile(const CachedFile&) = delete;
  CachedFile& operator=(const CachedFile&) = delete;
  ~CachedFile() { ::close(fd); }
};

// Cuts the file short while it is looked at, then touches what is gone.
bool look_at_lost_page(const CachedFile& file, bool& went_on) {
  return file.view.look(file.fd, 0, file.content.size(), [&](Bytes bytes) {
    if (::ftruncate(file.fd, 100) != 0) return;
    went_on = checksum(bytes) != kNullDigest;
  });
}

}  // namespace

TEST_CASE("a look sees what a read gives, wherever the range begins and ends") {
  const CachedFile file(3'000'001);
  for (const auto& [offset, length] : std::vector<std::pair<size_t, size_t>>{
           {0, 3'000'001}, {4096, 8192}, {1, 1}, {4095, 2}, {2'999'999, 2}, {123'456, 2'345'678}}) {
    Digest digest{};
    REQUIRE(file.view.look(file.fd, offset, length, [&digest](Bytes bytes) { digest = checksum(bytes); }));
    CHECK(digest == checksum(Bytes(file.content).subspan(offset, length)));
  }
  CHECK_FALSE(file.view.look(file.fd, 0, 0, [](Bytes) { FAIL("nothing to see"); }));
}

TEST_CASE("looks far apart, and across the end of a window, see what a read gives") {
  const CachedFile file(100'000'000);
  for (const size_t offset : {0, 67'000'000, 99'000'000, 67'108'000, 1'000'000}) {
    const size_t length = 1'000'000;
    Digest digest{};
    REQUIRE(file.view.look(file.fd, offset, length, [&digest](Bytes bytes) { digest = checksum(bytes); }));
    CHECK(digest == checksum(Bytes(file.content).subspan(offset, length)));
  }
}

TEST_CASE("what is not in the page cache is not looked at: holes, pipes, direct devices") {
  const CachedFile file(8192);
  REQUIRE(::ftruncate(file.fd, 1 << 20) == 0);
  const auto never = [](Bytes) { FAIL("not in the page cache"); };
  CHECK_FALSE(file.view.look(file.fd, 0, 1 << 20, never));
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  CHECK_FALSE(CachedView().look(ends[0], 0, 4096, never));
  ::close(ends[0]);
  ::close(ends[1]);
  const auto device = BlockDevice::open(file.directory / "file", {});
  CHECK(device->look_at_cached(0, 8192, [](Bytes) {}));
  CHECK(code_of([&] { device->look_at_cached(0, (1 << 20) + 1, never); }) == "argument");
}

TEST_CASE("a page that is lost during a look is a look that failed, not the end of the process") {
  std::vector<std::thread> threads;
  threads.reserve(4);
  std::atomic<int> survived{0};
  for (int i = 0; i < 4; i++) {
    threads.emplace_back([&] {
      for (int round = 0; round < 5; round++) {
        const CachedFile file(1 << 20);
        bool went_on = false;
        if (!look_at_lost_page(file, went_on) && !went_on) survived++;
        // The thread can look again.
        REQUIRE(::pwrite(file.fd, file.content.data(), 8192, 0) == 8192);
        Digest digest{};
        REQUIRE(file.view.look(file.fd, 0, 8192, [&digest](Bytes bytes) { digest = checksum(bytes); }));
        REQUIRE(digest == checksum(Bytes(file.content).first(8192)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(survived == 20);
}

TEST_CASE("a bus error of somebody else still ends the process") {
  const CachedFile file(8192);
  bool went_on = false;
  look_at_lost_page(file, went_on);  // the handler is there
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(STDERR_FILENO);
    const void* const mapping = ::mmap(nullptr, 8192, PROT_READ, MAP_SHARED, file.fd, 0);
    const volatile uint8_t* const bytes = static_cast<const uint8_t*>(mapping);
    (void)bytes[4096];
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK((WIFSIGNALED(status) || WEXITSTATUS(status) != 0));
}
