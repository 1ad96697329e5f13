/**
 * Every bound of the system in one place: a limit for everything that comes from outside or grows with use.
 */

export const KiB = 1024;
export const MiB = 1024 * KiB;
export const GiB = 1024 * MiB;
export const TiB = 1024 * GiB;

export const DIGEST_BYTES = 32;
/** Children of a tree node (docs/format.md section 1). */
export const TREE_FANOUT = 64;
export const NODE_BYTES_MAX = TREE_FANOUT * DIGEST_BYTES;

export const BLOCK_SIZE_MIN = 4 * KiB;
export const BLOCK_SIZE_MAX = 4 * MiB;
export const BLOCK_SIZE_DEFAULT = 64 * KiB;
/** The largest device whose byte offsets, and its end, are exact in a JavaScript number: just below 8 PiB. */
export const DEVICE_SIZE_MAX = 8192 * TiB - 1;

/** Most bytes of one batch body; a request with more is refused before its body is read. */
export const BATCH_BYTES_MAX = 16 * MiB;
export const BATCH_ENTRIES_MAX = 65_536;
/** Blocks that the zero runs of one batch cover together. */
export const BATCH_ZERO_BLOCKS_MAX = 2 ** 24;
/**
 * Raw bytes of changed blocks that the agent aims to put into one batch. Each is in memory several times on
 * its way, encrypted too: larger ones cost memory, smaller ones time.
 */
export const BATCH_RAW_BYTES_TARGET = 2 * MiB;
/** Digests in one `have` request. */
export const HAVE_DIGESTS_MAX = 16_384;
/** Nodes in one tree request, and blocks in one block request. */
export const NODES_REQUEST_MAX = 1024;
export const BLOCKS_REQUEST_MAX = 4096;
/**
 * Stored bytes of the blocks of one answer: with its head, and an entry for each block that may be
 * asked for, it is a batch.
 */
export const BLOCKS_ANSWER_STORED_BYTES = BATCH_BYTES_MAX - MiB;
/** Ranges of blocks in one check request. */
export const CHECK_RANGES_MAX = 4096;
/**
 * Ranges in one event of a diff of two points, and diffs of one agent that run at once: each has a path
 * of both trees in memory.
 */
export const DIFF_RANGES_MAX = 1024;
export const DIFFS_PER_AGENT_MAX = 4;
/**
 * Raw bytes of the blocks of one request on a fast link: large enough to be worth a round trip,
 * small enough to have several.
 */
export const BLOCKS_REQUEST_RAW_BYTES = 4 * MiB;
/** What a block is compared by, to send a patch of it, and the bytes of a piece's digest. */
export const PIECE_BYTES = 4 * KiB;
export const PIECE_DIGEST_BYTES = 8;
/**
 * Blocks, and bytes of blocks, whose pieces one question may ask for: the receiver
 * reads and digests them all.
 */
export const PIECES_REQUEST_MAX = 1024;
export const PIECES_RAW_BYTES_MAX = 16 * MiB;
/** Bytes of the blocks that the patches of one batch make together. */
export const PATCHED_BYTES_MAX = 8 * MiB;
/** Encoded bytes of a JSON message (begin, commit, ...). */
export const JSON_BYTES_MAX = 4 * MiB;
/** Bad ranges that a point's manifest may carry; a device with more is failing, not backed up. */
export const BAD_RANGES_MAX = 10_000;
/** Ranges that a point may leave out, and characters of a reason. */
export const EXCLUDED_RANGES_MAX = 1024;
export const EXCLUDED_REASON_CHARS_MAX = 200;
/**
 * Bytes that one backup may find unreadable: a device that is gone gives a single bad range, however large.
 */
export const BAD_BYTES_MAX = 16 * MiB;

/**
 * Of the records of journals in one message: to the receiver, and from it. A record is at most 1 MiB and its
 * header.
 */
