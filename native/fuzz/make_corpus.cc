// Writes the seeds of the fuzz targets: `make_corpus DIR` fills DIR/batch, DIR/pack, DIR/nbd and DIR/journal
// with whole batches, packs, conversations and segments.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "core/codec/batch.h"
#include "core/codec/pack.h"
#include "core/journal/record.h"
#include "core/tap/journal/head.h"
#include "fuzz/fuzz.h"
#include "test/helpers/digesters.h"
#include "test/worlds/nbd_world.h"

using namespace stillpoint;
using stillpoint::test::kPlain;

namespace {

void write_seed(const std::filesystem::path& directory, const std::string& name, uint8_t flags, Bytes bytes) {
  std::ofstream file(directory / name, std::ios::binary);
  file.put(static_cast<char>(flags));
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!file) throw std::runtime_error("can't write " + (directory / name).string());
}

std::vector<uint8_t> content(size_t length, uint8_t step) {
  std::vector<uint8_t> bytes(length);
  for (size_t i = 0; i < length; ++i) bytes[i] = static_cast<uint8_t>(i / 64 * step + 1);
  return bytes;
}

// No encoder of ours makes one: it spares nothing.
ByteVector one_piece_patch(const std::vector<uint8_t>& piece) {
  const uint8_t head[] = {'S', 'P', 'D', '1', 0, 0, 0, 0, 0, 0x10, 0, 0, 1};
  ByteVector patch(head, head + sizeof head);
  patch.insert(patch.end(), piece.begin(), piece.end());
  return patch;
}

void write_batches(const std::filesystem::path& directory) {
  for (const int level : {0, 1, 19}) {
    const auto whole = content(4096, 3), tail = content(100, 5);
    const auto whole_record = encode_record(RecordKind::block, kPlain.leaf_digest(whole), whole, level);
    const auto tail_record = encode_record(RecordKind::block, kPlain.leaf_digest(tail), tail, level);
    BatchBuilder session({1, 2, 3}, 1, 1000);
    session.add_zeros(0, 2);
    const uint32_t ordinal = session.add_record(whole_record);
    session.add_payload(2, kPlain.leaf_digest(whole), ordinal);
    session.add_payload(3, kPlain.leaf_digest(whole), ordinal);
    session.add_held(7, kPlain.leaf_digest(tail));
    session.add_payload(19, kPlain.leaf_digest(tail), session.add_record(tail_record));
    BatchBuilder restore({1, 2, 3}, 0, 0);
    restore.add_payload(5, kPlain.leaf_digest(whole), restore.add_record(whole_record));
    for (const uint8_t flags : {0, 1, 2, 3}) {
      const std::string name = std::to_string(level) + "-" + std::to_string(flags);
      write_seed(directory, "session-" + name, flags, session.finish());
      write_seed(directory, "restore-" + name, flags, restore.finish());
    }
  }
  write_seed(directory, "empty", 0, BatchBuilder({}, 1, 0).finish());
}

// Of both geometries of the target: a piece or two of a block, and a short last one.
void write_patches(const std::filesystem::path& directory) {
  for (const int level : {0, 1}) {
    for (const uint8_t flags : {0, 1, 2, 3}) {
      const bool large = (flags & 2) != 0;
      const auto base = fuzz::base_block(large ? 65536 : 4096);
      const auto whole = content(base.size(), 3);
      const auto record = encode_record(RecordKind::block, kPlain.leaf_digest(whole), whole, level);
      BatchBuilder builder({1, 2, 3}, 1, 1000);
      builder.add_payload(0, kPlain.leaf_digest(whole), builder.add_record(record));
      std::vector<ByteVector> patches;
      for (const uint64_t index : {1, 2, 3}) {
        auto now = base;
        now[100 * index] ^= 1;
        PieceBits bits(large ? 2 : 1);
        bits[0] = 1;
        if (large && index > 1) {
          now[9 * kPieceBytes] ^= 1;
          bits[1] = 2;
        }
        patches.push_back(large ? encode_patch(now, bits, level) : one_piece_patch(now));
        builder.add_patch(index, kPlain.leaf_digest(now), patches.back());
      }
      write_seed(directory, "patch-" + std::to_string(level) + "-" + std::to_string(flags), flags,
                 builder.finish());
    }
  }
}

