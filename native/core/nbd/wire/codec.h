// The messages of the NBD protocol, parsed and formatted: no sockets, no state. Names, numbers and rules are
// those of the NBD specification (proto.md of the NBD project), sections "Values" and "Transmission phase".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/digest.h"
#include "core/nbd/exports/export.h"

namespace stillpoint {

// ---- bounds: of what a client may make the server hold ----

inline constexpr size_t kNbdNameBytesMax = 4096;
inline constexpr size_t kNbdOptionBytesMax = 64 << 10;
// Of a READ or WRITE: the largest that clients may use without having asked.
inline constexpr uint32_t kNbdPayloadBytesMax = 32 << 20;
// A WRITE that is too large is read to its end and refused, up to here; above it the connection ends.
inline constexpr uint32_t kNbdDrainBytesMax = 64 << 20;
inline constexpr size_t kNbdExtentsMax = 4096;

// ---- handshake ----

inline constexpr uint64_t kNbdMagic = 0x4e42444d41474943;        // "NBDMAGIC"
inline constexpr uint64_t kNbdOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
inline constexpr uint64_t kNbdOptionReplyMagic = 0x0003e889045565a9;
inline constexpr size_t kNbdOptionHeaderBytes = 16;

inline constexpr uint16_t kNbdFixedNewstyle = 1 << 0;  // also as client flags
inline constexpr uint16_t kNbdNoZeroes = 1 << 1;

enum class NbdOption : uint32_t {
  export_name = 1,
  abort = 2,
  list = 3,
  starttls = 5,
  info = 6,
  go = 7,
  structured_reply = 8,
  list_meta_context = 9,
  set_meta_context = 10,
};

enum class NbdRep : uint32_t {
  ack = 1,
  server = 2,
  info = 3,
  meta_context = 4,
  err_unsup = 0x80000001,
  err_policy = 0x80000002,
  err_invalid = 0x80000003,
  err_unknown = 0x80000006,
  err_too_big = 0x80000009,
};

enum class NbdInfo : uint16_t { export_ = 0, name = 1, description = 2, block_size = 3 };

inline constexpr uint16_t kNbdHasFlags = 1 << 0;
inline constexpr uint16_t kNbdReadOnly = 1 << 1;
inline constexpr uint16_t kNbdSendFlush = 1 << 2;
inline constexpr uint16_t kNbdSendFua = 1 << 3;
inline constexpr uint16_t kNbdSendTrim = 1 << 5;
inline constexpr uint16_t kNbdSendWriteZeroes = 1 << 6;
inline constexpr uint16_t kNbdSendDf = 1 << 7;
inline constexpr uint16_t kNbdCanMultiConn = 1 << 8;
inline constexpr uint16_t kNbdSendCache = 1 << 10;
inline constexpr uint16_t kNbdSendFastZero = 1 << 11;

// What an export offers to a client ("Transmission flags").
uint16_t nbd_transmission_flags(const NbdExport::Properties& properties, bool structured);

struct NbdOptionHeader {
  uint32_t option;
  uint32_t data_length;
};

// `bytes` has kNbdOptionHeaderBytes. Nothing for a wrong magic: the connection is lost.
std::optional<NbdOptionHeader> parse_option_header(Bytes bytes);

// INFO and GO.
struct NbdInfoQuery {
  std::string name;
  std::vector<uint16_t> infos;
};
std::optional<NbdInfoQuery> parse_info_query(Bytes data);

// LIST_META_CONTEXT and SET_META_CONTEXT.
struct NbdContextQuery {
  std::string name;
  std::vector<std::string> queries;
};
std::optional<NbdContextQuery> parse_context_query(Bytes data);

// Formats what the server says in the handshake, at the end of `out`.
class NbdHandshakeWriter {
 public:
  explicit NbdHandshakeWriter(std::vector<uint8_t>& out) : out_(out) {}

