#include "core/tap/clock/reservation.h"

#include <array>
#include <cstring>
#include <string>

#include "core/base/error.h"
#include "core/base/little_endian.h"

namespace stillpoint {
namespace {

constexpr uint8_t kReservationMagic[8] = {'S', 'P', 'C', 'L', 'O', 'C', 'K', 0};
constexpr uint32_t kReservationVersion = 1;
constexpr size_t kReservationBytes = 512;
constexpr size_t kReservationSumOffset = kReservationBytes - kDigestBytes;

}  // namespace

std::optional<ClockReservation> read_reservation(TapFile& file) {
  std::array<uint8_t, kReservationBytes> bytes;
  if (const int error = file.read(0, bytes); error != 0)
    throw_errno(error, "reading what the write clock has reserved", file.path());
  const uint8_t* const at = bytes.data();
  if (std::memcmp(at, kReservationMagic, sizeof kReservationMagic) != 0) return std::nullopt;
  const Digest sum = checksum(Bytes(bytes).first(kReservationSumOffset));
  if (std::memcmp(at + kReservationSumOffset, sum.data(), sum.size()) != 0) return std::nullopt;
  if (const auto version = load_le<uint32_t>(at + 8); version != kReservationVersion) {
    throw NativeError("bad-version", "the write clock's file has version " + std::to_string(version),
                      file.path());
  }
  ClockReservation reservation{{}, load_le<uint64_t>(at + 32)};
  std::memcpy(reservation.clock.data(), at + 16, sizeof reservation.clock);
  return reservation;
}

int write_reservation(TapFile& file, const ClockReservation& reservation) {
  std::array<uint8_t, kReservationBytes> bytes{};
  uint8_t* const at = bytes.data();
  std::memcpy(at, kReservationMagic, sizeof kReservationMagic);
  store_le<uint32_t>(at + 8, kReservationVersion);
  std::memcpy(at + 16, reservation.clock.data(), sizeof reservation.clock);
  store_le<uint64_t>(at + 32, reservation.stamp);
  const Digest sum = checksum(Bytes(bytes).first(kReservationSumOffset));
  std::memcpy(at + kReservationSumOffset, sum.data(), sum.size());
  if (const int error = file.write(0, bytes); error != 0) return error;
  return file.sync();
}

}  // namespace stillpoint
