/**
 * How blocks are sent on a link of this speed: how much at once, how hard compressed, how soon after one
 * another. Pure. On a fast link it is the same as without a meter: whole batches, a full window, level 1, no
 * pauses.
 *
 * All bytes on their way together should take two seconds: a broken link costs that much, and a question has
 * to wait that long. But a batch should also take ten round trips: one passes until it is acknowledged, and
 * several if a packet at its end is lost, while the next batch fills the link. On a slow link a batch starts
 * when the one before it should have been sent: side by side they would end together and leave the link idle
 * for a round trip, and all together they would overflow the queue before a modem.
 */
import { BATCH_RAW_BYTES_TARGET, BATCH_WINDOW, BLOCKS_REQUEST_RAW_BYTES, KiB } from '../base/limits.js';
import type { LinkSpeed } from './link-meter.js';

export interface Sending {
  /** Of changed blocks in one batch; a block is never cut, and one always goes. */
  readonly rawBytes: number;
  /** Batches on their way at once, each over a connection of its own. */
  readonly window: number;
  /** What a byte takes; 0: nobody waits for what went before. */
  readonly msPerByte: number;
  /** An answer that comes so much later than its body has gone is held up by lost packets. */
  readonly overdueMs: number;
  /** Of zstd. */
  readonly compressionLevel: number;
}

/** What of it goes for requests too. */
export type Fetching = Pick<Sending, 'rawBytes' | 'window'>;

const IN_FLIGHT_SECONDS = 2;
const BATCH_ROUND_TRIPS = 10;
/**
 * Until something was acknowledged: a slow link is not given what it needs minutes for, a
 * fast one has it in no time.
 */
const FIRST_RAW_BYTES = 256 * KiB;
/** Below, each connection more costs a second of certificates. */
const SLOW_BYTES_PER_SECOND = 64 * KiB;
const SLOW_WINDOW = 2;
const OVERDUE_ROUND_TRIPS = 2;
const OVERDUE_MS = 500;
/**
 * The handshake of a first connection is as much arithmetic as transfer: the link is
 * likely faster than it looks.
 */
const GUESS_FACTOR = 16;

/**
 * What a block of a disk shrinks to, where nothing is known of this one; and what is believed at
 * most of zeros and the like.
 */
export const SHRINK_USUAL = 0.5;
const SHRINK_MIN = 0.01;

/**
 * The highest level that takes at most a quarter of one core at this speed, if the blocks shrink to a third.
 * Measured with `zstd -b1 -e19 -B64KB` (1.5.4) on one core of the machine of docs/figures.md, over 8 MB of
 * JavaScript and 24 MB of machine code:
 *
 * | level         |    1 |    2 |    3 |    4 |    5 |    6 |    9 |   12 |   13 |   14 |   16 |   19 |
 * |---------------|------|------|------|------|------|------|------|------|------|------|------|------|
 * | MB/s          |  232 |  265 |  208 |  212 |   81 |   61 |   41 |   23 |   15 |   11 |  6.8 |  3.1 |
 * | size, % of -1 |  100 | 97.2 | 94.8 | 93.0 | 90.0 | 88.4 | 87.4 | 87.1 | 86.5 | 83.7 | 83.2 | 82.9 |
 *
 * Levels between these gain next to nothing over the one before. Above 20 Mbit/s it is always 1, though 4
 * would cost little: what looks like a link of some MB/s is often a receiver, or this machine, with too few
 * cores, which higher levels would leave even fewer.
 */
const LEVELS: readonly { readonly level: number; readonly bytesPerSecondMax: number }[] = [
  { level: 19, bytesPerSecondMax: 250e3 },
  { level: 16, bytesPerSecondMax: 560e3 },
  { level: 14, bytesPerSecondMax: 880e3 },
  { level: 6, bytesPerSecondMax: 2.5e6 },
];
const LEVEL_FAST = 1;

export function levelFor(bytesPerSecond: number | null): number {
  if (bytesPerSecond === null) return LEVEL_FAST;
  return LEVELS.find(({ bytesPerSecondMax }) => bytesPerSecond <= bytesPerSecondMax)?.level ?? LEVEL_FAST;
}

/** @param shrink compressed bytes of a raw one, of late. */
export function sendingAt(link: LinkSpeed, shrink: number): Sending {
  const { bytesPerSecond, isMeasured, isGuess } = link;
  if (bytesPerSecond === null) {
    return { rawBytes: FIRST_RAW_BYTES, window: 1, msPerByte: 0, overdueMs: 0, compressionLevel: LEVEL_FAST };
  }
  const shared = share(link, BATCH_RAW_BYTES_TARGET, shrink);
  const isFast = shared.rawBytes === BATCH_RAW_BYTES_TARGET;
  return {
    ...shared,
    msPerByte: isFast || isGuess ? 0 : 1000 / bytesPerSecond,
    overdueMs: OVERDUE_MS + OVERDUE_ROUND_TRIPS * (link.roundTripMs ?? 0),
    compressionLevel: levelFor(isMeasured ? bytesPerSecond : bytesPerSecond * GUESS_FACTOR),
  };
}

/** The same for blocks that are asked for: raw bytes of one request, and requests at once. */
export function fetchingAt(link: LinkSpeed): Fetching {
  if (link.bytesPerSecond === null) return { rawBytes: FIRST_RAW_BYTES, window: 1 };
  return share(link, BLOCKS_REQUEST_RAW_BYTES, SHRINK_USUAL);
}

function share(link: LinkSpeed, rawBytesMax: number, shrink: number): Fetching {
  const { isMeasured, roundTripMs } = link;
  const speed = link.bytesPerSecond ?? Number.POSITIVE_INFINITY;
  const window = speed < SLOW_BYTES_PER_SECOND ? SLOW_WINDOW : BATCH_WINDOW;
  const seconds = Math.max(IN_FLIGHT_SECONDS / window, (BATCH_ROUND_TRIPS * (roundTripMs ?? 0)) / 1000);
  const fitting = (speed * seconds) / Math.max(shrink, SHRINK_MIN);
  return { rawBytes: Math.floor(Math.min(fitting, isMeasured ? rawBytesMax : FIRST_RAW_BYTES)), window };
}
