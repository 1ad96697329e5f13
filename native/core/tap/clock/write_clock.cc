#include "core/tap/clock/write_clock.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <utility>

#include "core/base/error.h"
#include "core/tap/clock/reservation.h"

namespace stillpoint {

// As it lies in the shared file. Written by its maker before `magic`, but for the two stamps.
struct WriteClock::Word {
  static constexpr uint64_t kMagic = 0x31'44'52'4F'57'43'50'53;  // "SPCWORD1": the version, too
  static constexpr size_t kBootBytes = 40;

  std::atomic<uint64_t> magic;
  Id clock;
  char boot[kBootBytes];
  alignas(64) std::atomic<uint64_t> last;
  alignas(64) std::atomic<uint64_t> reserved;
};

namespace {

constexpr size_t kWordFileBytes = 4096;
static_assert(std::atomic<uint64_t>::is_always_lock_free);
constexpr auto kKeepEvery = std::chrono::seconds(5);
constexpr off_t kMakingByte = 0, kUsersByte = 1;

int64_t steady_now() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

// Locks of open file descriptions: of processes, and of clocks within one. 0 or an errno.
int lock_byte(int fd, off_t byte, short type, bool wait) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  for (;;) {
    if (::fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &lock) == 0) return 0;
    if (errno != EINTR) return errno;
  }
}

}  // namespace

int WriteClock::lock_both(off_t byte, short type, bool wait) const {
  const int error = lock_byte(lock_fd_, byte, type, wait);
  return error == 0 ? lock_byte(word_fd_, byte, type, wait) : error;
}

class WriteClock::Making {
 public:
  explicit Making(const WriteClock& clock)
      : clock_(clock), error_(clock.lock_both(kMakingByte, F_WRLCK, true)) {}
  ~Making() { clock_.lock_both(kMakingByte, F_UNLCK, false); }
  Making(const Making&) = delete;
  Making& operator=(const Making&) = delete;
  int error() const { return error_; }

 private:
  const WriteClock& clock_;
  const int error_;
};

uint64_t WriteClock::system_now() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::max<int64_t>(0, std::chrono::nanoseconds(since).count()));
}

std::string WriteClock::boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  file >> id;
  return id;
}

WriteClock::WriteClock(Options options)
    : now_(std::move(options.now)),
      reservation_(std::move(options.reservation)),
      word_path_(std::move(options.word_path)),
      lock_path_(std::move(options.lock_path)) {
  try {
    if (options.boot.empty() || options.boot.size() >= Word::kBootBytes)
      throw NativeError("argument", "the id of this boot of the machine is unknown");
    lock_fd_ = ::open(lock_path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock_fd_ < 0) throw_errno(errno, "opening it", lock_path_);
    map_word();
    const Making making(*this);
    if (making.error() != 0) throw_errno(making.error(), "locking it", lock_path_);
    join_or_make(options.new_id, options.boot);
    if (const int error = extend(); error != 0)
      throw_errno(error, "reserving stamps of the write clock", reservation_->path());
  } catch (...) {
    if (word_ != nullptr) ::munmap(word_, kWordFileBytes);
    if (word_fd_ >= 0) ::close(word_fd_);
    if (lock_fd_ >= 0) ::close(lock_fd_);
    throw;
  }
}

WriteClock::~WriteClock() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  if (keeper_.joinable()) keeper_.join();
  ::munmap(word_, kWordFileBytes);
  ::close(word_fd_);
  ::close(lock_fd_);
}

