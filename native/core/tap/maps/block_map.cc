#include "core/tap/maps/block_map.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <new>

namespace stillpoint {
namespace {

size_t mapped_bytes(uint64_t word_count) { return std::max<size_t>(1, word_count * sizeof(uint64_t)); }

// Bits [from, to) of a word.
uint64_t bits_between(uint64_t from, uint64_t to) {
  const uint64_t below_to = to == BlockMap::kWordBits ? ~uint64_t{0} : (uint64_t{1} << to) - 1;
  return below_to & ~((uint64_t{1} << from) - 1);
}

}  // namespace

BlockMap::BlockMap(uint64_t block_count)
    : block_count_(block_count), word_count_((block_count + kWordBits - 1) / kWordBits) {
  void* const memory = mmap(nullptr, mapped_bytes(word_count_), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  static_assert(std::atomic<uint64_t>::is_always_lock_free);
  words_ = static_cast<std::atomic<uint64_t>*>(memory);
}

BlockMap::~BlockMap() { munmap(words_, mapped_bytes(word_count_)); }

void BlockMap::mark_word(uint64_t index, uint64_t bits) {
  // Most writes hit what is marked already, and a load shares the cache line where an atomic OR would take
  // it.
  std::atomic<uint64_t>& word = words_[index];
  if ((word.load() & bits) != bits) word.fetch_or(bits);
}

void BlockMap::mark(uint64_t begin, uint64_t end) {
  while (begin < end) {
    const uint64_t index = begin / kWordBits;
    const uint64_t word_end = std::min(end, (index + 1) * kWordBits);
    mark_word(index, bits_between(begin % kWordBits, word_end - index * kWordBits));
    begin = word_end;
  }
}

void BlockMap::merge(const BlockMap& other) {
  for (uint64_t i = 0; i < word_count_; i++) {
    if (const uint64_t bits = other.word(i); bits != 0) mark_word(i, bits);
  }
}

void BlockMap::clear() {
  for (uint64_t i = 0; i < word_count_; i++) {
    if (word(i) != 0) words_[i].store(0);
  }
  // Gives the memory back; pages of zeros read as such without it too.
  madvise(words_, mapped_bytes(word_count_), MADV_DONTNEED);
}

uint64_t BlockMap::count() const {
  uint64_t count = 0;
  for (uint64_t i = 0; i < word_count_; i++) {
    if (const uint64_t bits = word(i); bits != 0) count += static_cast<uint64_t>(std::popcount(bits));
  }
  return count;
}

template <class Word>
uint64_t BlockMap::find(uint64_t from, uint64_t end, Word word_at) const {
  end = std::min(end, block_count_);
  if (from >= end) return end;
  uint64_t index = from / kWordBits;
  const uint64_t last = (end - 1) / kWordBits;
  uint64_t bits = word_at(index) & bits_between(from % kWordBits, kWordBits);
  while (bits == 0) {
    if (index++ == last) return end;
    bits = word_at(index);
  }
  return std::min(end, index * kWordBits + static_cast<uint64_t>(std::countr_zero(bits)));
}

uint64_t BlockMap::next_set(uint64_t from, uint64_t end) const {
  return find(from, end, [this](uint64_t index) { return word(index); });
}

uint64_t BlockMap::next_clear(uint64_t from, uint64_t end) const {
  return find(from, end, [this](uint64_t index) { return ~word(index); });
}

}  // namespace stillpoint