  void greeting();
  // The answer to EXPORT_NAME, which has no header.
  void export_name(uint64_t size_bytes, uint16_t transmission_flags, bool zeroes);
  // `message` goes to the user of the client; for errors only.
  void reply(uint32_t option, NbdRep type, std::string_view message = {});
  void server(uint32_t option, std::string_view name, std::string_view description);
  void info_export(uint32_t option, uint64_t size_bytes, uint16_t transmission_flags);
  void info_text(uint32_t option, NbdInfo info, std::string_view text);
  void info_block_size(uint32_t option, const NbdExport::Properties& properties);
  void meta_context(uint32_t option, uint32_t id, std::string_view name);

 private:
  void header(uint32_t option, NbdRep type, size_t data_length);
  void text(std::string_view text);

  std::vector<uint8_t>& out_;
};

// ---- transmission ----

inline constexpr uint32_t kNbdRequestMagic = 0x25609513;
inline constexpr uint32_t kNbdSimpleReplyMagic = 0x67446698;
inline constexpr uint32_t kNbdStructuredReplyMagic = 0x668e33ef;
inline constexpr size_t kNbdRequestBytes = 28;
inline constexpr size_t kNbdSimpleReplyBytes = 16;
inline constexpr size_t kNbdChunkHeaderBytes = 20;
// The largest head of a reply to READ: a chunk and its offset.
inline constexpr size_t kNbdReplyHeadBytesMax = kNbdChunkHeaderBytes + 8;

enum class NbdCommand : uint16_t {
  read = 0,
  write = 1,
  disc = 2,
  flush = 3,
  trim = 4,
  cache = 5,
  write_zeroes = 6,
  block_status = 7,
};

inline constexpr uint16_t kNbdFua = 1 << 0;
inline constexpr uint16_t kNbdNoHole = 1 << 1;
inline constexpr uint16_t kNbdDf = 1 << 2;
inline constexpr uint16_t kNbdReqOne = 1 << 3;
inline constexpr uint16_t kNbdFastZero = 1 << 4;

inline constexpr uint16_t kNbdReplyDone = 1 << 0;
inline constexpr uint16_t kNbdReplyNone = 0;
inline constexpr uint16_t kNbdReplyOffsetData = 1;
inline constexpr uint16_t kNbdReplyBlockStatus = 5;
inline constexpr uint16_t kNbdReplyError = (1 << 15) + 1;

struct NbdRequest {
  uint16_t flags;
  NbdCommand command;  // any value
  uint64_t cookie;
  uint64_t byte_offset;
  uint32_t byte_length;

  // Bytes that follow the request.
  uint32_t payload_bytes() const { return command == NbdCommand::write ? byte_length : 0; }
};

// `bytes` has kNbdRequestBytes. Nothing for a wrong magic: the connection is lost.
std::optional<NbdRequest> parse_request(Bytes bytes);

// What the handshake agreed on.
struct NbdTerms {
  NbdExport::Properties properties;
  bool structured = false;
  // Of offsets and lengths: properties.block_size_min for a client that asked for it, else 1.
  uint32_t alignment = 1;
  // Indexes of the selected contexts; each is its id on the wire, too.
  std::vector<uint32_t> contexts;
};

// 0, or the errno value that the specification names for the request. What passes lies inside the export and
// may be executed; its length may be 0, except of BLOCK_STATUS.
int check_request(const NbdRequest& request, const NbdTerms& terms);

// For the wire ("Error values"): errno values that the protocol doesn't know become EIO. 0 stays 0.
uint32_t nbd_error(int error_number);

// The head of the reply to `request`: what precedes the bytes that were read, if it is a READ without error.
// Writes up to kNbdReplyHeadBytesMax bytes to `at`; returns how many.
size_t put_reply_head(uint8_t* at, const NbdRequest& request, bool structured, int error_number);

// The chunk that answers BLOCK_STATUS in one context. Extents are clipped to the request and to what the wire
// can say.
void append_block_status(std::vector<uint8_t>& out, const NbdRequest& request, uint32_t context_id,
                         const std::vector<NbdExtent>& extents, bool done);

}  // namespace stillpoint
