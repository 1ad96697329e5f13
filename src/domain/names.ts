/** Names that become parts of paths and URLs: checked once, at the edge. */
import { StillpointError } from './errors.js';

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const HEX_ID = /^[0-9a-f]{32}$/;
const HEX_DIGEST = /^[0-9a-f]{64}$/;

/** @throws StillpointError `bad-name` unless it is 1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit. */
export function checkName(what: string, name: string): string {
  if (!NAME.test(name)) {
    throw new StillpointError('bad-name', {
      thing: `${what} ${JSON.stringify(name.slice(0, 80))}`,
      reason:
        'a name has 1 to 64 letters, digits, dots, dashes or underscores and starts with a letter or digit',
      remedy: 'Choose another one.',
    });
  }
  return name;
}

export function isHexId(text: string): boolean {
  return HEX_ID.test(text);
}

export function isHexDigest(text: string): boolean {
  return HEX_DIGEST.test(text);
}

/** A readable device name from its path: `/dev/mapper/vg-root` gives `dev-mapper-vg-root`. */
export function deviceNameFromPath(path: string): string {
  const name = path
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(-64)
    .replace(/^[^A-Za-z0-9]+/, '');
  return name === '' ? 'device' : name;
}
