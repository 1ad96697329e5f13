// stillpoint-freezer: holds file systems frozen for the agent, and thaws them whatever becomes of it.
//
//   stillpoint-freezer DEADLINE_MS [--cut FD]... [--once] MOUNT...
//                                         freezes in this order, thaws in reverse
//   stillpoint-freezer --thaw MOUNT...    thaws what is frozen: for the agent, after a freezer was killed
//
// MOUNT is `ID:PATH`, with the mount's id of /proc/self/mountinfo: a path alone could by now show another
// file system. There may be none, if there is a cut.
//
// A cut (native/core/live/cut.h) reads what was written last of a device, while all are frozen: here, because
// nothing else in this process can wait for a frozen file system. FD is the first of its six descriptors:
// memory for what it reads, the marks done, queued and kept, the device, and the lock on the marks: while
// this process lives nobody else takes marks, whatever has become of the agent. With --once all cuts are
// taken as soon as all is frozen, and it is thawed at once; otherwise when `cut` is read from stdin. What is
// marked before the freeze is read before it, too.
//
// Lines on stdout; I is the index of a MOUNT, E an errno:
//   freezing I       from here on it may be frozen: flushing is over, the deadline runs
//   unsupported I    this kind of file system can't be frozen; the others are
//   unable E         nothing was touched
//   failed I E       those frozen before are thawed again
//   frozen           all of them
//   cut              all cuts were taken; what became of each is in its memory
//   thawed REASON U  all that were frozen, after U microseconds; one still inside of FIFREEZE follows when
//                    the kernel returns. intact: frozen until `thaw` was read from stdin, or the cuts were
//                    taken. deadline, signal, closed (stdin ended: the agent died), failed: what ended it
//                    instead. lost: somebody else had thawed one of them.
//   stuck I E        it could not be thawed
//
// Two threads, and those of the cuts, because FIFREEZE may block in the kernel as long as its storage does,
// and can't be interrupted:
//
//   state of a mount   set by      meaning
//   open               -           not touched
//   freezing           freezer     inside FIFREEZE
//   frozen             freezer     the watchdog thaws it
//   released           both        thawed again, could not be frozen, or not touched before the end
//
// The main thread is the watchdog: it waits for stdin, signals, the deadline, and the freezing thread. When
// it is over it sets `ending`; a FIFREEZE that returns later is thawed by the freezing thread itself. `mutex`
// guards states, `ending` and the order of lines; it is never held in an ioctl. Cuts are taken by the
// freezing thread; one that is still reading when it is over is left incomplete.
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
#include <exception>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "core/live/cut.h"
#include "freezer/arguments.h"

