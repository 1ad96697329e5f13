/**
 * scan -> have, pieces -> cut -> encode -> batch: one chunk is being asked about, some batches are encoded
 * ahead, several are on their way, all in the order of the device. The sender asks about a whole chunk and
 * then cuts it into batches that suit the link (src/domain/session/sending.ts). So one question serves many
 * batches. Bounded: ASK_AHEAD chunks of raw bytes and the rest of one, PREPARE_AHEAD bodies, and at most
 * BATCH_WINDOW bodies not yet durable.
 */
import { DIGEST_BYTES, HAVE_DIGESTS_MAX } from '../../domain/base/limits.js';
import { isNull } from '../../domain/tree/digest-tree.js';
import { type LeafOverlay, native, type Scan, type ScanChunk } from '../../native/index.js';
import { decodeHeld, encodeHeld } from '../../protocol/codecs/have-codec.js';
import { InFlight } from '../common/in-flight.js';
import type { Pace } from '../common/pace.js';
import type { BadBlockRepair } from './bad-block-repair.js';
import { type AskedPieces, Patches, type PatchOptions } from './patches.js';
import type { SessionLink } from './session-link.js';

const ASK_AHEAD = 1;
const PREPARE_AHEAD = 2;

export interface SendOptions extends PatchOptions {
  readonly scan: Scan;
  readonly overlay: LeafOverlay;
  readonly repair: BadBlockRepair;
  readonly pace: Pace;
  /** Is told of a bad block that goes again; the scan counts the others. */
  readonly onAgain: (byteLength: number) => void;
  /** Number of the last batch before these. */
  readonly lastSequence: number;
  /** The scan's good blocks are in batches that are durable already: read for the tree alone. */
  readonly isDurable: boolean;
}

interface Asked {
  readonly chunk: ScanChunk;
  readonly told: Promise<Told>;
}

/** What the receiver says of a chunk. */
interface Told {
  /** Empty where there is nothing to ask about. */
  /** Positions among the payload entries. */
  readonly held: ReadonlySet<number>;
  readonly pieces: AskedPieces | null;
}

const NOTHING_TOLD: Told = { held: new Set(), pieces: null };

interface Prepared {
  readonly sequence: number;
  readonly body: Promise<Uint8Array>;
}

/** @returns the number of the last batch; all are durable. */
export async function sendChanges(options: SendOptions): Promise<number> {
  const { scan, link, pace } = options;
  const batches = new InFlight(() => pace.inFlightMax);
  const asked: Asked[] = [];
  const prepared: Prepared[] = [];
  const patches = new Patches(options);
  let sequence = options.lastSequence;
  const sendFirst = async () => {
    const first = prepared.shift();
    if (first === undefined) return;
    const body = await first.body;
    await batches.room();
    await pace.turn(body.length, link.signal);
    await batches.start(async () => {
      await link.batch(first.sequence, body).finally(() => pace.ended());
      native.freeBuffer(body);
    });
    if (first.sequence === options.lastSequence + 1 && pace.now.msPerByte > 0) link.prepare();
  };
  const prepare = async (encode: (sequence: number) => Promise<Uint8Array>) => {
    sequence += 1;
    const body = encode(sequence);
    body.catch(() => undefined); // It is awaited in its turn; until then nobody listens.
    prepared.push({ sequence, body });
    while (prepared.length > PREPARE_AHEAD) await sendFirst();
  };
  const prepareFirst = async () => {
    const first = asked.shift();
    if (first === undefined) return;
    const { badBlocks } = first.chunk;
    if (options.isDurable) first.chunk.release();
    else await prepareChunk(first, options, patches, prepare);
    for (const block of badBlocks) {
      const bytes = await options.repair.repair(block);
      await prepareBadBlock(block.blockIndex, bytes, options, prepare);
    }
  };
  try {
    for (let chunk = await scan.next(); chunk !== null; chunk = await scan.next()) {
      const told = options.isDurable ? Promise.resolve(NOTHING_TOLD) : askAbout(chunk, link, patches);
      told.catch(() => undefined);
      asked.push({ chunk, told });
      while (asked.length > ASK_AHEAD) await prepareFirst();
    }
    while (asked.length > 0) await prepareFirst();
    while (prepared.length > 0) await sendFirst();
    await batches.drain();
    return sequence;
  } catch (error) {
    link.stop();
    throw error;
  } finally {
    await batches.settle();
    await Promise.allSettled([...prepared.map(({ body }) => body), ...asked.map(({ told }) => told)]);
    for (const { chunk } of asked) chunk.release();
  }
}

