#include "core/base/error.h"

#include <cstring>
#include <utility>

namespace stillpoint {

NativeError::NativeError(std::string code, const std::string& message, std::string path, int64_t byte_offset)
    : std::runtime_error(path.empty() ? message : path + ": " + message),
      code_(std::move(code)),
      path_(std::move(path)),
      byte_offset_(byte_offset) {}

std::string describe_errno(int error_number) {
  const char* const description = strerrordesc_np(error_number);
  return description != nullptr ? description : "errno " + std::to_string(error_number);
}

void throw_errno(int error_number, const std::string& action, const std::string& path, int64_t byte_offset) {
  const char* name = strerrorname_np(error_number);
  const std::string place = byte_offset < 0 ? "" : " at byte " + std::to_string(byte_offset);
  throw NativeError(name != nullptr ? name : "errno " + std::to_string(error_number),
                    action + place + ": " + describe_errno(error_number), path, byte_offset);
}

}  // namespace stillpoint
