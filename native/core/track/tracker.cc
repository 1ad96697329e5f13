#include "core/track/tracker.h"

#include <dirent.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "core/base/error.h"

namespace stillpoint {
namespace {

constexpr const char* kBpfRoot = "/sys/fs/bpf";
constexpr uint64_t kMagic = 0x314b434152545053;  // "SPTRACK1"
constexpr unsigned kPrograms = 1 + kCompletionCopies;
constexpr uint64_t kWordBytes = sizeof(uint64_t);
constexpr uint64_t kMetaBytes = 8192;
// In flight at once; a device's queue takes some thousands at most.
constexpr uint32_t kInFlightMax = 65536;

// The BPF file system takes no dots.
std::string partial(const std::string& directory) { return directory + "+part"; }
std::string link_path(const std::string& directory, unsigned i) {
  return directory + "/link" + std::to_string(i);
}
std::string program_path(const std::string& directory, unsigned i) {
  return directory + "/program" + std::to_string(i);
}

bool is_bpf_root() {
  struct statfs status {};
  return statfs(kBpfRoot, &status) == 0 && status.f_type == BPF_FS_MAGIC;
}

// systemd mounts it; others may not.
void need_bpf_root() {
  if (is_bpf_root()) return;
  if (mount("bpf", kBpfRoot, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") == 0) return;
  throw_errno(errno, "mount of the BPF file system", kBpfRoot);
}

// Kernels before 5.11 count maps as locked memory.
void lift_memory_limit() {
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_MEMLOCK, &unlimited);
}

void make_directory(const std::string& path, bool may_exist) {
  if (mkdir(path.c_str(), 0700) == 0 || (may_exist && errno == EEXIST)) return;
  throw_errno(errno, "mkdir", path);
}

void remove_pins(const std::string& directory) {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir(directory.c_str()), closedir);
  if (!entries) {
    if (errno == ENOENT) return;
    throw_errno(errno, "opendir", directory);
  }
  while (const dirent* const entry = readdir(entries.get())) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    const std::string path = std::string(directory).append("/").append(name);
    if (unlink(path.c_str()) != 0) throw_errno(errno, "unlink", path);
  }
  if (rmdir(directory.c_str()) != 0) throw_errno(errno, "rmdir", directory);
}

UniqueFd marks_map(const char* name, const TrackTarget& target) {
  return create_array_map(name, target.word_count() * kWordBytes);
}

void check_target(const TrackTarget& target) {
  const uint32_t grain = target.grain_bytes;
  const bool valid = target.sector_count > 0 && grain >= 4096 && (grain & (grain - 1)) == 0 &&
                     target.sector_count < uint64_t{1} << 53 && target.start_sector < uint64_t{1} << 53 &&
                     target.word_count() * kWordBytes <= uint64_t{1} << 28;
  if (!valid) throw NativeError("argument", "target: sectors and a grain whose marks take up to 256 MiB");
}

[[noreturn]] void broken(const std::string& directory, const std::string& why) {
  throw NativeError("track-broken", why, directory);
}

// With the type of its tracepoint.
std::pair<Program, uint32_t> completion_program(const KernelLayout& layout, const TrackTarget& target,
                                                const TrackMaps& maps, Tracker::DoneAt done_at) {
  if (done_at == Tracker::DoneAt::queued) {
    const TrackMaps wrong{maps.done, maps.done, maps.counters, maps.in_flight};
    return {queue_program(layout, target, wrong), layout.queue_type_id};
  }
  if (target.has_request_queue) return {request_program(layout, target, maps), layout.request_type_id};
  return {bio_program(layout, target, maps), layout.bio_type_id};
}

// EPERM and the like pass; ENOENT means that somebody has removed it.
UniqueFd open_part(const std::string& directory, const std::string& path) {
  try {
    return open_pinned(path);
  } catch (const NativeError& error) {
    if (error.code() == "ENOENT") broken(directory, "a part of it was removed");
    throw;
  }
}

}  // namespace

// In the map of counters; programs write to `counters` alone.
struct Tracker::Meta {
  std::array<uint64_t, kCounters> counters;
  uint64_t magic;
  uint32_t disk_major;
  uint32_t disk_minor;
  uint64_t start_sector;
  uint64_t sector_count;
  uint32_t grain_bytes;
  uint32_t has_request_queue;
  std::array<uint32_t, kPrograms> program_ids;
  Digest record_digest;
  uint32_t record_bytes;  // 0 while it is written
  std::array<uint8_t, kRecordBytesMax> record;
};

