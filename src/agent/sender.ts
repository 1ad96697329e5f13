/**
 * scan -> have, pieces -> encode -> batch: several chunks being asked about and encoded ahead, several batches on their way, all in
 * the order of the device. Bounded: PREPARE_AHEAD chunks of raw bytes, as many bodies, and BATCH_WINDOW bodies not yet durable.
 */
import { BATCH_WINDOW, DIGEST_BYTES, HAVE_DIGESTS_MAX } from '../domain/limits.js';
import { type LeafOverlay, native, type Scan, type ScanChunk } from '../native/index.js';
import type { BadBlockRepair } from './bad-block-repair.js';
import { InFlight } from './in-flight.js';
import { Patches, type PatchOptions } from './patches.js';
import type { SessionLink } from './session-link.js';

const PREPARE_AHEAD = 2;

export interface SendOptions extends PatchOptions {
  readonly scan: Scan;
  readonly overlay: LeafOverlay;
  readonly repair: BadBlockRepair;
  readonly compressionLevel: number;
  /** Number of the last batch before these. */
  readonly lastSequence: number;
  /** The scan's good blocks are in batches that are durable already: read for the tree alone. */
  readonly isDurable: boolean;
}

interface Prepared {
  readonly sequence: number;
  readonly body: Promise<Uint8Array>;
}

/** @returns the number of the last batch; all are durable. */
export async function sendChanges(options: SendOptions): Promise<number> {
  const { scan, link } = options;
  const batches = new InFlight(BATCH_WINDOW);
  const prepared: Prepared[] = [];
  const patches = new Patches(options);
  let sequence = options.lastSequence;
  const prepare = (encode: (sequence: number) => Promise<Uint8Array>) => {
    sequence += 1;
    const body = encode(sequence);
    body.catch(() => undefined); // It is awaited in its turn; until then nobody listens.
    prepared.push({ sequence, body });
  };
  const sendFirst = async () => {
    const first = prepared.shift();
    if (first === undefined) return;
    const body = await first.body;
    await batches.start(async () => {
      await link.batch(first.sequence, body);
      native.freeBuffer(body);
    });
  };
  try {
    for (let chunk = await scan.next(); chunk !== null; chunk = await scan.next()) {
      const { badBlocks } = chunk;
      if (options.isDurable) chunk.release();
      else prepareChunk(chunk, options, patches, prepare);
      for (const block of badBlocks) {
        const bytes = await options.repair.repair(block);
        prepareBadBlock(block.blockIndex, bytes, options, prepare);
      }
      while (prepared.length > PREPARE_AHEAD) await sendFirst();
    }
    while (prepared.length > 0) await sendFirst();
    await batches.drain();
    return sequence;
  } catch (error) {
    link.stop();
    throw error;
  } finally {
    await batches.settle();
    await Promise.allSettled(prepared.map(({ body }) => body));
  }
}

type Prepare = (encode: (sequence: number) => Promise<Uint8Array>) => void;

function prepareChunk(chunk: ScanChunk, options: SendOptions, patches: Patches, prepare: Prepare): void {
  if (chunk.entryCount === 0) {
    chunk.release();
    return;
  }
  prepare(async (sequence) => {
    try {
      const [held, asked] = await Promise.all([askHeld(options.link, chunk.digests), patches.ask(chunk)]);
      const pieces = asked === null ? {} : { pieces: asked.of(chunk) };
      const body = await chunk.encode({ ...headerOf(options, sequence), held, ...pieces });
      patches.observe(chunk, asked);
      return body;
    } catch (error) {
      chunk.release();
      throw error;
    }
  });
}

/**
 * A block that came out as it is in the base point differs in nothing, and is not sent; unless the session may have other bytes of it,
 * from before, when it could be read.
 */
function prepareBadBlock(
  blockIndex: number,
  bytes: Uint8Array,
  options: SendOptions,
  prepare: Prepare,
): void {
  const leaf = native.leafDigest(bytes);
  if (!options.isDurable && leaf.equals(options.baseTree.leaves(blockIndex, 1))) return;
  options.overlay.put(blockIndex, leaf);
  prepare((sequence) => native.encodeBlock({ ...headerOf(options, sequence), blockIndex, bytes }));
}

function headerOf({ link, compressionLevel }: SendOptions, sequence: number) {
  return { sessionId: link.sessionId, sequence, agentTimeMs: Date.now(), compressionLevel };
}

async function askHeld(link: SessionLink, digests: Buffer): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  const partBytes = HAVE_DIGESTS_MAX * DIGEST_BYTES;
  for (let at = 0; at < digests.length; at += partBytes) {
    parts.push(await link.have(digests.subarray(at, at + partBytes)));
  }
  return Buffer.concat(parts);
}