type Prepare = (encode: (sequence: number) => Promise<Uint8Array>) => Promise<void>;

/** Cuts as it goes: what the link carries may have changed by the time that the next piece has its turn. */
async function prepareChunk(
  asked: Asked,
  options: SendOptions,
  patches: Patches,
  prepare: Prepare,
): Promise<void> {
  const { pace } = options;
  let rest: ScanChunk | null = asked.chunk;
  try {
    const { pieces, ...told } = await asked.told;
    let { held } = told;
    while (rest !== null && rest.entryCount > 0) {
      const whole: ScanChunk = rest;
      const [piece, after] =
        whole.rawBytes <= pace.now.rawBytes
          ? [whole, null]
          : whole.split(pace.now.rawBytes, encodeHeld(held, payloadCount(whole)));
      rest = after;
      const count = payloadCount(piece);
      const ofPiece = within(held, 0, count);
      held = within(held, count, rest === null ? 0 : payloadCount(rest));
      await prepare(async (sequence) => {
        const body = await encodePart(piece, { held: ofPiece, pieces }, options, sequence);
        patches.observe(piece, pieces);
        return body;
      });
    }
  } finally {
    rest?.release();
  }
}

async function encodePart(
  piece: ScanChunk,
  { held, pieces }: Told,
  options: SendOptions,
  sequence: number,
): Promise<Uint8Array> {
  const count = payloadCount(piece);
  const sentShare = count === 0 ? 0 : 1 - held.size / count;
  try {
    const ofPieces = pieces === null ? {} : { pieces: pieces.of(piece) };
    const body = await piece.encode({
      ...headerOf(options, sequence),
      held: encodeHeld(held, count),
      ...ofPieces,
    });
    if (sentShare > 0) options.pace.encoded(piece.rawBytes * sentShare, body.length);
    return body;
  } catch (error) {
    piece.release();
    throw error;
  }
}

function payloadCount(chunk: ScanChunk): number {
  return chunk.digests.length / DIGEST_BYTES;
}

/** Of the positions those in [start, start + count), counted from `start`. */
function within(held: ReadonlySet<number>, start: number, count: number): ReadonlySet<number> {
  const found = new Set<number>();
  for (const at of held) if (at >= start && at < start + count) found.add(at - start);
  return found;
}

/**
 * A block that came out as what is known of it, from an earlier pass or else from the base point, differs in
 * nothing and is not sent; unless the session may have other bytes of it, from before, when it could be read.
 */
async function prepareBadBlock(
  blockIndex: number,
  bytes: Uint8Array,
  options: SendOptions,
  prepare: Prepare,
): Promise<void> {
  const { baseTree, overlay, isDurable } = options;
  const { digester } = baseTree;
  const leaf = digester.leafDigest(bytes);
  const sent = overlay.get(blockIndex);
  if (!isDurable && leaf.equals(sent ?? baseTree.leaves(blockIndex, 1))) return;
  if (sent !== null && !isNull(sent)) options.onAgain(bytes.length);
  overlay.put(blockIndex, leaf);
  await prepare((sequence) =>
    native.encodeBlock({ ...headerOf(options, sequence), blockIndex, bytes, digester }),
  );
}

function headerOf({ link, pace }: SendOptions, sequence: number) {
  const { compressionLevel } = pace.now;
  return { sessionId: link.sessionId, sequence, agentTimeMs: Date.now(), compressionLevel };
}

async function askAbout(chunk: ScanChunk, link: SessionLink, patches: Patches): Promise<Told> {
  const [held, pieces] = await Promise.all([askHeld(link, chunk.digests), patches.ask(chunk)]);
  return { held, pieces };
}

async function askHeld(link: SessionLink, digests: Buffer): Promise<ReadonlySet<number>> {
  const held = new Set<number>();
  const count = digests.length / DIGEST_BYTES;
  for (let start = 0; start < count; start += HAVE_DIGESTS_MAX) {
    const end = Math.min(start + HAVE_DIGESTS_MAX, count);
    const answer = await link.have(digests.subarray(start * DIGEST_BYTES, end * DIGEST_BYTES));
    for (const at of decodeHeld(answer, end - start)) held.add(start + at);
  }
  return held;
}
