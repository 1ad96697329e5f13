#include "core/cached_view.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "core/sparse_file.h"

namespace stillpoint {
namespace {

// mincore answers a byte per page; this many pages are asked about at once.
constexpr size_t kPagesAtOnce = 512;

// The look in progress on this thread, if any. Touched before any fault, so that the handler finds it
// allocated.
struct Look {
  const uint8_t* begin;
  const uint8_t* end;
  sigjmp_buf escape;
};
thread_local Look* volatile current_look = nullptr;

struct sigaction previous_action;

void handle_bus_error(int signal_number, siginfo_t* info, void* context) {
  Look* const look = current_look;
  const auto* const address = static_cast<const uint8_t*>(info->si_addr);
  if (look != nullptr && address >= look->begin && address < look->end) siglongjmp(look->escape, 1);
  if ((previous_action.sa_flags & SA_SIGINFO) != 0) {
    previous_action.sa_sigaction(signal_number, info, context);
  } else if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(signal_number);
  } else {
    // Returning repeats the access, which then ends the process as it would have without us.
    ::signal(SIGBUS, SIG_DFL);
  }
}

bool install_handler() {
  struct sigaction action {};
  action.sa_sigaction = handle_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  return ::sigaction(SIGBUS, &action, &previous_action) == 0;
}

bool is_resident(uint8_t* begin, uint64_t length) {
  unsigned char resident[kPagesAtOnce];
  for (uint64_t at = 0; at < length; at += kPagesAtOnce * kPageBytes) {
    const uint64_t piece = std::min(length - at, kPagesAtOnce * kPageBytes);
    if (::mincore(begin + at, piece, resident) != 0) return false;
    const uint64_t pages = page_up(piece) / kPageBytes;
    if (!std::all_of(resident, resident + pages, [](unsigned char page) { return (page & 1) != 0; }))
      return false;
  }
  return true;
}

// Apart, with nothing on its stack that the jump could leave half done.
bool look_safely(Look& look, const std::function<void(Bytes)>& call, Bytes bytes) {
  // The mask is saved: the signal is blocked in the handler that jumps.
  if (sigsetjmp(look.escape, 1) != 0) {
    current_look = nullptr;
    return false;
  }
  current_look = &look;
  call(bytes);
  current_look = nullptr;
  return true;
}

}  // namespace

bool look_at_cached_file(int fd, uint64_t byte_offset, uint64_t byte_length,
                         const std::function<void(Bytes)>& look) {
  static const bool is_installed = install_handler();
  if (!is_installed || byte_length == 0) return false;
  const uint64_t begin = byte_offset & ~(kPageBytes - 1);
  const uint64_t length = byte_offset + byte_length - begin;
  void* const mapping = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(begin));
  if (mapping == MAP_FAILED) return false;
  auto* const memory = static_cast<uint8_t*>(mapping);
  bool seen = false;
  if (is_resident(memory, length)) {
    Look state{memory, memory + page_up(length), {}};
    seen = look_safely(state, look, {memory + (byte_offset - begin), byte_length});
  }
  ::munmap(mapping, length);
  return seen;
}

}  // namespace stillpoint
