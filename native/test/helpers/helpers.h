// Shared by the core's tests: a directory that goes away, randomness that can be replayed, and errors by
// code.
#pragma once

#include <doctest/doctest.h>
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "core/base/digest.h"
#include "core/base/error.h"

namespace stillpoint::test {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = std::filesystem::temp_directory_path() / "stillpoint-test-XXXXXX";
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }

  std::string operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// A new seed each run; STILLPOINT_TEST_SEED replays one. Put it into an INFO.
inline uint64_t random_seed() {
  const char* const given = std::getenv("STILLPOINT_TEST_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
}

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  // In [0, bound).
  uint64_t below(uint64_t bound) { return std::uniform_int_distribution<uint64_t>(0, bound - 1)(engine_); }
  bool one_in(uint64_t n) { return below(n) == 0; }
  Digest digest() {
    Digest digest;
    for (uint8_t& byte : digest) byte = static_cast<uint8_t>(below(256));
    return digest;
  }
  // Random bytes that compress to about a quarter.
  std::vector<uint8_t> bytes(size_t length) {
    std::vector<uint8_t> bytes(length);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(below(4));
    if (length > 0) bytes[0] = 1;
    return bytes;
  }

 private:
  std::mt19937_64 engine_;
};

// The code of the NativeError that `body` throws, or "" if it throws none.
template <class Body>
std::string code_of(Body body) {
  try {
    body();
  } catch (const NativeError& error) {
    return error.code();
  }
  return "";
}

}  // namespace stillpoint::test
