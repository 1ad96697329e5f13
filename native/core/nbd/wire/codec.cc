#include "core/nbd/wire/codec.h"

#include <algorithm>
#include <cerrno>
#include <limits>

#include "core/nbd/wire/big_endian.h"

namespace stillpoint {
namespace {

// Reads fields off the front; after the first that isn't there, ok() is false and all are empty.
class Fields {
 public:
  explicit Fields(Bytes bytes) : bytes_(bytes) {}

  template <class T>
  T integer() {
    const Bytes bytes = take(sizeof(T));
    return bytes.empty() ? 0 : load_be<T>(bytes.data());
  }
  std::string name() {
    const auto length = integer<uint32_t>();
    if (length > kNbdNameBytesMax) ok_ = false;
    const Bytes bytes = take(length);
    return {bytes.begin(), bytes.end()};
  }
  bool ok() const { return ok_; }
  bool ended() const { return ok_ && bytes_.empty(); }

 private:
  Bytes take(size_t length) {
    if (length > bytes_.size()) ok_ = false;
    if (!ok_) return {};
    const Bytes taken = bytes_.first(length);
    bytes_ = bytes_.subspan(length);
    return taken;
  }

  Bytes bytes_;
  bool ok_ = true;
};

template <class T>
void append_be(std::vector<uint8_t>& out, T value) {
  uint8_t bytes[sizeof(T)];
  store_be(bytes, value);
  out.insert(out.end(), bytes, bytes + sizeof(T));
}

uint8_t* put_chunk_header(uint8_t* at, uint16_t flags, uint16_t type, uint64_t cookie, uint32_t length) {
  at = store_be(at, kNbdStructuredReplyMagic);
  at = store_be(at, flags);
  at = store_be(at, type);
  at = store_be(at, cookie);
  return store_be(at, length);
}

// Strings of the protocol are bounded; ours are cut rather than refused.
std::string_view bounded(std::string_view text) { return text.substr(0, kNbdNameBytesMax); }

uint16_t allowed_flags(NbdCommand command, const NbdTerms& terms) {
  const uint16_t fua = terms.properties.can_flush ? kNbdFua : 0;
  switch (command) {
    case NbdCommand::read:
      return fua | (terms.structured ? kNbdDf : 0);
    case NbdCommand::write_zeroes:
      return fua | kNbdNoHole | (terms.properties.can_fast_zero ? kNbdFastZero : 0);
    case NbdCommand::block_status:
      return fua | kNbdReqOne;
    default:
      return fua;
  }
}

bool is_offered(NbdCommand command, const NbdTerms& terms) {
  switch (command) {
    case NbdCommand::read:
    case NbdCommand::write:
    case NbdCommand::disc:
    case NbdCommand::cache:
      return true;
    case NbdCommand::flush:
      return terms.properties.can_flush;
    case NbdCommand::trim:
      return terms.properties.can_trim;
    case NbdCommand::write_zeroes:
      return terms.properties.can_zero;
    case NbdCommand::block_status:
      return terms.structured && !terms.contexts.empty();
  }
  return false;
}

}  // namespace

// ---- handshake ----

uint16_t nbd_transmission_flags(const NbdExport::Properties& properties, bool structured) {
  uint16_t flags = kNbdHasFlags | kNbdSendCache;
  if (properties.can_flush) flags |= kNbdSendFlush | kNbdSendFua;
  if (properties.can_multi_conn) flags |= kNbdCanMultiConn;
  if (structured) flags |= kNbdSendDf;
  if (properties.read_only) return flags | kNbdReadOnly;
  if (properties.can_trim) flags |= kNbdSendTrim;
  if (properties.can_zero) flags |= kNbdSendWriteZeroes;
  if (properties.can_zero && properties.can_fast_zero) flags |= kNbdSendFastZero;
  return flags;
}

std::optional<NbdOptionHeader> parse_option_header(Bytes bytes) {
  Fields fields(bytes);
  if (fields.integer<uint64_t>() != kNbdOptionMagic) return {};
  const auto option = fields.integer<uint32_t>();
  const auto data_length = fields.integer<uint32_t>();
  if (!fields.ok()) return {};
  return NbdOptionHeader{option, data_length};
}

std::optional<NbdInfoQuery> parse_info_query(Bytes data) {
  Fields fields(data);
  NbdInfoQuery query{fields.name(), {}};
  const auto count = fields.integer<uint16_t>();
  for (uint16_t i = 0; i < count && fields.ok(); ++i) query.infos.push_back(fields.integer<uint16_t>());
  if (!fields.ended()) return {};
  return query;
}

std::optional<NbdContextQuery> parse_context_query(Bytes data) {
  Fields fields(data);
  NbdContextQuery query{fields.name(), {}};
  const auto count = fields.integer<uint32_t>();
  for (uint32_t i = 0; i < count && fields.ok(); ++i) query.queries.push_back(fields.name());
  if (!fields.ended()) return {};
  return query;
}

void NbdHandshakeWriter::text(std::string_view text) { out_.insert(out_.end(), text.begin(), text.end()); }

void NbdHandshakeWriter::header(uint32_t option, NbdRep type, size_t data_length) {
  append_be(out_, kNbdOptionReplyMagic);
  append_be(out_, option);
  append_be(out_, static_cast<uint32_t>(type));
  append_be(out_, static_cast<uint32_t>(data_length));
}

void NbdHandshakeWriter::greeting() {
  append_be(out_, kNbdMagic);
  append_be(out_, kNbdOptionMagic);
  append_be(out_, static_cast<uint16_t>(kNbdFixedNewstyle | kNbdNoZeroes));
}

void NbdHandshakeWriter::export_name(uint64_t size_bytes, uint16_t transmission_flags, bool zeroes) {
  append_be(out_, size_bytes);
  append_be(out_, transmission_flags);
  if (zeroes) out_.resize(out_.size() + 124);
}

void NbdHandshakeWriter::reply(uint32_t option, NbdRep type, std::string_view message) {
  header(option, type, message.size());
  text(message);
}

void NbdHandshakeWriter::server(uint32_t option, std::string_view name, std::string_view description) {
  name = bounded(name);
  description = bounded(description);
  header(option, NbdRep::server, 4 + name.size() + description.size());
  append_be(out_, static_cast<uint32_t>(name.size()));
  text(name);
  text(description);
}

void NbdHandshakeWriter::info_export(uint32_t option, uint64_t size_bytes, uint16_t transmission_flags) {
  header(option, NbdRep::info, 12);
  append_be(out_, static_cast<uint16_t>(NbdInfo::export_));
  append_be(out_, size_bytes);
  append_be(out_, transmission_flags);
}

void NbdHandshakeWriter::info_text(uint32_t option, NbdInfo info, std::string_view value) {
  value = bounded(value);
  header(option, NbdRep::info, 2 + value.size());
  append_be(out_, static_cast<uint16_t>(info));
  text(value);
}

void NbdHandshakeWriter::info_block_size(uint32_t option, const NbdExport::Properties& properties) {
  header(option, NbdRep::info, 14);
  append_be(out_, static_cast<uint16_t>(NbdInfo::block_size));
  append_be(out_, properties.block_size_min);
  append_be(out_, properties.block_size_preferred);
  append_be(out_, kNbdPayloadBytesMax);
}

void NbdHandshakeWriter::meta_context(uint32_t option, uint32_t id, std::string_view name) {
  name = bounded(name);
  header(option, NbdRep::meta_context, 4 + name.size());
  append_be(out_, id);
  text(name);
}

// ---- transmission ----

std::optional<NbdRequest> parse_request(Bytes bytes) {
  if (bytes.size() < kNbdRequestBytes || load_be<uint32_t>(bytes.data()) != kNbdRequestMagic) return {};
  return NbdRequest{load_be<uint16_t>(bytes.data() + 4),
                    static_cast<NbdCommand>(load_be<uint16_t>(bytes.data() + 6)),
                    load_be<uint64_t>(bytes.data() + 8), load_be<uint64_t>(bytes.data() + 16),
                    load_be<uint32_t>(bytes.data() + 24)};
}

int check_request(const NbdRequest& request, const NbdTerms& terms) {
  const NbdCommand command = request.command;
  const bool writes =
      command == NbdCommand::write || command == NbdCommand::trim || command == NbdCommand::write_zeroes;
  if (writes && terms.properties.read_only) return EPERM;
  if (!is_offered(command, terms)) return EINVAL;
  if ((request.flags & ~allowed_flags(command, terms)) != 0) return EINVAL;
  if (command == NbdCommand::flush) {
    return request.byte_offset == 0 && request.byte_length == 0 ? 0 : EINVAL;
  }

  const uint64_t size_bytes = terms.properties.size_bytes;
  if (request.byte_offset > size_bytes || request.byte_length > size_bytes - request.byte_offset) {
    return command == NbdCommand::write || command == NbdCommand::write_zeroes ? ENOSPC : EINVAL;
  }
  if (((request.byte_offset | request.byte_length) & (terms.alignment - 1)) != 0) return EINVAL;
  if (command == NbdCommand::read && request.byte_length > kNbdPayloadBytesMax) {
    return (request.flags & kNbdDf) != 0 ? EOVERFLOW : EINVAL;
  }
  if (command == NbdCommand::write && request.byte_length > kNbdPayloadBytesMax) return EINVAL;
  if (command == NbdCommand::block_status && request.byte_length == 0) return EINVAL;
  return 0;
}

uint32_t nbd_error(int error_number) {
  switch (error_number) {
    case 0:
      return 0;
    case EPERM:
    case EROFS:
      return 1;
    case ENOMEM:
      return 12;
    case EINVAL:
      return 22;
    case ENOSPC:
    case EFBIG:
    case EDQUOT:
      return 28;
    case EOVERFLOW:
      return 75;
    case EOPNOTSUPP:  // the same number as ENOTSUP
      return 95;
    case ESHUTDOWN:
      return 108;
    default:
      return 5;  // EIO
  }
}

size_t put_reply_head(uint8_t* at, const NbdRequest& request, bool structured, int error_number) {
  uint8_t* const begin = at;
  const bool needs_chunks =
      request.command == NbdCommand::read || request.command == NbdCommand::block_status;
  if (!structured || !needs_chunks) {
    at = store_be(at, kNbdSimpleReplyMagic);
    at = store_be(at, nbd_error(error_number));
    at = store_be(at, request.cookie);
  } else if (error_number != 0) {
    at = put_chunk_header(at, kNbdReplyDone, kNbdReplyError, request.cookie, 6);
    at = store_be(at, nbd_error(error_number));
    at = store_be(at, uint16_t{0});  // no message
  } else if (request.byte_length == 0) {
    at = put_chunk_header(at, kNbdReplyDone, kNbdReplyNone, request.cookie, 0);
  } else {
    at = put_chunk_header(at, kNbdReplyDone, kNbdReplyOffsetData, request.cookie, 8 + request.byte_length);
    at = store_be(at, request.byte_offset);
  }
  return static_cast<size_t>(at - begin);
}

void append_block_status(std::vector<uint8_t>& out, const NbdRequest& request, uint32_t context_id,
                         const std::vector<NbdExtent>& extents, bool done) {
  const size_t header_at = out.size();
  out.resize(header_at + kNbdChunkHeaderBytes);
  append_be(out, context_id);
  uint64_t left = request.byte_length;
  const size_t extents_max = (request.flags & kNbdReqOne) != 0 ? 1 : kNbdExtentsMax;
  size_t count = 0;
  for (const NbdExtent& extent : extents) {
    const uint64_t length = std::min(extent.byte_length, left);
    if (length == 0 || count == extents_max) break;
    append_be(out, static_cast<uint32_t>(length));
    append_be(out, extent.flags);
    left -= length;
    ++count;
  }
  put_chunk_header(out.data() + header_at, done ? kNbdReplyDone : 0, kNbdReplyBlockStatus, request.cookie,
                   static_cast<uint32_t>(4 + 8 * count));
}

}  // namespace stillpoint
