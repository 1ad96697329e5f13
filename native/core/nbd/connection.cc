#include "core/nbd/connection.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

namespace stillpoint {
namespace {

constexpr size_t kReceiveBytes = 256 << 10;
constexpr size_t kBatchBytes = 256 << 10;
// Answers that are held back so that they can be sent together: more, and the client idles meanwhile.
constexpr size_t kBatchCount = 16;
// Larger payloads don't go through the buffers above but have one of their own.
constexpr size_t kSmallBytes = 64 << 10;
static_assert(kReceiveBytes > kNbdRequestBytes + kSmallBytes);
static_assert(kReceiveBytes > kNbdOptionHeaderBytes + kNbdOptionBytesMax);
static_assert(kBatchBytes > kNbdReplyHeadBytesMax + kSmallBytes);
// A larger spare buffer is not kept.
constexpr size_t kSpareBytesMax = 4 << 20;

}  // namespace

// A request in the hands of a worker.
class NbdConnection::Job final : public NbdWorkers::Work {
 public:
  Job(NbdConnection& connection, const NbdRequest& request, AlignedBuffer buffer, NbdBudget::Lease lease)
      : connection_(connection), request_(request), buffer_(std::move(buffer)), lease_(std::move(lease)) {}

  void run() noexcept override {
    finish();
    // The last that is touched of the connection: after this it may be gone.
    const std::lock_guard lock(connection_.mutex_);
    if (--connection_.jobs_ == 0) connection_.jobs_ended_.notify_all();
  }

 private:
  void finish() noexcept {
    NbdReply reply;
    int error;
    try {
      error = execute(reply);
    } catch (const std::bad_alloc&) {
      reply = {};
      error = ENOMEM;
    }
    connection_.count(request_, error);
    if (reply.head.empty()) {
      uint8_t head[kNbdReplyHeadBytesMax];
      const size_t length = put_reply_head(head, request_, connection_.terms_.structured, error);
      reply.head.assign(head, head + length);
    }
    reply.lease = std::move(lease_);
    connection_.outbox_.post(std::move(reply));
  }

  int execute(NbdReply& reply) {
    NbdExport& served = *connection_.export_;
    const uint64_t byte_offset = request_.byte_offset;
    const uint32_t byte_length = request_.byte_length;
    const bool fua = (request_.flags & kNbdFua) != 0;
    switch (request_.command) {
      case NbdCommand::read: {
        const int error = served.read(byte_offset, buffer_.first(byte_length), Patience::may_wait);
        if (error != 0) return error;
        reply.body = std::move(buffer_);
        reply.body_length = byte_length;
        return 0;
      }
      case NbdCommand::write:
        return served.write(byte_offset, buffer_.first(byte_length), fua, Patience::may_wait);
      case NbdCommand::flush:
        return served.flush();
      case NbdCommand::trim:
        return served.trim(byte_offset, byte_length, fua);
      case NbdCommand::cache:
        return served.cache(byte_offset, byte_length);
      case NbdCommand::write_zeroes:
        return served.zero(byte_offset, byte_length,
                           {(request_.flags & kNbdNoHole) == 0, (request_.flags & kNbdFastZero) != 0}, fua);
      case NbdCommand::block_status:
        return block_status(reply);
      case NbdCommand::disc:
        break;
    }
    return EINVAL;  // check_request lets nothing else through
  }

  int block_status(NbdReply& reply) {
    const std::vector<uint32_t>& contexts = connection_.terms_.contexts;
    const size_t extents_max = (request_.flags & kNbdReqOne) != 0 ? 1 : kNbdExtentsMax;
    std::vector<uint8_t> chunks;
    std::vector<NbdExtent> extents;
    for (const uint32_t context : contexts) {
      extents.clear();
      const int error = connection_.export_->block_status(context, request_.byte_offset, request_.byte_length,
                                                          extents_max, extents);
      if (error != 0) return error;
      append_block_status(chunks, request_, context, extents, context == contexts.back());
    }
    reply.head = std::move(chunks);
    return 0;
  }

