#include "core/nbd/workers.h"

#include <pthread.h>
#include <signal.h>

#include <system_error>

namespace stillpoint {

void block_signals() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

NbdWorkers::~NbdWorkers() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void NbdWorkers::submit(std::unique_ptr<Work> work) {
  std::unique_lock lock(mutex_);
  // The queue may hold what idle threads have been woken for and not yet taken.
  if (idle_ <= queue_.size() && threads_.size() < threads_max_) {
    try {
      threads_.emplace_back([this] { run(); });
    } catch (const std::system_error&) {
    }
  }
  if (threads_.empty()) {
    lock.unlock();
    work->run();
    return;
  }
  queue_.push_back(std::move(work));
  lock.unlock();
  wake_.notify_one();
}

void NbdWorkers::run() {
  block_signals();
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    wake_.wait(lock, [this] { return !queue_.empty() || ending_; });
    --idle_;
    if (queue_.empty()) return;
    std::unique_ptr<Work> work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    work->run();
    work.reset();
    lock.lock();
  }
}

}  // namespace stillpoint
