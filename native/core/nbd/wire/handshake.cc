#include "core/nbd/wire/handshake.h"

#include <algorithm>

#include "core/nbd/wire/big_endian.h"

namespace stillpoint {
namespace {

constexpr const char* kUnknownExport = "there is no such export";

}  // namespace

NbdHandshake::NbdHandshake(NbdDirectory& directory, std::vector<uint8_t>& out) : directory_(directory) {
  NbdHandshakeWriter(out).greeting();
}

size_t NbdHandshake::consume(Bytes in, std::vector<uint8_t>& out) {
  NbdHandshakeWriter writer(out);
  size_t taken = 0;
  while (state_ != State::transmission && state_ != State::closed) {
    const size_t count = take_message(in.subspan(taken), writer);
    if (count == 0) break;
    taken += count;
  }
  return taken;
}

// Bytes of the message, 0 if it isn't all there.
size_t NbdHandshake::take_message(Bytes in, NbdHandshakeWriter& writer) {
  if (state_ == State::skipping) {
    const size_t count = static_cast<size_t>(std::min<uint64_t>(in.size(), skip_bytes_));
    skip_bytes_ -= count;
    if (skip_bytes_ == 0) state_ = State::options;
    return count;
  }
  if (state_ == State::client_flags) {
    if (in.size() < 4) return 0;
    const auto flags = load_be<uint32_t>(in.data());
    fixed_newstyle_ = (flags & kNbdFixedNewstyle) != 0;
    no_zeroes_ = (flags & kNbdNoZeroes) != 0;
    state_ = (flags & ~uint32_t{kNbdFixedNewstyle | kNbdNoZeroes}) == 0 ? State::options : State::closed;
    return 4;
  }
  if (in.size() < kNbdOptionHeaderBytes) return 0;
  const auto header = parse_option_header(in.first(kNbdOptionHeaderBytes));
  // Without fixed newstyle there are no answers to options: EXPORT_NAME is the only one.
  const bool is_export_name = header && header->option == static_cast<uint32_t>(NbdOption::export_name);
  if (!header || (!is_export_name && !fixed_newstyle_)) {
    state_ = State::closed;
    return kNbdOptionHeaderBytes;
  }
  if (header->data_length > kNbdOptionBytesMax) {
    if (is_export_name) {
      state_ = State::closed;
    } else {
      writer.reply(header->option, NbdRep::err_too_big);
      skip_bytes_ = header->data_length;
      state_ = State::skipping;
    }
    return kNbdOptionHeaderBytes;
  }
  const size_t count = kNbdOptionHeaderBytes + header->data_length;
  if (in.size() < count) return 0;
  take_option(header->option, in.subspan(kNbdOptionHeaderBytes, header->data_length), writer);
  return count;
}

void NbdHandshake::take_option(uint32_t option, Bytes data, NbdHandshakeWriter& writer) {
  switch (static_cast<NbdOption>(option)) {
    case NbdOption::export_name:
      return take_export_name(data, writer);
    case NbdOption::abort:
      writer.reply(option, NbdRep::ack);
      state_ = State::closed;
      return;
    case NbdOption::list:
      return take_list(option, data, writer);
    case NbdOption::info:
    case NbdOption::go:
      return take_info(option, data, writer);
    case NbdOption::structured_reply:
      if (!data.empty()) return writer.reply(option, NbdRep::err_invalid);
      structured_ = true;
      return writer.reply(option, NbdRep::ack);
    case NbdOption::list_meta_context:
    case NbdOption::set_meta_context:
      return take_contexts(option, data, writer);
    case NbdOption::starttls:
      if (!data.empty()) return writer.reply(option, NbdRep::err_invalid);
      return writer.reply(option, NbdRep::err_policy, "TLS is not offered here");
  }
  writer.reply(option, NbdRep::err_unsup);
}

void NbdHandshake::take_export_name(Bytes data, NbdHandshakeWriter& writer) {
  auto entry =
      data.size() <= kNbdNameBytesMax ? directory_.find(std::string(data.begin(), data.end())) : std::nullopt;
  if (!entry || !enter_transmission(*entry, false)) {
    state_ = State::closed;
    return;
  }
  writer.export_name(entry->properties.size_bytes, nbd_transmission_flags(entry->properties, structured_),
                     !no_zeroes_);
}

void NbdHandshake::take_list(uint32_t option, Bytes data, NbdHandshakeWriter& writer) {
  if (!data.empty()) return writer.reply(option, NbdRep::err_invalid);
  for (const auto& [name, description] : directory_.list()) writer.server(option, name, description);
  writer.reply(option, NbdRep::ack);
}

void NbdHandshake::take_info(uint32_t option, Bytes data, NbdHandshakeWriter& writer) {
  const auto query = parse_info_query(data);
  if (!query) return writer.reply(option, NbdRep::err_invalid);
  auto entry = directory_.find(query->name);
  if (!entry) return writer.reply(option, NbdRep::err_unknown, kUnknownExport);
  const auto asks = [&](NbdInfo info) {
    return std::ranges::find(query->infos, static_cast<uint16_t>(info)) != query->infos.end();
  };
  if (option == static_cast<uint32_t>(NbdOption::go) &&
      !enter_transmission(*entry, asks(NbdInfo::block_size))) {
    return writer.reply(option, NbdRep::err_unknown, kUnknownExport);
  }
  writer.info_export(option, entry->properties.size_bytes,
                     nbd_transmission_flags(entry->properties, structured_));
  if (asks(NbdInfo::name)) writer.info_text(option, NbdInfo::name, entry->name);
  if (asks(NbdInfo::description) && !entry->properties.description.empty()) {
    writer.info_text(option, NbdInfo::description, entry->properties.description);
  }
  if (asks(NbdInfo::block_size)) writer.info_block_size(option, entry->properties);
  writer.reply(option, NbdRep::ack);
}

void NbdHandshake::take_contexts(uint32_t option, Bytes data, NbdHandshakeWriter& writer) {
  const bool sets = option == static_cast<uint32_t>(NbdOption::set_meta_context);
  if (sets) contexts_.clear();
  const auto query = parse_context_query(data);
  if (!query || !structured_) {
    return writer.reply(option, NbdRep::err_invalid,
                        structured_ ? "malformed query" : "structured replies come first");
  }
  const auto entry = directory_.find(query->name);
  if (!entry) return writer.reply(option, NbdRep::err_unknown, kUnknownExport);
  if (sets) contexts_export_ = entry->name;

  const std::vector<std::string>& names = entry->properties.contexts;
  for (uint32_t id = 0; id < names.size(); ++id) {
    // LIST may ask for everything, or for a namespace; SET names what it wants.
    const bool asked = std::ranges::any_of(query->queries, [&](const std::string& asked_for) {
      return asked_for == names[id] ||
             (!sets && asked_for.ends_with(':') && names[id].starts_with(asked_for));
    });
    if (!asked && (sets || !query->queries.empty())) continue;
    writer.meta_context(option, sets ? id : 0, names[id]);
    if (sets) contexts_.emplace_back(id, names[id]);
  }
  writer.reply(option, NbdRep::ack);
}

bool NbdHandshake::enter_transmission(NbdDirectory::Entry& entry, bool keeps_to_blocks) {
  export_ = directory_.attach(entry.name);
  if (!export_) return false;
  // Of the one that was attached: another may have taken the name meanwhile.
  entry.properties = export_->properties();
  // A client that doesn't ask for block sizes doesn't keep to them.
  terms_ = {entry.properties, structured_, keeps_to_blocks ? entry.properties.block_size_min : 1, {}};
  const std::vector<std::string>& names = terms_.properties.contexts;
  for (const auto& [id, name] : contexts_) {
    if (contexts_export_ == entry.name && id < names.size() && names[id] == name)
      terms_.contexts.push_back(id);
  }
  state_ = State::transmission;
  return true;
}

}  // namespace stillpoint
