/**
 * Sealed text (docs/format.md section 5): one line of magic, version and checksum, then JSON. It is for small
 * files that people may read.
 */
import { StillpointError } from '../../domain/base/errors.js';
import { native } from '../../native/index.js';

export type SealedMagic =
  | 'stillpoint-store'
  | 'stillpoint-point'
  | 'stillpoint-decision'
  | 'stillpoint-capture'
  | 'stillpoint-partial'
  | 'stillpoint-removed'
  | 'stillpoint-scrub'
  | 'stillpoint-retention'
  | 'stillpoint-clock'
  | 'stillpoint-journal'
  | 'stillpoint-end'
  | 'stillpoint-audits';

/**
 * One number for all of a store's sealed texts: it moves when any of them changes, and store.json says which
 * one the store has come to.
 */
export const SEALED_VERSION = 4;
const FORMER_VERSIONS: readonly number[] = [1, 2, 3];
const HEAD = /^(stillpoint-[a-z]+) (\d{1,9}) ([0-9a-f]{64})$/;

export function encodeSealed(magic: SealedMagic, body: object): Buffer {
  const bytes = Buffer.from(`${JSON.stringify(body, null, 2)}\n`);
  return Buffer.concat([
    Buffer.from(`${magic} ${SEALED_VERSION} ${native.checksum(bytes).toString('hex')}\n`),
    bytes,
  ]);
}

export interface SealedText {
  /** That it was written in. */
  readonly version: number;
  readonly body: Readonly<Record<string, unknown>>;
}

/**
 * @param thing names the file in errors
 * @throws StillpointError `store-damaged`, or `version` for a file that a newer program wrote
 */
export function decodeSealed(magic: SealedMagic, bytes: Buffer, thing: string): SealedText {
  const damaged = (reason: string) => new StillpointError('store-damaged', { thing, reason });
  const end = bytes.subarray(0, 128).indexOf('\n');
  const head = HEAD.exec(bytes.toString('latin1', 0, Math.max(end, 0)));
  if (head === null || head[1] !== magic) throw damaged(`its first line is not that of a ${magic} file`);
  const body = bytes.subarray(end + 1);
  const isIntact = native.checksum(body).toString('hex') === head[3];
  const version = Number(head[2]);
  if (version !== SEALED_VERSION && !FORMER_VERSIONS.includes(version)) {
    throw new StillpointError('version', {
      thing,
      reason: `it has format version ${version}, and this program reads 1 to ${SEALED_VERSION}`,
      remedy: 'Use the program that wrote it, or a newer one.',
    });
  }
  if (!isIntact) throw damaged('its checksum is wrong');
  const value: unknown = JSON.parse(body.toString('utf8'));
  if (typeof value !== 'object' || value === null) throw damaged('it holds no object');
  return { version, body: value as Record<string, unknown> };
}