export const JOURNAL_APPEND_BYTES_MAX = 8 * MiB;
export const JOURNAL_READ_BYTES_MAX = 8 * MiB;
/** Of one device, that a receiver keeps. */
export const JOURNALS_PER_DEVICE_MAX = 256;
/** A file of a journal's records at a receiver is not appended to any more when it has come to this. */
export const JOURNAL_FILE_BYTES = 64 * MiB;
/** Of one journal, that are kept; the oldest go. */
export const JOURNAL_AUDITS_MAX = 10_000;

/** A data pack is closed when its records reach this. */
export const PACK_BYTES_TARGET = 64 * MiB;
/**
 * What packs leave free on the store's disk: more than any one step of the index needs. Of a
 * small disk, a sixteenth.
 */
export const STORE_RESERVE_BYTES_MAX = 256 * MiB;
export const STORE_RESERVE_PART = 1 / 16;
/** Journals leave so many of these reserves: what packs may still use is not theirs. */
export const JOURNAL_RESERVES = 2;
/** A collection reads and writes so much a second beside open sessions. */
export const COLLECT_BYTES_PER_S = 64 * MiB;
/** Batches that an agent keeps in flight, not yet durable at the receiver: what a lost connection costs. */
export const BATCH_WINDOW = 4;
/**
 * What must have come within the time for a whole body, ten minutes: at 1 KiB/s a receiver gives up. That is
 * half of what each of two bodies gets that share the slowest link.
 */
export const BODY_BYTES_IN_TOTAL_TIME = 600 * KiB;
/** The least rate that a link may be limited to: 32 kbit/s. */
export const RATE_BYTES_PER_SECOND_MIN = 4000;
/** Windows of a day in one rate limit. */
export const RATE_WINDOWS_MAX = 48;
/** Request bodies that a receiver holds in memory at once, over all agents. */
export const RECEIVER_BODY_BYTES_MAX = 128 * MiB;
/** Small ones don't wait for the memory of large ones: questions, begins and commits. */
export const SMALL_BODY_BYTES_MAX = 64 * KiB;
export const RECEIVER_SMALL_BODY_BYTES_MAX = 16 * MiB;
/** Large answers (nodes, blocks) that it holds until they are taken. */
export const RECEIVER_ANSWER_BYTES_MAX = 128 * MiB;
/** Blocks that it makes of patches, and what it makes them of, over all agents. */
export const RECEIVER_PATCH_BYTES_MAX = 128 * MiB;

/** What a session delivered and no point was made of is kept so long after its last message. */
export const PARTIAL_KEEP_MS = 7 * 24 * 60 * 60 * 1000;
/** The least: an agent that only reads for a while sends nothing meanwhile. */
export const PARTIAL_KEEP_MS_MIN = 60 * 60 * 1000;
/** Of one agent, ended. Where there are more, the oldest are not kept any longer. */
export const PARTIAL_SETS_PER_AGENT_MAX = 256;

/**
 * After a renewal, programs of the agent that run go on with the former certificate for so long: a first
 * backup over a slow link takes weeks.
 */
export const FORMER_CERTIFICATE_MS = 60 * 24 * 60 * 60 * 1000;
export const INVITE_LIFETIME_MS = 60 * 60 * 1000;
/**
 * Manifests of one agent's points together: a receiver keeps all points in memory. Room for 200,000 usual
 * ones, of about 1.2 KiB; a session more can't be begun.
 */
export const AGENT_MANIFEST_BYTES_MAX = 256 * MiB;
/** Sessions that one agent may have open at once, one per device. */
export const SESSIONS_PER_AGENT_MAX = 64;
/** Of a group: each has an open session. */
export const GROUP_MEMBERS_MAX = 32;
/** Of one agent's configuration. */
export const GROUPS_MAX = 32;
/** Of what a commit says of how its provider came to the instant. */
export const PROVIDER_FACTS_MAX = 32;
/** Warnings that a commit may carry, and characters of one. */
export const WARNINGS_MAX = 1000;
export const WARNING_CHARS_MAX = 2000;
/** Request bodies that may wait for their share of memory, over all agents. */
export const RECEIVER_WAITING_MAX = 1024;
/** Each takes about 60 KiB. */
export const RECEIVER_CONNECTIONS_MAX = 2048;
/** Of one enrolled agent: four for each of its backups, and more to ask for orders. */
export const AGENT_CONNECTIONS_MAX = 512;
/**
 * Connections that have not shown a good certificate, of one address and of all: the oldest gives way, of the
 * address that has the most. Many agents may share an address, and all come back when a receiver restarts.
 */