Tracker::Tracker(const TrackTarget& target, MarkMap queued, MarkMap done, MarkMap kept, MarkMap meta_map,
                 std::vector<UniqueFd> programs, std::vector<UniqueFd> links)
    : target_(target),
      queued_(std::move(queued)),
      done_(std::move(done)),
      kept_(std::move(kept)),
      meta_(std::move(meta_map)),
      programs_(std::move(programs)),
      links_(std::move(links)) {
  static_assert(sizeof(Meta) <= kMetaBytes);
}

void Tracker::check_support() {
  Btf btf = [] {
    try {
      return Btf::of_kernel();
    } catch (const NativeError& error) {
      if (error.code() != "ENOENT") throw;
      throw NativeError("no-btf", "the kernel was built without a description of its types (BTF)");
    }
  }();
  const KernelLayout layout = KernelLayout::of(btf);
  need_bpf_root();
  lift_memory_limit();
  try {
    Assembler code;
    code.move(Reg::r0, 0);
    code.exit();
    const Program program = code.finish();
    load_program({"stillpoint_try", layout.queue_type_id, program});
  } catch (const NativeError& error) {
    if (error.code() != "ENOSYS") throw;
    throw NativeError("no-bpf", "the kernel was built without bpf(2)");
  }
}

Tracker Tracker::attach(const std::string& directory, const TrackTarget& target, DoneAt done_at) {
  check_target(target);
  check_support();
  const KernelLayout layout = KernelLayout::of(Btf::of_kernel());
  const std::string making = partial(directory);
  make_directory(directory.substr(0, directory.rfind('/')), true);
  struct stat status {};
  if (stat(directory.c_str(), &status) == 0) throw_errno(EEXIST, "attach", directory);
  remove_pins(making);
  make_directory(making, false);
  try {
    const auto pinned = [&](UniqueFd map, const char* name) {
      pin_object(map, making + "/" + name);
      return map;
    };
    MarkMap queued(pinned(marks_map("stillpoint_q", target), "queued"), target.word_count());
    MarkMap done(pinned(marks_map("stillpoint_d", target), "done"), target.word_count());
    MarkMap kept(pinned(marks_map("stillpoint_k", target), "kept"), target.word_count());
    MarkMap meta_map(pinned(create_array_map("stillpoint_m", kMetaBytes), "meta"), kMetaBytes / kWordBytes);
    const UniqueFd in_flight =
        target.has_request_queue
            ? UniqueFd()
            : create_hash_map("stillpoint_f", sizeof(uint64_t), sizeof(InFlightRange), kInFlightMax);
    const TrackMaps maps{queued.fd(), done.fd(), meta_map.fd(), in_flight.get()};
    const Program queue = queue_program(layout, target, maps);
    const auto [completion, completion_id] = completion_program(layout, target, maps, done_at);
    std::vector<UniqueFd> programs;
    Tracker tracker(target, std::move(queued), std::move(done), std::move(kept), std::move(meta_map), {}, {});
    for (unsigned i = 0; i < kPrograms; i++) {
      programs.push_back(i == 0 ? load_program({"stillpoint_q", layout.queue_type_id, queue})
                                : load_program({"stillpoint_d", completion_id, completion}));
      tracker.meta().program_ids[i] = program_info(programs.back()).id;
      pin_object(programs.back(), program_path(making, i));
    }
    // The completions first: a write that is seen when it is queued must be seen when it ends.
    for (unsigned i = kPrograms; i-- > 0;) {
      tracker.links_.push_back(attach_program(programs[i]));
      pin_object(tracker.links_.back(), link_path(making, i));
    }
    Meta& meta = tracker.meta();
    meta.disk_major = target.disk_major;
    meta.disk_minor = target.disk_minor;
    meta.start_sector = target.start_sector;
    meta.sector_count = target.sector_count;
    meta.grain_bytes = target.grain_bytes;
    meta.has_request_queue = target.has_request_queue ? 1 : 0;
    meta.magic = kMagic;
    tracker.programs_ = std::move(programs);
    if (rename(making.c_str(), directory.c_str()) != 0) throw_errno(errno, "rename", making);
    return tracker;
  } catch (...) {
    remove_pins(making);
    throw;
  }
}