void WriteClock::map_word() {
  word_fd_ = ::open(word_path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (word_fd_ < 0) throw_errno(errno, "opening it", word_path_);
  // Its space is there before it is touched: no write to a mapping may fail.
  if (const int error = ::posix_fallocate(word_fd_, 0, kWordFileBytes); error != 0)
    throw_errno(error, "making room in it", word_path_);
  void* const at = ::mmap(nullptr, kWordFileBytes, PROT_READ | PROT_WRITE, MAP_SHARED, word_fd_, 0);
  if (at == MAP_FAILED) throw_errno(errno, "mapping it", word_path_);
  word_ = static_cast<Word*>(at);
}

// Under Making.
void WriteClock::join_or_make(const Id& new_id, const std::string& boot) {
  std::optional<ClockReservation> reserved = read_reservation(*reservation_);
  const bool of_this_boot = word_->magic.load(std::memory_order_acquire) == Word::kMagic &&
                            std::strncmp(word_->boot, boot.c_str(), Word::kBootBytes) == 0;
  const int alone = lock_both(kUsersByte, F_WRLCK, false);
  if (alone != 0 && alone != EAGAIN && alone != EACCES) throw_errno(alone, "locking it", lock_path_);
  if (of_this_boot && (!reserved || reserved->clock == word_->clock)) {
    id_ = word_->clock;
    if (!reserved || reserved->stamp < word_->reserved.load()) {
      reserved = {id_, word_->reserved.load()};
      if (const int error = write_reservation(*reservation_, *reserved); error != 0)
        throw_errno(error, "reserving stamps of the write clock", reservation_->path());
    }
  } else {
    if (alone != 0)
      throw NativeError("EBUSY", "taps use a write clock whose shared file was taken away", word_path_);
    word_->magic.store(0);
    id_ = reserved ? reserved->clock : new_id;
    word_->clock = id_;
    std::memset(word_->boot, 0, sizeof word_->boot);
    std::memcpy(word_->boot, boot.data(), boot.size());
    const uint64_t begin = reserved ? reserved->stamp : 0;
    word_->last.store(begin);
    word_->reserved.store(begin);
    word_->magic.store(Word::kMagic, std::memory_order_release);
  }
  if (const int error = lock_both(kUsersByte, F_RDLCK, false); error != 0)
    throw_errno(error, "locking it", lock_path_);
}

// Under Making.
int WriteClock::extend() {
  const uint64_t from = std::max(now_(), word_->last.load());
  const uint64_t until = std::min(from, std::numeric_limits<uint64_t>::max() / 2) + kReservedAhead;
  if (until - kReservedAhead + kExtendBelow <= word_->reserved.load()) return 0;
  if (const int error = write_reservation(*reservation_, {id_, until}); error != 0) return error;
  word_->reserved.store(until);
  return 0;
}

int WriteClock::keep_ahead() {
  std::lock_guard one(keeping_);
  int error = 0;
  {
    const Making making(*this);
    error = making.error();
    if (error == 0) error = extend();
  }
  std::lock_guard lock(mutex_);
  why_ = error == 0 ? "" : "the write clock's stamps can't be reserved: " + describe_errno(error);
  if (error == 0) late_since_ = 0;
  return error;
}

void WriteClock::start_keeper() {
  keeper_ = std::thread([this] { keep(); });
}

void WriteClock::keep() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    wanted_ = false;
    lock.unlock();
    keep_ahead();
    lock.lock();
    wake_.wait_for(lock, kKeepEvery, [this] { return wanted_ || ending_; });
  }
}

// Whether it has been so for too long.
bool WriteClock::late() {
  int64_t since = 0;
  const int64_t now = steady_now();
  if (!late_since_.compare_exchange_strong(since, now)) return now - since > kLateMax.count();
  std::lock_guard lock(mutex_);
  wanted_ = true;
  wake_.notify_one();
  return false;
}

std::optional<uint64_t> WriteClock::draw() noexcept {
  const uint64_t now = now_();
  uint64_t last = word_->last.load();
  for (;;) {
    const uint64_t reserved = word_->reserved.load();
    uint64_t next = std::max(now, last + 1);
    if (next > reserved) {
      if (late() || last >= reserved) return std::nullopt;
      next = last + 1;
    }
    if (word_->last.compare_exchange_weak(last, next)) return next;
  }
}

uint64_t WriteClock::last() const { return word_->last.load(); }

uint64_t WriteClock::ahead() const {
  const uint64_t now = now_();
  return std::max(now, last()) - now;
}

std::string WriteClock::why() const {
  std::lock_guard lock(mutex_);
  return why_.empty() && late_since_ != 0 ? "the write clock's stamps were not reserved in time" : why_;
}

}  // namespace stillpoint
