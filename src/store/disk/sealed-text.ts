/** Sealed text (docs/format.md section 5): one line of magic, version and checksum, then JSON. For small files that people may read. */
import { StillpointError } from '../../domain/base/errors.js';
import { native } from '../../native/index.js';

export type SealedMagic =
  | 'stillpoint-store'
  | 'stillpoint-point'
  | 'stillpoint-capture'
  | 'stillpoint-partial';

const VERSION = 1;
const HEAD = /^(stillpoint-[a-z]+) (\d{1,9}) ([0-9a-f]{64})$/;

export function encodeSealed(magic: SealedMagic, body: object): Buffer {
  const bytes = Buffer.from(`${JSON.stringify(body, null, 2)}\n`);
  return Buffer.concat([
    Buffer.from(`${magic} ${VERSION} ${native.checksum(bytes).toString('hex')}\n`),
    bytes,
  ]);
}

/**
 * @param thing names the file in errors
 * @throws StillpointError `store-damaged`, or `version` for a file that a newer program wrote
 */
export function decodeSealed(magic: SealedMagic, bytes: Buffer, thing: string): Record<string, unknown> {
  const damaged = (reason: string) => new StillpointError('store-damaged', { thing, reason });
  const end = bytes.subarray(0, 128).indexOf('\n');
  const head = HEAD.exec(bytes.toString('latin1', 0, Math.max(end, 0)));
  if (head === null || head[1] !== magic) throw damaged(`its first line is not that of a ${magic} file`);
  const body = bytes.subarray(end + 1);
  const isIntact = native.checksum(body).toString('hex') === head[3];
  if (Number(head[2]) !== VERSION) {
    throw new StillpointError('version', {
      thing,
      reason: `it has format version ${head[2]}, and this program reads version ${VERSION}`,
      remedy: 'Use the program that wrote it, or a newer one.',
    });
  }
  if (!isIntact) throw damaged('its checksum is wrong');
  const value: unknown = JSON.parse(body.toString('utf8'));
  if (typeof value !== 'object' || value === null) throw damaged('it holds no object');
  return value as Record<string, unknown>;
}