Tracker Tracker::open(const std::string& directory) {
  struct stat status {};
  if (stat(directory.c_str(), &status) != 0) throw_errno(errno, "stat", directory);
  MarkMap meta_map(open_part(directory, directory + "/meta"), kMetaBytes / kWordBytes);
  TrackTarget target{};
  std::vector<UniqueFd> programs;
  std::vector<UniqueFd> links;
  {
    // Only to read it: the tracker takes the map over.
    std::array<uint8_t, sizeof(Meta)> bytes{};
    for (uint64_t word = 0; word < sizeof(Meta) / kWordBytes; word++) {
      const uint64_t value = meta_map.load(word);
      std::memcpy(&bytes[word * kWordBytes], &value, kWordBytes);
    }
    Meta meta{};
    std::memcpy(&meta, bytes.data(), sizeof meta);
    if (meta.magic != kMagic) broken(directory, "it is from another release, or was never complete");
    target = {meta.disk_major,   meta.disk_minor,  meta.start_sector,
              meta.sector_count, meta.grain_bytes, meta.has_request_queue != 0};
    check_target(target);
    for (unsigned i = 0; i < kPrograms; i++) {
      programs.push_back(open_part(directory, program_path(directory, i)));
      links.push_back(open_part(directory, link_path(directory, i)));
      const uint32_t expected = meta.program_ids[i];
      if (program_info(programs.back()).id != expected || linked_program_id(links.back()) != expected) {
        broken(directory, "a part of it was replaced");
      }
    }
  }
  const auto marks = [&](const char* name) {
    return MarkMap(open_part(directory, directory + "/" + name), target.word_count());
  };
  return Tracker(target, marks("queued"), marks("done"), marks("kept"), std::move(meta_map),
                 std::move(programs), std::move(links));
}

void Tracker::detach(const std::string& directory) {
  // In one step, so that half of it is never taken for a tracker.
  const std::string leaving = partial(directory);
  remove_pins(leaving);
  if (rename(directory.c_str(), leaving.c_str()) != 0) {
    if (errno == ENOENT) return;
    throw_errno(errno, "rename", directory);
  }
  remove_pins(leaving);
}

Tracker::Meta& Tracker::meta() const { return *reinterpret_cast<Meta*>(meta_.data()); }

Tracker::Counters Tracker::counters() const {
  Counters counters{meta_.load(kPassedThrough), meta_.load(kNotNoted), 0, ~uint64_t{0}, 0};
  for (size_t i = 0; i < programs_.size(); i++) {
    const ProgramInfo info = program_info(programs_[i]);
    counters.run_ns += info.run_ns;
    if (i == 0) {
      counters.queue_misses = info.recursion_misses;
    } else {
      counters.completion_misses = std::min(counters.completion_misses, info.recursion_misses);
    }
  }
  return counters;
}

std::optional<std::vector<uint8_t>> Tracker::record() const {
  const Meta& meta = this->meta();
  if (meta.record_bytes == 0 || meta.record_bytes > kRecordBytesMax) return std::nullopt;
  std::vector<uint8_t> bytes(meta.record.begin(), meta.record.begin() + meta.record_bytes);
  if (checksum({bytes}) != meta.record_digest) return std::nullopt;
  return bytes;
}

void Tracker::write_record(Bytes bytes) {
  if (bytes.empty() || bytes.size() > kRecordBytesMax) {
    throw NativeError("argument", "record: from 1 to " + std::to_string(kRecordBytesMax) + " bytes");
  }
  Meta& meta = this->meta();
  std::atomic_ref(meta.record_bytes).store(0);
  meta.record_digest = checksum({bytes});
  std::copy(bytes.begin(), bytes.end(), meta.record.begin());
  std::atomic_ref(meta.record_bytes).store(static_cast<uint32_t>(bytes.size()));
}

void Tracker::mark(uint64_t byte_begin, uint64_t byte_end) {
  const uint64_t grain_end =
      std::min((byte_end + target_.grain_bytes - 1) / target_.grain_bytes, target_.grain_count());
  for (uint64_t grain = byte_begin / target_.grain_bytes; grain < grain_end; grain++) {
    kept_.set(grain / MarkMap::kGrainsPerWord, uint64_t{1} << grain % MarkMap::kGrainsPerWord);
  }
}

uint64_t Tracker::marked_grains() const {
  uint64_t count = 0;
  for (uint64_t word = 0; word < done_.word_count(); word++) {
    count += static_cast<uint64_t>(std::popcount(done_.load(word) | queued_.load(word) | kept_.load(word)));
  }
  return count;
}

uint64_t Tracker::memory_bytes() const {
  const uint64_t marks = 3 * target_.word_count() * kWordBytes;
  return marks + kMetaBytes + (target_.has_request_queue ? 0 : kInFlightMax * 64);
}

}  // namespace stillpoint