namespace {

using stillpoint::Cut;
using stillpoint::CutArea;
using stillpoint::CutMaps;
using stillpoint::MarkMap;
using stillpoint::UniqueFd;
using stillpoint::freezer::Arguments;
using stillpoint::freezer::parse;

constexpr int kMountsMax = 256;
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
int cuts_wanted = -1;     // eventfd; the freezing thread waits for it
int cuts_ended = -1;      // eventfd
bool all_frozen = false;
std::vector<std::unique_ptr<Cut>> cuts;

// The reader may be dead or slow; that must not hold a file system frozen.
void say(const char* event) {
  char line[64];
  const int length = std::snprintf(line, sizeof line, "%s\n", event);
  [[maybe_unused]] const ssize_t written = write(STDOUT_FILENO, line, static_cast<size_t>(length));
}

void say(const char* event, long index) {
  char line[64];
  std::snprintf(line, sizeof line, "%s %ld", event, index);
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

// When they are wanted, unless that was because it is over.
void take_cuts() {
  uint64_t count = 0;
  while (read(cuts_wanted, &count, sizeof count) < 0 && errno == EINTR) continue;
  {
    const std::lock_guard lock(mutex);
    if (ending) return;
  }
  for (const auto& cut : cuts) cut->run();
  {
    const std::lock_guard lock(mutex);
    if (!ending) say("cut");
  }
  wake(cuts_ended);
}

void* freeze_all(void*) {
  // What is flushed and read now need not be flushed and read while everybody waits.
  for (int i = 0; i < mount_count; ++i) syncfs(mounts[i].descriptor);
  for (const auto& cut : cuts) cut->read_ahead();
  wake(freezing_begun);
  bool going_on = true;
  for (int i = 0; i < mount_count && going_on; ++i) going_on = freeze_one(i);
  {
    const std::lock_guard lock(mutex);
    all_frozen = going_on && !ending;
    if (all_frozen) say("frozen");
  }
  wake(freezing_ended);
  take_cuts();
  return nullptr;
}

using Clock = std::chrono::steady_clock;

int left_ms(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return left < 0 ? 0 : static_cast<int>(left);
}

enum class Word { thaw, cut, nothing };

// What the agent said; `nothing` also where it has died.
Word read_stdin() {
  char word[8];
  const ssize_t length = read(STDIN_FILENO, word, sizeof word);
  if (length == 5 && std::memcmp(word, "thaw\n", 5) == 0) return Word::thaw;
  return length == 4 && std::memcmp(word, "cut\n", 4) == 0 ? Word::cut : Word::nothing;
}

bool is_frozen() {
  const std::lock_guard lock(mutex);
  return all_frozen;
}

// Waits until the freeze has to end. `began` is set when it begins. @returns why.
const char* watch(int signals, std::chrono::milliseconds limit, bool once, Clock::time_point& began) {
  enum { kStdin, kSignals, kBegun, kEnded, kCuts };
  std::array<pollfd, 5> events{{{STDIN_FILENO, POLLIN, 0},
                                {signals, POLLIN, 0},
                                {freezing_begun, POLLIN, 0},
                                {freezing_ended, POLLIN, 0},
                                {cuts_ended, POLLIN, 0}}};
  // Flushing has no deadline here: it stops nobody, and the agent has one.
  Clock::time_point deadline = Clock::time_point::max();
  for (;;) {
    const bool running = deadline != Clock::time_point::max();
    const int ready = poll(events.data(), events.size(), running ? left_ms(deadline) : -1);
    if (ready < 0 && errno != EINTR) return "failed";
    if (events[kStdin].revents != 0) {
      const Word word = read_stdin();
      // Told before the freeze stood: nothing was intact.
      if (word == Word::nothing || !is_frozen()) return "closed";
      if (word == Word::thaw) return "intact";
      wake(cuts_wanted);
    }
    if (events[kSignals].revents != 0) return "signal";
    if (ready == 0 || (running && left_ms(deadline) == 0)) return "deadline";
    if (events[kBegun].revents != 0) {
      began = Clock::now();
      deadline = began + limit;
      events[kBegun].fd = -1;
    }
    if (events[kEnded].revents != 0) {
      events[kEnded].fd = -1;
      if (!is_frozen()) return "failed";
      if (once) wake(cuts_wanted);
    }
    if (events[kCuts].revents != 0) {
      events[kCuts].fd = -1;
      if (once) return "intact";
    }
  }
}

// @returns false if they can't be.
bool prepare_cuts(const std::vector<int>& descriptors) {
  try {
    for (const int first : descriptors) {
      CutArea area = CutArea::open(UniqueFd(first));
      const uint64_t words = area.geometry().word_count();
      CutMaps maps{MarkMap(UniqueFd(first + 1), words), MarkMap(UniqueFd(first + 2), words),
                   MarkMap(UniqueFd(first + 3), words)};
      cuts.push_back(std::make_unique<Cut>(std::move(area), std::move(maps), UniqueFd(first + 4)));
    }
    return true;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return false;
  }
}

int hold(std::chrono::milliseconds limit, const std::vector<int>& cut_descriptors, bool once) {
  // Nobody who kills the agent's group is to hit its watchdog. Fails where it leads a group already.
  setsid();
  sigset_t ends;
  sigemptyset(&ends);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&ends, signal);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  const int signals = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
  freezing_begun = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  freezing_ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  cuts_wanted = eventfd(0, EFD_CLOEXEC);
  cuts_ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

  // Stacks are locked, too: small ones.
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_setattr_default_np(&attributes);
  pthread_t freezer;
  if (signals < 0 || freezing_begun < 0 || freezing_ended < 0 || cuts_wanted < 0 || cuts_ended < 0)
    return errno;
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return errno;
  if (!prepare_cuts(cut_descriptors)) return EINVAL;
  if (const int error = pthread_create(&freezer, nullptr, freeze_all, nullptr); error != 0) return error;

  Clock::time_point began = Clock::now();
  const char* reason = watch(signals, limit, once, began);
  {
    const std::lock_guard lock(mutex);
    ending = true;
  }
  for (const auto& cut : cuts) cut->stop();
  wake(cuts_wanted);
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
  say(line, std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - began).count());
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

}  // namespace

int main(int argc, char** argv) {
  const bool only_thaw = argc > 2 && std::strcmp(argv[1], "--thaw") == 0;
  Arguments arguments;
  if (!only_thaw && !parse(argc, argv, arguments)) {
    std::fputs("usage: stillpoint-freezer DEADLINE_MS|--thaw [--cut FD]... [--once] ID:PATH...\n", stderr);
    return kExitUsage;
  }
  std::signal(SIGPIPE, SIG_IGN);
  fcntl(STDOUT_FILENO, F_SETFL, O_NONBLOCK);
  if (only_thaw) return thaw_only(argv + 2) ? EXIT_SUCCESS : EXIT_FAILURE;
  spare_from_oom_killer();
  if (!open_mounts(arguments.mounts)) return EXIT_FAILURE;
  const int error = hold(std::chrono::milliseconds(arguments.limit_ms), arguments.cuts, arguments.once);
  if (error != 0) say("unable", error);
  // Without destructors: readers of a cut may be in the middle of a read that does not end.
  std::fflush(stderr);
  _exit(error == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}
