/**
 * The name that a device gets if the user gives none: made from its path, readable, and different for
 * different paths.
 */
import { createHash } from 'node:crypto';
import { NAME_CHARS_MAX } from '../domain/base/names.js';

const DIGEST_CHARS = 8;

/**
 * `/dev/mapper/vg-root` gives `dev-mapper-vg-root`. Where a name can't hold all of the path (other alphabets,
 * blanks, a long path), a digest of the path follows what it can hold: two devices must not come to one name.
 * `/a-b` and `/a/b` still do; there the devices' identities are compared, and the second one is refused.
 * @param path absolute, normalized
 */
export function defaultName(path: string): string {
  const plain = path.slice(1).replaceAll('/', '-');
  if (plain.length <= NAME_CHARS_MAX && /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(plain)) return plain;
  const digest = createHash('sha256').update(path).digest('hex').slice(0, DIGEST_CHARS);
  const readable = path
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .slice(-(NAME_CHARS_MAX - 1 - DIGEST_CHARS))
    .replace(/^[^A-Za-z0-9]+|[-.]+$/g, '');
  return `${readable === '' ? 'device' : readable}-${digest}`;
}
