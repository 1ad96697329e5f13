// The process's pool for native work: codecs, tree files, device calls. Scans have their own reader threads.
//
// Locking: one mutex guards the queue. The pool lives as long as the process and is never destroyed:
// process.exit() runs static destructors while its threads may still work.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>

namespace stillpoint {

class ThreadPool {
 public:
  static ThreadPool& shared();

  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  size_t thread_count() const { return thread_count_; }

  // `task` must not throw. May be called from any thread.
  void submit(std::function<void()> task);

  // Calls work(0) ... work(count - 1) on the calling thread and idle threads of the pool; returns when all
  // are done. Rethrows the first exception; the rest is then skipped. Safe inside a task of the pool: the
  // caller works too and never waits for tasks that have not started.
  void parallel_for(size_t count, const std::function<void(size_t)>& work);

 private:
  explicit ThreadPool(size_t thread_count);
  void run();

  size_t thread_count_ = 0;  // as many as could be started
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
};

}  // namespace stillpoint