  NbdConnection& connection_;
  const NbdRequest request_;
  AlignedBuffer buffer_;
  NbdBudget::Lease lease_;
};

NbdConnection::NbdConnection(NbdTransport& transport, NbdDirectory& directory, NbdShared& shared)
    : transport_(transport),
      directory_(directory),
      shared_(shared),
      outbox_(transport),
      receive_buffer_(kReceiveBytes),
      batch_(kBatchBytes) {}

void NbdConnection::run() {
  try {
    if (shake_hands()) serve();
  } catch (const std::bad_alloc&) {
    // The client finds the connection closed: it has lost no more than with any server that ends.
  }
  await_jobs();
  outbox_.drain();
  transport_.shut();
  export_.reset();
}

bool NbdConnection::shake_hands() {
  std::vector<uint8_t> out;
  NbdHandshake handshake(directory_, out);
  for (;;) {
    begin_ += handshake.consume({next(), available()}, out);
    if (!out.empty() && !outbox_.send(out, {})) return false;
    out.clear();
    if (handshake.state() == NbdHandshake::State::transmission) break;
    if (handshake.state() == NbdHandshake::State::closed || !receive_more()) return false;
  }
  in_handshake_ = false;
  export_ = handshake.served_export();
  terms_ = handshake.terms();
  return true;
}

void NbdConnection::serve() {
  for (;;) {
    while (available() >= kNbdRequestBytes) {
      if (stopping_) return;
      const auto request = parse_request({next(), kNbdRequestBytes});
      if (!request) return;
      const size_t payload = request->payload_bytes();
      expects_large_ = payload > kSmallBytes;
      if (expects_large_) {
        begin_ += kNbdRequestBytes;
        if (!receive_payload(*request)) return;
        continue;
      }
      if (available() < kNbdRequestBytes + payload) break;
      begin_ += kNbdRequestBytes + payload;
      if (!handle(*request, {next() - payload, payload}, nullptr)) return;
    }
    if (!flush_batch() || !receive_more()) return;
  }
}

// Waits for more bytes behind those that are there.
bool NbdConnection::receive_more() {
  if (stopping_) return false;
  if (begin_ > 0) std::memmove(receive_buffer_.data(), next(), available());
  end_ -= std::exchange(begin_, 0);
  const size_t room = expects_large_ && end_ < kNbdRequestBytes ? kNbdRequestBytes : receive_buffer_.size();
  const size_t count = transport_.receive(receive_buffer_.first(room).subspan(end_));
  end_ += count;
  return count > 0;
}

bool NbdConnection::receive_payload(const NbdRequest& request) {
  const size_t length = request.byte_length;
  if (length > kNbdPayloadBytesMax) return length <= kNbdDrainBytesMax && drain_payload(request);
  if (!flush_batch()) return false;
  AlignedBuffer buffer = std::move(spare_);
  if (buffer.size() < length) buffer = AlignedBuffer(length);
  size_t received = std::min(length, available());
  std::memcpy(buffer.data(), next(), received);
  begin_ += received;
  while (received < length) {
    const size_t count = transport_.receive(buffer.first(length).subspan(received));
    if (count == 0) return false;
    received += count;
  }
  if (!handle(request, buffer.first(length), &buffer)) return false;
  if (buffer.size() <= kSpareBytesMax) spare_ = std::move(buffer);
  return true;
}

bool NbdConnection::drain_payload(const NbdRequest& request) {
  expects_large_ = false;
  size_t left = request.byte_length;
  for (;;) {
    const size_t taken = std::min(left, available());
    begin_ += taken;
    left -= taken;
    if (left == 0) break;
    if (!flush_batch() || !receive_more()) return false;
  }
  return answer(request, check_request(request, terms_));
}

// One request, whole. `owned`: the buffer in which the payload is, if it may be handed on. False: the
// connection ends.
bool NbdConnection::handle(const NbdRequest& request, Bytes payload, AlignedBuffer* owned) {
  if (request.command == NbdCommand::disc) return false;
  const int error = check_request(request, terms_);
  if (error != 0) return answer(request, error);
  switch (request.command) {
    case NbdCommand::read:
      return read_at_once(request);
    case NbdCommand::write:
      return write_at_once(request, payload, owned);
    case NbdCommand::flush:
      return submit(request, {});
    default:
      return request.byte_length == 0 ? answer(request, 0) : submit(request, {});
  }
}

bool NbdConnection::read_at_once(const NbdRequest& request) {
  const size_t length = request.byte_length;
  if (length == 0) return answer(request, 0);
  if (length > kSmallBytes) {
    AlignedBuffer buffer = std::move(spare_);
    if (buffer.size() < length) buffer = AlignedBuffer(length);
    const int error = export_->read(request.byte_offset, buffer.first(length), Patience::immediate);
    if (error == kWouldWait) return submit(request, std::move(buffer));
    if (!answer(request, error)) return false;
    if (error == 0 && !flush_batch(buffer.first(length))) return false;
    if (buffer.size() <= kSpareBytesMax) spare_ = std::move(buffer);
    return true;
  }
  if (!make_room(kNbdReplyHeadBytesMax + length)) return false;
  uint8_t* const at = batch_.data() + batch_length_;
  // Where the bytes will be if all goes well.
  uint8_t head[kNbdReplyHeadBytesMax];
  const size_t head_length = put_reply_head(head, request, terms_.structured, 0);
  const int error = export_->read(request.byte_offset, {at + head_length, length}, Patience::immediate);
  if (error == kWouldWait) return submit(request, AlignedBuffer(length));
  if (error != 0) return answer(request, error);
  std::memcpy(at, head, head_length);
  batch_length_ += head_length + length;
  ++batch_count_;
  count(request, 0);
  return batch_count_ < kBatchCount || flush_batch();
}

bool NbdConnection::write_at_once(const NbdRequest& request, Bytes payload, AlignedBuffer* owned) {
  if (payload.empty()) return answer(request, 0);
  const int error =
      export_->write(request.byte_offset, payload, (request.flags & kNbdFua) != 0, Patience::immediate);
  if (error != kWouldWait) return answer(request, error);
  if (owned != nullptr) return submit(request, std::move(*owned));
  AlignedBuffer copy(payload.size());
  std::memcpy(copy.data(), payload.data(), payload.size());
  return submit(request, std::move(copy));
}

bool NbdConnection::submit(const NbdRequest& request, AlignedBuffer buffer) {
  auto lease = shared_.budget.try_take(account_, buffer.size());
  if (!lease) {
    if (!flush_batch()) return false;
    lease = shared_.budget.take(account_, buffer.size());
  }
  auto job = std::make_unique<Job>(*this, request, std::move(buffer), std::move(*lease));
  {
    const std::lock_guard lock(mutex_);
    ++jobs_;
  }
  const bool reads = request.command == NbdCommand::read || request.command == NbdCommand::cache ||
                     request.command == NbdCommand::block_status;
  (reads ? shared_.readers : shared_.writers).submit(std::move(job));
  return true;
}

// Of a request that was done, or refused, at once; the bytes of a large READ follow.
bool NbdConnection::answer(const NbdRequest& request, int error) {
  if (!make_room(kNbdReplyHeadBytesMax)) return false;
  batch_length_ += put_reply_head(batch_.data() + batch_length_, request, terms_.structured, error);
  ++batch_count_;
  count(request, error);
  const bool body_follows =
      error == 0 && request.command == NbdCommand::read && request.byte_length > kSmallBytes;
  return body_follows || batch_count_ < kBatchCount || flush_batch();
}

bool NbdConnection::make_room(size_t byte_length) {
  return batch_length_ + byte_length <= batch_.size() || flush_batch();
}

bool NbdConnection::flush_batch(Bytes body) {
  if (batch_length_ == 0) return true;
  batch_count_ = 0;
  return outbox_.send(batch_.first(std::exchange(batch_length_, 0)), body);
}

void NbdConnection::count(const NbdRequest& request, int error) {
  constexpr auto relaxed = std::memory_order_relaxed;
  NbdCounters& counters = shared_.counters;
  if (error != 0) {
    counters.errors.fetch_add(1, relaxed);
    return;
  }
  switch (request.command) {
    case NbdCommand::read:
      counters.reads.fetch_add(1, relaxed);
      counters.read_bytes.fetch_add(request.byte_length, relaxed);
      break;
    case NbdCommand::write:
      counters.writes.fetch_add(1, relaxed);
      counters.written_bytes.fetch_add(request.byte_length, relaxed);
      break;
    case NbdCommand::trim:
    case NbdCommand::write_zeroes:
      counters.writes.fetch_add(1, relaxed);
      break;
    case NbdCommand::flush:
      counters.flushes.fetch_add(1, relaxed);
      break;
    default:
      break;
  }
}

void NbdConnection::await_jobs() {
  std::unique_lock lock(mutex_);
  jobs_ended_.wait(lock, [this] { return jobs_ == 0; });
}

}  // namespace stillpoint
