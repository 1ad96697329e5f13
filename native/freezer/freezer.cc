// stillpoint-freezer: holds file systems frozen for the agent, and thaws them whatever becomes of it.
//
//   stillpoint-freezer DEADLINE_MS MOUNT...    freezes in this order, thaws in reverse
//   stillpoint-freezer --thaw MOUNT...         thaws what is frozen: for the agent, after a freezer was
//   killed
//
// MOUNT is `ID:PATH`, with the mount's id of /proc/self/mountinfo: a path alone could by now show another
// file system.
//
// Lines on stdout; I is the index of a MOUNT, E an errno:
//   freezing I       from here on it may be frozen: flushing is over, the deadline runs
//   unsupported I    this kind of file system can't be frozen; the others are
//   unable E         nothing was touched
//   failed I E       those frozen before are thawed again
//   frozen           all of them
//   thawed REASON    all that were frozen; one still inside of FIFREEZE follows when the kernel returns.
//   intact: frozen until
//                    `thaw` was read from stdin. deadline, signal, closed (stdin ended: the agent died),
//                    failed: what ended it instead. lost: somebody else had thawed one of them.
//   stuck I E        it could not be thawed
//
// Two threads, because FIFREEZE may block in the kernel as long as its storage does, and can't be
// interrupted:
//
//   state of a mount   set by      meaning
//   open               -           not touched
//   freezing           freezer     inside FIFREEZE
//   frozen             freezer     the watchdog thaws it
//   released           both        thawed again, could not be frozen, or not touched before the end
//
// The main thread is the watchdog: it waits for stdin, signals, the deadline, and the freezing thread. When
// it is over it sets `ending`; a FIFREEZE that returns later is thawed by the freezing thread itself. `mutex`
// guards states, `ending` and the order of lines; it is never held in an ioctl.
//
// Between freeze and thaw nothing may wait for a frozen file system: all memory is locked, descriptors are
// open, stdout is a pipe that is never waited for, and nothing is allocated or logged.
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string_view>

namespace {

constexpr int kMountsMax = 256;
constexpr long kDeadlineMsMax = 600'000;
constexpr size_t kStackBytes = 256 * 1024;
constexpr int kExitUsage = 2;

enum class State { open, freezing, frozen, released };

struct Mount {
  int descriptor = -1;
  State state = State::open;
};

std::array<Mount, kMountsMax> mounts;
int mount_count = 0;
std::mutex mutex;
bool ending = false;
int freezing_begun = -1;  // eventfd
int freezing_ended = -1;  // eventfd
bool all_frozen = false;

// The reader may be dead or slow; that must not hold a file system frozen.
void say(const char* event) {
  char line[64];
  const int length = std::snprintf(line, sizeof line, "%s\n", event);
  [[maybe_unused]] const ssize_t written = write(STDOUT_FILENO, line, static_cast<size_t>(length));
}

void say(const char* event, int index) {
  char line[64];
  std::snprintf(line, sizeof line, "%s %d", event, index);
  say(line);
}

void say(const char* event, int index, int error) {
  char line[64];
  std::snprintf(line, sizeof line, "%s %d %d", event, index, error);
  say(line);
}

void wake(int event) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(event, &one, sizeof one);
}