void write_packs(const std::filesystem::path& directory) {
  for (const PackKind kind : {PackKind::data, PackKind::tree}) {
    for (const size_t count : {0, 1, 5}) {
      const auto header = encode_pack_header({7, 7}, kind);
      std::vector<uint8_t> pack(header.begin(), header.end());
      std::vector<uint8_t> index;
      for (size_t i = 0; i < count; ++i) {
        const auto raw = content(kind == PackKind::data ? 64 + i * 40 : 32 + i * 32, static_cast<uint8_t>(i));
        const Digest digest = kind == PackKind::data ? kPlain.leaf_digest(raw) : kPlain.node_digest(raw);
        const auto record = encode_record(record_kind_of(kind), digest, raw, static_cast<int>(i % 2));
        const RecordView parsed = parse_record(record);
        append_pack_entry(
            index, {digest, pack.size(), parsed.stored_length, parsed.raw_length, parsed.codec, parsed.kind});
        pack.insert(pack.end(), record.begin(), record.end());
      }
      const auto tail = encode_pack_tail({7, 7}, pack.size(), index);
      pack.insert(pack.end(), tail.begin(), tail.end());
      for (const uint8_t flags : {0, 1, 2, 4, 7}) {
        const std::string name = kind == PackKind::data ? "data-" : "tree-";
        write_seed(directory, name + std::to_string(count) + "-" + std::to_string(flags), flags, pack);
      }
    }
  }
}

void write_conversations(const std::filesystem::path& directory) {
  using test::NbdBytes;
  for (const bool structured : {true, false}) {
    NbdBytes bytes;
    bytes.be(uint32_t{3}).option(3).option(6, NbdBytes().info("", {1, 2, 3}));
    if (structured) {
      bytes.option(8).option(9, NbdBytes().contexts("disk", {}));
      bytes.option(10, NbdBytes().contexts("disk", {"base:allocation", "test:other"}));
    }
    NbdBytes by_name = bytes;
    by_name.option(1, NbdBytes().text("disk"));
    bytes.option(7, NbdBytes().info("disk", {3}));
    for (NbdBytes* conversation : {&bytes, &by_name}) {
      uint64_t cookie = 0;
      for (const uint16_t command : {0, 1, 4, 5, 6, 7, 9}) {
        conversation->request(static_cast<NbdCommand>(command), 0, ++cookie, 512, 1024);
        if (command == 1) conversation->insert(conversation->end(), 1024, 7);
      }
      conversation->request(NbdCommand::flush, kNbdFua, ++cookie, 0, 0);
      conversation->request(NbdCommand::disc, 0, ++cookie, 0, 0);
    }
    for (uint8_t flags = 0; flags < 8; ++flags) {
      const std::string name = std::to_string(structured) + "-" + std::to_string(flags);
      write_seed(directory, "go-" + name, flags, bytes);
      write_seed(directory, "export-name-" + name, flags, by_name);
    }
  }
}

void write_journals(const std::filesystem::path& directory) {
  std::vector<uint8_t> segment;
  const auto append = [&](const JournalRecord& record, const std::vector<uint8_t>& payload) {
    const auto header = encode_journal_header(record, payload);
    segment.insert(segment.end(), header.begin(), header.end());
    segment.insert(segment.end(), payload.begin(), payload.end());
  };
  append({JournalKind::instant, 1, 10, 0, 0, 16}, content(16, 1));
  append({JournalKind::write, 2, 11, 4096, 512, 512}, content(512, 2));
  append({JournalKind::zero, 3, 12, 0, 1 << 24, 0}, {});
  append({JournalKind::stamp, 4, 13, 0, 0, 0}, {});
  // All of these fit on the device of the target, and on blocks of its own.
  const auto of_all = segment;
  segment.clear();
  append({JournalKind::write, 1, 11, 100, 4500, 4500}, content(4500, 2));
  append({JournalKind::zero, 2, 12, 4000, 1000, 0}, {});
  append({JournalKind::write, 3, 13, 4990, 10, 10}, content(10, 3));
  JournalHead head;
  head.ordinal = head.last_ordinal = 4;
  head.reason = "a reason";
  const auto encoded = encode_head(head);
  for (const uint8_t flags : {0, 1, 5, 9, 13}) {
    write_seed(directory, "segment-" + std::to_string(flags), flags, of_all);
    write_seed(directory, "device-" + std::to_string(flags), flags, segment);
  }
  write_seed(directory, "head", 2, {encoded.begin(), encoded.end()});
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_corpus DIR\n");
    return 2;
  }
  const std::filesystem::path root(argv[1]);
  for (const char* name : {"batch", "pack", "nbd", "journal"})
    std::filesystem::create_directories(root / name);
  write_batches(root / "batch");
  write_patches(root / "batch");
  write_packs(root / "pack");
  write_conversations(root / "nbd");
  write_journals(root / "journal");
}
