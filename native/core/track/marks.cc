#include "core/track/marks.h"

#include <sys/mman.h>

#include <bit>
#include <cerrno>
#include <utility>

#include "core/base/error.h"

namespace stillpoint {

MarkMap::MarkMap(UniqueFd map, uint64_t word_count) : map_(std::move(map)), word_count_(word_count) {
  void* const mapped =
      mmap(nullptr, word_count * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd(), 0);
  if (mapped == MAP_FAILED) throw_errno(errno, "mmap of a map of marks");
  words_ = static_cast<uint64_t*>(mapped);
}

MarkMap::MarkMap(MarkMap&& other) noexcept
    : map_(std::move(other.map_)),
      word_count_(other.word_count_),
      words_(std::exchange(other.words_, nullptr)) {}

MarkMap::~MarkMap() {
  if (words_ != nullptr) munmap(words_, word_count_ * sizeof(uint64_t));
}

uint64_t MarkMap::count() const {
  uint64_t count = 0;
  for (uint64_t word = 0; word < word_count_; word++)
    count += static_cast<uint64_t>(std::popcount(load(word)));
  return count;
}

void MarkMap::clear_all() {
  for (uint64_t word = 0; word < word_count_; word++) {
    if (const uint64_t bits = load(word); bits != 0) clear(word, bits);
  }
}

}  // namespace stillpoint
