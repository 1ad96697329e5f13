#include "freezer/arguments.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <system_error>

namespace stillpoint::freezer {
namespace {

constexpr size_t kCutsMax = 64;
constexpr long kDeadlineMsMax = 600'000;

// @returns 0 if that is no deadline.
long parse_deadline(const char* text) {
  long limit_ms = 0;
  const auto [rest, error] = std::from_chars(text, text + std::strlen(text), limit_ms);
  return error == std::errc{} && *rest == '\0' && limit_ms <= kDeadlineMsMax ? std::max(limit_ms, 0L) : 0;
}

}  // namespace

bool parse(int argc, char** argv, Arguments& arguments) {
  if (argc < 3) return false;
  arguments.limit_ms = parse_deadline(argv[1]);
  int at = 2;
  for (; at < argc && std::strncmp(argv[at], "--", 2) == 0; at++) {
    if (std::strcmp(argv[at], "--once") == 0) {
      arguments.once = true;
    } else if (std::strcmp(argv[at], "--cut") == 0 && at + 1 < argc && arguments.cuts.size() < kCutsMax) {
      arguments.cuts.push_back(std::atoi(argv[++at]));
      if (arguments.cuts.back() <= STDERR_FILENO) return false;
    } else {
      return false;
    }
  }
  arguments.mounts = argv + at;
  return arguments.limit_ms != 0 && (at < argc || !arguments.cuts.empty());
}

}  // namespace stillpoint::freezer
