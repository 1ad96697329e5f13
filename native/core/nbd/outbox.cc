#include "core/nbd/outbox.h"

#include <system_error>

#include "core/nbd/workers.h"

namespace stillpoint {
namespace {

constexpr size_t kPartsMax = 64;

class Parts {
 public:
  // Leaves out what was sent before.
  void add(Bytes bytes, size_t& skip) {
    const size_t skipped = std::min(skip, bytes.size());
    skip -= skipped;
    bytes = bytes.subspan(skipped);
    if (!bytes.empty()) parts_[count_++] = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
  }
  bool full() const { return count_ + 2 > kPartsMax; }
  const iovec* data() const { return parts_; }
  size_t count() const { return count_; }

 private:
  iovec parts_[kPartsMax];
  size_t count_ = 0;
};

size_t length_of(const NbdReply& reply) { return reply.head.size() + reply.body_length; }

}  // namespace

NbdOutbox::~NbdOutbox() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  sender_wake_.notify_one();
  if (sender_.joinable()) sender_.join();
}

void NbdOutbox::post(NbdReply&& reply) {
  Lock lock(mutex_);
  if (dead_) return;
  queue_.push_back(std::move(reply));
  if (sending_) return;  // who has the baton sends it
  sending_ = true;
  if (pump(lock, false)) {
    finish();
  } else {
    pass_baton_to_sender();
  }
}

bool NbdOutbox::send(Bytes head, Bytes body) {
  Lock lock(mutex_);
  take_baton(lock);
  size_t sent = 0;
  while (!dead_ && sent < head.size() + body.size()) {
    lock.unlock();
    Parts parts;
    size_t skip = sent;
    parts.add(head, skip);
    parts.add(body, skip);
    const ssize_t count = transport_.send(parts.data(), parts.count(), true);
    lock.lock();
    if (count <= 0) {
      die();
    } else {
      sent += static_cast<size_t>(count);
    }
  }
  pump(lock, true);
  const bool alive = !dead_;
  finish();
  return alive;
}

void NbdOutbox::drain() {
  Lock lock(mutex_);
  take_baton(lock);
  pump(lock, true);
  finish();
}

void NbdOutbox::take_baton(Lock& lock) {
  baton_free_.wait(lock, [this] { return !sending_; });
  sending_ = true;
}

void NbdOutbox::finish() {
  sending_ = false;
  baton_free_.notify_one();  // only the reader waits
}

// Sends what is queued; the caller has the baton. False: the socket is full, and the caller may not wait.
bool NbdOutbox::pump(Lock& lock, bool may_wait) {
  while (!queue_.empty() && !dead_) {
    Parts parts;
    size_t skip = front_sent_;
    for (auto reply = queue_.begin(); reply != queue_.end() && !parts.full(); ++reply) {
      parts.add(reply->head, skip);
      parts.add(reply->body.first(reply->body_length), skip);
    }
    lock.unlock();
    const ssize_t count = transport_.send(parts.data(), parts.count(), may_wait);
    lock.lock();
    if (count == 0) return false;
    if (count < 0) {
      die();
      break;
    }
    front_sent_ += static_cast<size_t>(count);
    while (!queue_.empty() && front_sent_ >= length_of(queue_.front())) {
      front_sent_ -= length_of(queue_.front());
      queue_.pop_front();
    }
  }
  return true;
}

void NbdOutbox::pass_baton_to_sender() {
  sender_has_baton_ = true;
  if (!sender_.joinable()) {
    try {
      sender_ = std::thread([this] { run_sender(); });
    } catch (const std::system_error&) {
      // Without a thread this client can't be waited for.
      sender_has_baton_ = false;
      die();
      finish();
      return;
    }
  }
  sender_wake_.notify_one();
}

void NbdOutbox::run_sender() {
  block_signals();
  Lock lock(mutex_);
  for (;;) {
    sender_wake_.wait(lock, [this] { return sender_has_baton_ || ending_; });
    if (!sender_has_baton_) return;
    pump(lock, true);
    sender_has_baton_ = false;
    finish();
  }
}

void NbdOutbox::die() {
  dead_ = true;
  queue_.clear();
  front_sent_ = 0;
  transport_.shut();
}

}  // namespace stillpoint