// @returns 0 or an errno; ESTALE if the path does not show the mount with that id. Kernels before 5.8 can't
// tell.
int open_mount(std::string_view argument, int& descriptor) {
  uint64_t id = 0;
  const char* const end = argument.data() + argument.size();
  const auto [rest, error] = std::from_chars(argument.data(), end, id);
  if (error != std::errc{} || rest == end || *rest != ':') return EINVAL;
  // The argument is a string of argv: what is left of it ends with a zero, too.
  descriptor = open(rest + 1, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (descriptor < 0) return errno;
  struct statx status;
  if (statx(descriptor, "", AT_EMPTY_PATH, STATX_MNT_ID, &status) != 0) return errno;
  return (status.stx_mask & STATX_MNT_ID) != 0 && status.stx_mnt_id != id ? ESTALE : 0;
}

// @returns false, and says so, if one can't be opened.
bool open_mounts(char** arguments) {
  for (; arguments[mount_count] != nullptr; ++mount_count) {
    const int error = mount_count == kMountsMax
                          ? E2BIG
                          : open_mount(arguments[mount_count], mounts[mount_count].descriptor);
    if (error == 0) continue;
    say("failed", mount_count, error);
    return false;
  }
  return true;
}

// @returns false if it was not frozen any more.
bool thaw(int index) {
  if (ioctl(mounts[index].descriptor, FITHAW, 0) == 0) return true;
  if (errno != EINVAL) say("stuck", index, errno);
  return false;
}

// @returns whether the freezing goes on.
bool freeze_one(int index) {
  {
    const std::lock_guard lock(mutex);
    if (ending) return false;
    mounts[index].state = State::freezing;
    say("freezing", index);
  }
  const int error = ioctl(mounts[index].descriptor, FIFREEZE, 0) == 0 ? 0 : errno;
  {
    const std::lock_guard lock(mutex);
    mounts[index].state = error == 0 && !ending ? State::frozen : State::released;
    if (error == EOPNOTSUPP) say("unsupported", index);
    if (error != 0 && error != EOPNOTSUPP) say("failed", index, error);
    if (!ending) return error == 0 || error == EOPNOTSUPP;
  }
  if (error == 0) thaw(index);
  return false;
}

void* freeze_all(void*) {
  // What is flushed now need not be flushed while everybody waits.
  for (int i = 0; i < mount_count; ++i) syncfs(mounts[i].descriptor);
  wake(freezing_begun);
  bool going_on = true;
  for (int i = 0; i < mount_count && going_on; ++i) going_on = freeze_one(i);
  {
    const std::lock_guard lock(mutex);
    all_frozen = going_on && !ending;
    if (all_frozen) say("frozen");
  }
  wake(freezing_ended);
  return nullptr;
}

using Clock = std::chrono::steady_clock;

int left_ms(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return left < 0 ? 0 : static_cast<int>(left);
}

// What the agent said; the only word is `thaw`.
const char* read_stdin() {
  char word[8];
  const ssize_t length = read(STDIN_FILENO, word, sizeof word);
  return length == 5 && std::memcmp(word, "thaw\n", 5) == 0 ? "intact" : "closed";
}

// Waits until the freeze has to end. @returns why.
const char* watch(int signals, std::chrono::milliseconds limit) {
  enum { kStdin, kSignals, kBegun, kEnded };
  std::array<pollfd, 4> events{{{STDIN_FILENO, POLLIN, 0},
                                {signals, POLLIN, 0},
                                {freezing_begun, POLLIN, 0},
                                {freezing_ended, POLLIN, 0}}};
  // Flushing has no deadline here: it stops nobody, and the agent has one.
  Clock::time_point deadline = Clock::time_point::max();
  for (;;) {
    const bool running = deadline != Clock::time_point::max();
    const int ready = poll(events.data(), events.size(), running ? left_ms(deadline) : -1);
    if (ready < 0 && errno != EINTR) return "failed";
    if (events[kStdin].revents != 0) {
      const char* const reason = read_stdin();
      // Told before the freeze stood: nothing was intact.
      const std::lock_guard lock(mutex);
      return all_frozen ? reason : "closed";
    }
    if (events[kSignals].revents != 0) return "signal";
    if (ready == 0 || (running && left_ms(deadline) == 0)) return "deadline";
    if (events[kBegun].revents != 0) {
      deadline = Clock::now() + limit;
      events[kBegun].fd = -1;
    }
    if (events[kEnded].revents != 0) {
      events[kEnded].fd = -1;
      const std::lock_guard lock(mutex);
      if (!all_frozen) return "failed";
    }
  }
}

int hold(std::chrono::milliseconds limit) {
  // Nobody who kills the agent's group is to hit its watchdog. Fails where it leads a group already.
  setsid();
  sigset_t ends;
  sigemptyset(&ends);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&ends, signal);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  const int signals = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
  freezing_begun = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  freezing_ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_t freezer;
  if (signals < 0 || freezing_begun < 0 || freezing_ended < 0) return errno;
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return errno;
  if (const int error = pthread_create(&freezer, &attributes, freeze_all, nullptr); error != 0) return error;

  const char* reason = watch(signals, limit);
  {
    const std::lock_guard lock(mutex);
    ending = true;
  }
  for (int i = mount_count - 1; i >= 0; --i) {
    // Only this thread changes the state once `ending` is set, unless it is `freezing`.
    bool mine = false;
    {
      const std::lock_guard lock(mutex);
      mine = mounts[i].state == State::frozen;
      if (mine) mounts[i].state = State::released;
    }
    if (mine && !thaw(i)) reason = "lost";
  }
  char line[32];
  std::snprintf(line, sizeof line, "thawed %s", reason);
  say(line);
  pthread_join(freezer, nullptr);
  return 0;
}

// The kernel kills a process that is short of memory; it had better be another one.
void spare_from_oom_killer() {
  const int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (file < 0) return;
  [[maybe_unused]] const ssize_t written = write(file, "-1000", 5);
  close(file);
}

// Each for itself: one that can't be thawed must not keep the others frozen.
bool thaw_only(char** arguments) {
  bool well = true;
  for (int i = 0; arguments[i] != nullptr; ++i) {
    int descriptor = -1;
    int error = open_mount(arguments[i], descriptor);
    if (error == 0 && ioctl(descriptor, FITHAW, 0) != 0 && errno != EINVAL) error = errno;
    if (error == 0) continue;
    say("stuck", i, error);
    well = false;
  }
  return well;
}

// @returns 0 if that is no deadline.
long parse_deadline(const char* text) {
  long limit_ms = 0;
  const auto [rest, error] = std::from_chars(text, text + std::strlen(text), limit_ms);
  return error == std::errc{} && *rest == '\0' && limit_ms <= kDeadlineMsMax ? std::max(limit_ms, 0L) : 0;
}

}  // namespace

int main(int argc, char** argv) {
  const bool only_thaw = argc > 2 && std::strcmp(argv[1], "--thaw") == 0;
  const long limit_ms = argc > 2 && !only_thaw ? parse_deadline(argv[1]) : 0;
  if (!only_thaw && limit_ms == 0) {
    std::fputs("usage: stillpoint-freezer DEADLINE_MS|--thaw ID:PATH...\n", stderr);
    return kExitUsage;
  }
  std::signal(SIGPIPE, SIG_IGN);
  fcntl(STDOUT_FILENO, F_SETFL, O_NONBLOCK);
  if (only_thaw) return thaw_only(argv + 2) ? EXIT_SUCCESS : EXIT_FAILURE;
  spare_from_oom_killer();
  if (!open_mounts(argv + 2)) return EXIT_FAILURE;
  const int error = hold(std::chrono::milliseconds(limit_ms));
  if (error != 0) say("unable", error);
  return error == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
