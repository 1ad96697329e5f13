#include "core/device/cached_view.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "core/base/sparse_file.h"

namespace stillpoint {
namespace {

// mincore answers a byte per page; this many pages are asked about at once.
constexpr size_t kPagesAtOnce = 512;
// Large enough that mapping costs nothing, small enough for its page tables to be nothing either.
constexpr uint64_t kWindowBytes = uint64_t{64} << 20;
// Of the largest pages that the kernel may map.
constexpr uint64_t kWindowAlignment = uint64_t{2} << 20;
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // Linux 5.14; an older kernel refuses it, which does no harm
#endif

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

class CachedView::Window {
 public:
  Window(int fd, uint64_t begin, uint64_t length)
      : begin_(begin),
        length_(length),
        memory_(::mmap(nullptr, length, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(begin))) {}
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;
  ~Window() {
    if (is_mapped()) ::munmap(memory_, length_);
  }

  bool is_mapped() const { return memory_ != MAP_FAILED; }
  bool covers(uint64_t begin, uint64_t end) const { return begin_ <= begin && end <= begin_ + length_; }
  uint8_t* at(uint64_t byte_offset) const { return static_cast<uint8_t*>(memory_) + (byte_offset - begin_); }

 private:
  const uint64_t begin_;
  const uint64_t length_;
  void* const memory_;
};

std::shared_ptr<const CachedView::Window> CachedView::window_over(int fd, uint64_t begin, uint64_t end) {
  std::shared_ptr<const Window> window;
  const std::lock_guard lock(mutex_);
  if (window_ && window_->covers(begin, end)) return window_;
  const uint64_t from = begin / kWindowAlignment * kWindowAlignment;
  window = std::make_shared<const Window>(fd, from, page_up(std::max(kWindowBytes, end - from)));
  if (!window->is_mapped()) return nullptr;
  window_.swap(window);
  return window_;
}

bool CachedView::look(int fd, uint64_t byte_offset, uint64_t byte_length,
                      const std::function<void(Bytes)>& look) {
  static const bool is_installed = install_handler();
  if (!is_installed || byte_length == 0) return false;
  const auto window = window_over(fd, byte_offset, byte_offset + byte_length);
  if (!window) return false;
  const uint64_t begin = byte_offset & ~(kPageBytes - 1);
  const uint64_t length = page_up(byte_offset + byte_length - begin);
  uint8_t* const memory = window->at(begin);
  if (!is_resident(memory, length)) return false;
  // All at once costs half of what a fault for each few pages does.
  ::madvise(memory, length, MADV_POPULATE_READ);
  Look state{memory, memory + length, {}};
  return look_safely(state, look, {window->at(byte_offset), byte_length});
}

}  // namespace stillpoint
