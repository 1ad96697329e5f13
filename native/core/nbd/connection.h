// One NBD connection from its greeting to its end, without its socket and its acceptance.
//
// Its thread ("the reader", which calls run) takes requests out of a large receive buffer. It tries reads and
// writes at once. The answers of those that succeed are gathered in batch_ and sent together, at the latest
// before the reader waits. Everything else, and everything that the export could not do at once, becomes a
// Job for the server's workers. Writes and reads are separate, so that waiting writes never hold up reads.
//
// States                      next
//   handshake                   transmission, ended
//   transmission                ended (DISC, end of stream, bad magic, stop, socket error)
//   ended                       run returns after the last job's reply is sent (or can't be)
//
// Locking: mutex_ guards jobs_; stopping_ is atomic; everything else belongs to the reader. Jobs touch the
// export, the outbox, the counters and, last of all, jobs_.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "core/base/aligned_buffer.h"
#include "core/nbd/budget.h"
#include "core/nbd/outbox.h"
#include "core/nbd/wire/codec.h"
#include "core/nbd/wire/handshake.h"
#include "core/nbd/workers.h"

namespace stillpoint {

struct NbdCounters {
  std::atomic<uint64_t> connections{0};  // that have been accepted
  std::atomic<uint64_t> reads{0};
  std::atomic<uint64_t> writes{0};  // with those of zeros, and trims
  std::atomic<uint64_t> read_bytes{0};
  std::atomic<uint64_t> written_bytes{0};
  std::atomic<uint64_t> flushes{0};
  std::atomic<uint64_t> errors{0};  // requests that were answered with one
};

// What all connections of a server share.
struct NbdShared {
  NbdShared(const NbdBudget::Bounds& bounds, size_t threads_max)
      : budget(bounds), readers(threads_max), writers(threads_max) {}

  NbdCounters counters;
  NbdBudget budget;
  NbdWorkers readers;
  NbdWorkers writers;
};

class NbdConnection {
 public:
  NbdConnection(NbdTransport& transport, NbdDirectory& directory, NbdShared& shared);
  NbdConnection(const NbdConnection&) = delete;
  NbdConnection& operator=(const NbdConnection&) = delete;

  // Serves until the end; the export is not used any more when it returns. Once.
  void run();

  // No further request is taken up; from any thread. The reader sees it when it wakes.
  void stop() { stopping_ = true; }
  bool in_handshake() const { return in_handshake_; }

 private:
  class Job;

  bool shake_hands();
  void serve();
  bool receive_more();
  bool receive_payload(const NbdRequest& request);
  bool drain_payload(const NbdRequest& request);
  bool handle(const NbdRequest& request, Bytes payload, AlignedBuffer* owned);
  bool read_at_once(const NbdRequest& request);
  bool write_at_once(const NbdRequest& request, Bytes payload, AlignedBuffer* owned);
  bool submit(const NbdRequest& request, AlignedBuffer payload);
  bool answer(const NbdRequest& request, int error);
  bool make_room(size_t byte_length);
  bool flush_batch(Bytes body = {});
  void count(const NbdRequest& request, int error);
  void await_jobs();

  size_t available() const { return end_ - begin_; }
  const uint8_t* next() const { return receive_buffer_.data() + begin_; }

  NbdTransport& transport_;
  NbdDirectory& directory_;
  NbdShared& shared_;
  NbdBudget::Account account_;
  NbdOutbox outbox_;
  std::shared_ptr<NbdExport> export_;
  NbdTerms terms_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> in_handshake_{true};

  AlignedBuffer receive_buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  bool expects_large_ = false;  // the last request had a payload of its own: receive no more than a header

  AlignedBuffer batch_;  // answers that were not sent yet
  size_t batch_length_ = 0;
  size_t batch_count_ = 0;
  AlignedBuffer spare_;  // of the last large request that was done at once

  std::mutex mutex_;
  std::condition_variable jobs_ended_;
  size_t jobs_ = 0;
};

}  // namespace stillpoint
