#include "core/tap/journal/head.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <thread>

#include "core/base/digest.h"
#include "core/base/error.h"
#include "core/base/little_endian.h"
#include "core/journal/record.h"

namespace stillpoint {
namespace {

constexpr size_t kHeadWords = 13 + 1 + JournalHead::kReasonBytesMax / 8;
using HeadWords = std::array<uint64_t, kHeadWords>;

HeadWords words_of(const JournalHead& head) {
  HeadWords words{};
  std::memcpy(&words[0], head.journal.data(), sizeof head.journal);
  std::memcpy(&words[2], head.clock.data(), sizeof head.clock);
  words[4] = static_cast<uint64_t>(head.state);
  words[5] = head.ordinal;
  words[6] = head.stamp;
  words[7] = head.segment;
  words[8] = head.record_offset;
  words[9] = head.end_offset;
  words[10] = head.oldest_segment;
  words[11] = head.last_ordinal;
  words[12] = head.broken_stamp;
  words[13] = std::min(head.reason.size(), JournalHead::kReasonBytesMax);
  std::memcpy(&words[14], head.reason.data(), words[13]);
  return words;
}

JournalHead head_of(const HeadWords& words) {
  JournalHead head;
  if (words[4] < 1 || words[4] > 3 || words[13] > JournalHead::kReasonBytesMax || words[8] > words[9] ||
      words[5] > words[11] || words[11] > kJournalOrdinalMax)
    throw NativeError("bad-length", "the journal's head contradicts itself");
  std::memcpy(head.journal.data(), &words[0], sizeof head.journal);
  std::memcpy(head.clock.data(), &words[2], sizeof head.clock);
  head.state = static_cast<JournalHead::State>(words[4]);
  head.ordinal = words[5];
  head.stamp = words[6];
  head.segment = words[7];
  head.record_offset = words[8];
  head.end_offset = words[9];
  head.oldest_segment = words[10];
  head.last_ordinal = words[11];
  head.broken_stamp = words[12];
  head.reason.assign(reinterpret_cast<const char*>(&words[14]), words[13]);
  return head;
}

constexpr uint64_t kHeadMagic = 0x31'44'41'45'48'4A'50'53;  // "SPJHEAD1": the version, too
constexpr size_t kHeadFileBytes = 4096;
constexpr size_t kHeadBootBytes = 40;

}  // namespace

// As it lies in the file.
struct HeadFile::Shared {
  std::atomic<uint64_t> magic;
  std::atomic<uint64_t> sequence;  // the slot of its last bit is whole; 0: none yet
  char boot[kHeadBootBytes];
  std::array<std::atomic<uint64_t>, kHeadWords> slots[2];

  static Shared* map(int fd, int protection) {
    void* const at = ::mmap(nullptr, kHeadFileBytes, protection, MAP_SHARED, fd, 0);
    return at == MAP_FAILED ? nullptr : static_cast<Shared*>(at);
  }
  static std::optional<JournalHead> read(const Shared& shared, const std::string& path,
                                         const std::string& boot);
};

HeadFile::HeadFile(const std::string& path, const std::string& boot) : path_(path) {
  static_assert(sizeof(Shared) <= kHeadFileBytes);
  if (boot.empty() || boot.size() >= kHeadBootBytes)
    throw NativeError("argument", "the id of this boot of the machine is unknown");
  // Another file: readers of the one before still have theirs whole.
  ::unlink(path.c_str());
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) throw_errno(errno, "making it", path);
  int error = ::posix_fallocate(fd, 0, kHeadFileBytes);
  if (error == 0) {
    shared_ = Shared::map(fd, PROT_READ | PROT_WRITE);
    if (shared_ == nullptr) error = errno;
  }
  ::close(fd);
  if (error != 0) throw_errno(error, "making room in it", path);
  std::memcpy(shared_->boot, boot.data(), boot.size());
  shared_->magic.store(kHeadMagic, std::memory_order_release);
}

HeadFile::~HeadFile() { ::munmap(shared_, kHeadFileBytes); }

void HeadFile::remove() noexcept { ::unlink(path_.c_str()); }

