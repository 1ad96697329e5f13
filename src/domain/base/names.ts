/** Names that become parts of paths and URLs: checked once, at the edge. */
import { StillpointError } from './errors.js';

export const NAME_CHARS_MAX = 64;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const HEX_ID = /^[0-9a-f]{32}$/;
const HEX_DIGEST = /^[0-9a-f]{64}$/;

/** Who owns the devices that are backed up into a store's directory itself, without network. */
export const LOCAL_AGENT = 'local';

/**
 * @throws StillpointError `bad-name` unless it is 1 to 64 letters, digits, dots, dashes or underscores, the
 * first a letter or digit.
 */
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
