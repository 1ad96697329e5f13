#include "core/tap/journal/spool_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string_view>

#include "core/base/error.h"

namespace stillpoint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSegmentSuffix = ".segment";
constexpr char kClosedName[] = "closed";

std::optional<Id> id_of(const std::string& name) {
  Id id;
  if (name.size() != 2 * id.size()) return std::nullopt;
  for (size_t i = 0; i < id.size(); i++) {
    const char* const at = name.data() + 2 * i;
    const auto [end, error] = std::from_chars(at, at + 2, id[i], 16);
    if (error != std::errc() || end != at + 2) return std::nullopt;
  }
  return journal_name(id) == name ? std::optional(id) : std::nullopt;
}

std::optional<uint64_t> segment_of(std::string_view name) {
  if (!name.ends_with(kSegmentSuffix)) return std::nullopt;
  name.remove_suffix(kSegmentSuffix.size());
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return number;
}

std::string segment_name(uint64_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "%010llu", static_cast<unsigned long long>(number));
  return name + std::string(kSegmentSuffix);
}

void make_directory(const fs::path& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) throw_errno(errno, "making it", path);
}

class PosixSpoolFiles final : public SpoolFiles {
 public:
  // `lock_fd` -1: it is not locked.
  PosixSpoolFiles(fs::path directory, int lock_fd) : directory_(std::move(directory)), lock_fd_(lock_fd) {}
  ~PosixSpoolFiles() override {
    if (lock_fd_ >= 0) ::close(lock_fd_);
  }

  std::vector<Id> journals() override {
    std::vector<Id> ids;
    each(directory_, [&](const fs::directory_entry& entry) {
      const auto id = id_of(entry.path().filename());
      if (id && entry.is_directory()) ids.push_back(*id);
    });
    return ids;
  }

  void make_journal(const Id& journal) override { make_directory(of(journal)); }

  void remove_journal(const Id& journal) override {
    std::error_code error;
    fs::remove_all(of(journal), error);
    if (error) throw_errno(error.value(), "removing it", of(journal));
  }

  std::vector<Segment> segments(const Id& journal) override {
    std::vector<Segment> found;
    each(of(journal), [&](const fs::directory_entry& entry) {
      const auto number = segment_of(entry.path().filename().string());
      if (number) found.push_back({*number, entry.file_size()});
    });
    std::sort(found.begin(), found.end(),
              [](const Segment& a, const Segment& b) { return a.number < b.number; });
    return found;
  }

  std::unique_ptr<TapFile> make_segment(const Id& journal, uint64_t number) override {
    return TapFile::make(of(journal) / segment_name(number));
  }
  std::unique_ptr<TapFile> open_segment(const Id& journal, uint64_t number) override {
    return TapFile::open_existing(of(journal) / segment_name(number));
  }
  void remove_segment(const Id& journal, uint64_t number) override {
    remove_file(of(journal) / segment_name(number));
  }
  std::unique_ptr<TapFile> open_closed(const Id& journal) override {
    return TapFile::open_existing(of(journal) / kClosedName);
  }
  std::unique_ptr<TapFile> make_closed(const Id& journal) override {
    return TapFile::open_named(of(journal) / kClosedName);
  }
  void remove_closed(const Id& journal) override {
    remove_file(of(journal) / kClosedName);
    const int fd = ::open(of(journal).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) throw_errno(errno, "opening it", of(journal));
    const int error = ::fsync(fd) == 0 ? 0 : errno;
    ::close(fd);
    if (error != 0) throw_errno(error, "syncing it", of(journal));
  }

 private:
  static void remove_file(const fs::path& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) throw_errno(errno, "removing it", path);
  }
  fs::path of(const Id& journal) const { return directory_ / journal_name(journal); }

  template <class Work>
  static void each(const fs::path& directory, Work work) {
    try {
      for (const fs::directory_entry& entry : fs::directory_iterator(directory)) work(entry);
    } catch (const fs::filesystem_error& error) {
      throw_errno(error.code().value(), "reading it", directory);
    }
  }

  const fs::path directory_;
  const int lock_fd_;
};

}  // namespace

std::string journal_name(const Id& id) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string name;
  for (const uint8_t byte : id) {
    name += kDigits[byte >> 4];
    name += kDigits[byte & 15];
  }
  return name;
}

std::unique_ptr<SpoolFiles> SpoolFiles::at(const std::string& directory) {
  make_directory(directory);
  return std::make_unique<PosixSpoolFiles>(directory, -1);
}

std::unique_ptr<SpoolFiles> SpoolFiles::own(const std::string& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) throw_errno(errno, "opening the spool's directory", directory);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    ::close(fd);
    if (error == EWOULDBLOCK) throw NativeError("EBUSY", "another tap has its spool there", directory);
    throw_errno(error, "locking the spool's directory", directory);
  }
  return std::make_unique<PosixSpoolFiles>(directory, fd);
}

}  // namespace stillpoint
