#include "core/base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "core/base/error.h"

namespace stillpoint {
namespace {

// Some tasks wait for disks, so a small machine gets more threads than cores.
constexpr size_t kThreadsMin = 4;

}  // namespace

ThreadPool& ThreadPool::shared() {
  static ThreadPool* const pool =
      new ThreadPool(std::max<size_t>(kThreadsMin, std::thread::hardware_concurrency()));
  return *pool;
}

ThreadPool::ThreadPool(size_t thread_count) {
  for (; thread_count_ < thread_count; thread_count_++) {
    try {
      std::thread([this] { run(); }).detach();
    } catch (const std::system_error&) {
      // Fewer threads do as well; none don't.
      if (thread_count_ == 0) throw NativeError("EAGAIN", "no thread could be started");
      return;
    }
  }
}

void ThreadPool::submit(std::function<void()> task) {
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(task));
  }
  wake_.notify_one();
}

void ThreadPool::run() {
  for (;;) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return !queue_.empty(); });
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task();
  }
}

void ThreadPool::parallel_for(size_t count, const std::function<void(size_t)>& work) {
  // Shared with helpers that may start after the caller has returned: they then find no index left and touch
  // only this.
  struct Shared {
    const std::function<void(size_t)>* work;
    size_t count;
    std::atomic<size_t> next{0};
    std::mutex mutex;
    std::condition_variable idle;
    size_t running = 0;
    std::exception_ptr failure;
  };
  const auto shared = std::make_shared<Shared>();
  shared->work = &work;
  shared->count = count;

  const auto participate = [](Shared& s) {
    {
      std::lock_guard lock(s.mutex);
      s.running++;
    }
    // Counted as running before an index is claimed, so the caller cannot miss it.
    for (size_t i = s.next++; i < s.count; i = s.next++) {
      try {
        (*s.work)(i);
      } catch (...) {
        std::lock_guard lock(s.mutex);
        if (!s.failure) s.failure = std::current_exception();
        s.next = s.count;
      }
    }
    std::lock_guard lock(s.mutex);
    if (--s.running == 0) s.idle.notify_all();
  };

  const size_t helpers = count == 0 ? 0 : std::min(count - 1, thread_count_ - 1);
  for (size_t i = 0; i < helpers; i++) submit([shared, participate] { participate(*shared); });
  participate(*shared);
  std::unique_lock lock(shared->mutex);
  shared->idle.wait(lock, [&] { return shared->running == 0; });
  // Taken out: a helper that comes late must not be the one that frees what the caller is reading.
  if (const auto failure = std::exchange(shared->failure, nullptr)) std::rethrow_exception(failure);
}

}  // namespace stillpoint