void HeadFile::publish(const JournalHead& head) noexcept {
  const HeadWords words = words_of(head);
  const uint64_t sequence = shared_->sequence.load(std::memory_order_relaxed) + 1;
  auto& slot = shared_->slots[sequence & 1];
  // Release: a reader that sees one of these words sees the number before it, too.
  for (size_t i = 0; i < kHeadWords; i++) slot[i].store(words[i], std::memory_order_release);
  shared_->sequence.store(sequence, std::memory_order_release);
}

std::optional<JournalHead> HeadFile::Shared::read(const Shared& shared, const std::string& path,
                                                  const std::string& boot) {
  constexpr int kTries = 1000;
  if (shared.magic.load(std::memory_order_acquire) != kHeadMagic)
    throw NativeError("bad-magic", "it is not the head of a journal of this version", path);
  if (boot.size() >= kHeadBootBytes || std::strncmp(shared.boot, boot.c_str(), kHeadBootBytes) != 0)
    return std::nullopt;
  for (int i = 0; i < kTries; i++) {
    const uint64_t sequence = shared.sequence.load(std::memory_order_acquire);
    if (sequence == 0) return std::nullopt;
    HeadWords words;
    const auto& slot = shared.slots[sequence & 1];
    for (size_t at = 0; at < kHeadWords; at++) words[at] = slot[at].load(std::memory_order_acquire);
    if (shared.sequence.load(std::memory_order_relaxed) == sequence) return head_of(words);
    std::this_thread::yield();
  }
  throw NativeError("EAGAIN", "the journal's head changes too quickly", path);
}

std::optional<JournalHead> read_head(const std::string& path, const std::string& boot) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return std::nullopt;
  if (fd < 0) throw_errno(errno, "opening it", path);
  struct stat status;
  const bool whole = ::fstat(fd, &status) == 0 && status.st_size == static_cast<off_t>(kHeadFileBytes);
  const HeadFile::Shared* const shared = whole ? HeadFile::Shared::map(fd, PROT_READ) : nullptr;
  const int error = errno;
  ::close(fd);
  if (!whole) throw NativeError("bad-length", "it does not have the size of a journal's head", path);
  if (shared == nullptr) throw_errno(error, "mapping it", path);
  struct Unmap {
    const HeadFile::Shared* at;
    ~Unmap() { ::munmap(const_cast<HeadFile::Shared*>(at), kHeadFileBytes); }
  } const unmap{shared};
  return HeadFile::Shared::read(*shared, path, boot);
}

namespace {

constexpr char kEncodedMagic[] = "SPJCLOSE";
constexpr size_t kEncodedWordsOffset = 16;
constexpr size_t kEncodedSumOffset = kHeadBytes - kDigestBytes;
static_assert(kEncodedWordsOffset + sizeof(HeadWords) <= kEncodedSumOffset);

}  // namespace

std::array<uint8_t, kHeadBytes> encode_head(const JournalHead& head) {
  std::array<uint8_t, kHeadBytes> bytes{};
  std::memcpy(bytes.data(), kEncodedMagic, 8);
  store_le<uint32_t>(bytes.data() + 8, 1);
  const HeadWords words = words_of(head);
  std::memcpy(bytes.data() + kEncodedWordsOffset, words.data(), sizeof words);
  const Digest sum = checksum(Bytes(bytes).first(kEncodedSumOffset));
  std::memcpy(bytes.data() + kEncodedSumOffset, sum.data(), sum.size());
  return bytes;
}

JournalHead decode_head(const std::array<uint8_t, kHeadBytes>& bytes) {
  if (std::memcmp(bytes.data(), kEncodedMagic, 8) != 0)
    throw NativeError("bad-magic", "it is not the head of a journal");
  if (const auto version = load_le<uint32_t>(bytes.data() + 8); version != 1)
    throw NativeError("bad-version", "the journal's head has version " + std::to_string(version));
  const Digest sum = checksum(Bytes(bytes).first(kEncodedSumOffset));
  if (std::memcmp(bytes.data() + kEncodedSumOffset, sum.data(), sum.size()) != 0)
    throw NativeError("bad-checksum", "the journal's head is damaged");
  HeadWords words;
  std::memcpy(words.data(), bytes.data() + kEncodedWordsOffset, sizeof words);
  return head_of(words);
}

}  // namespace stillpoint