export const ADDRESS_UNPROVEN_MAX = 128;
export const RECEIVER_UNPROVEN_MAX = 512;
/** After that they are closed: to enrol takes less. */
export const UNPROVEN_MS = 60_000;
/** Begins of one agent: one for each of its devices, and as many again. */
export const BEGINS_PER_MINUTE_MAX = 240;
/** Of one agent: one is enough for years, and each is an entry of the audit log. */
export const RENEWALS_PER_HOUR_MAX = 20;
/** Requests that a connection may have without an answer. */
export const PIPELINED_REQUESTS_MAX = 8;

/** Ranges that the report on an ordered comparison names, and characters of the reason of one. */
export const COMPARED_RANGES_MAX = 1000;
export const COMPARED_REASON_CHARS_MAX = 400;
/** Devices that one agent offers. */
export const OFFERS_MAX = 64;
/** Orders of one agent that have not ended. */
export const ORDERS_PER_AGENT_MAX = 64;
/** Longest wait of one `awaitOrder`, in ms. */
export const ORDER_WAIT_MS_MAX = 60_000;
/** Silence of an agent, by the receiver's clock, after which a backup that it began is given up as lost. */
export const ORDER_LEASE_MS = 120_000;
/**
 * Reports that tell of nothing new don't keep it longer: a disk may hang for ever. Nor does a queued order
 * wait longer for its turn.
 */
export const ORDER_STALLED_MS = 6 * 60 * 60_000;
export const ORDER_QUEUED_MS = 24 * 60 * 60_000;
/** For the first report of an agent that has taken an order. */
export const ORDER_START_MS = 30_000;
/**
 * Connections that an agent which listens holds from those that have not proven to be its
 * receiver; the oldest gives way.
 */
export const LISTENER_UNPROVEN_MAX = 32;
/** Proven ones that it holds ready. */
export const LISTENER_READY_MAX = 32;
/** Connections that a receiver opens to one agent that it dials, and how many of them wait unused. */
export const DIALLED_PER_AGENT_MAX = 128;
export const DIALLED_SPARE = 4;
/** Backups of a round at once. */
export const ROUND_PARALLEL_MAX = 64;
/** Lines of a round that are kept and shown afterwards; what went wrong comes first. */
export const ROUND_ITEMS_KEPT = 400;

/**
 * What a copy of a device in use may hold in memory before its instant: so much, or this part of the memory
 * that is available; and what it reads right before everybody waits, and while they do.
 */
export const LIVE_STAGING_BYTES = 256 * MiB;
export const LIVE_STAGING_SHARE = 1 / 4;
export const LIVE_CUT_BYTES_MAX = 256 * MiB;

/** Of the audit log: bytes of a file, files that are kept, entries that wait in memory for the disk. */
export const AUDIT_FILE_BYTES_MAX = 4 * MiB;
export const AUDIT_FILES_MAX = 64;
export const AUDIT_PENDING_MAX = 4096;
/** Restores whose bytes are counted at once. */
export const RESTORES_WATCHED_MAX = 1024;

/** What one agent may take, unless its receiver's operator says otherwise. */
export const AGENT_POINTS_MAX = 200_000;
export const AGENT_DEVICES_MAX = 1024;
export const AGENT_REQUESTS_PER_SECOND = 2000;
/** The least that an agent may be held to: a batch must come within the time for an answer. */
export const QUOTA_BYTES_PER_SECOND_MIN = 512 * KiB;

/** A receiver reads all that it stores back within it. */
export const SCRUB_PERIOD_MS = 30 * 24 * 60 * 60 * 1000;
export const SCRUB_PERIOD_MS_MIN = 60 * 60 * 1000;
