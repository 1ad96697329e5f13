/** What an agent knows about a receiver that it is enrolled with. */
import { StillpointError } from '../../domain/base/errors.js';

/** All that an agent needs to speak to a receiver. */
export interface Enrolment {
  readonly receiverId: string;
  /** `https://HOST:PORT`. */
  readonly url: string;
  readonly agent: string;
  /** The receiver's CA certificate, PEM. */
  readonly authority: string;
  /** The agent's key (PKCS#8) and certificate, PEM. */
  readonly key: string;
  readonly certificate: string;
}

/** In place of a URL, of a receiver that can only call: a name that never resolves (RFC 2606). */
export function callerOrigin(receiverId: string): string {
  return `https://${receiverId}.invalid`;
}

export function isCaller({ url, receiverId }: Enrolment): boolean {
  return url === callerOrigin(receiverId);
}

/** `https://HOST:PORT`, the form in which URLs are kept and compared. @throws StillpointError `usage` */
export function receiverOrigin(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (parsed?.protocol === 'https:' && parsed.hostname !== '') return parsed.origin;
  throw new StillpointError('usage', {
    thing: `URL ${JSON.stringify(url)}`,
    reason: 'it is not https://HOST[:PORT]',
    remedy: 'Use the URL that "stillpoint receiver invite" printed.',
  });
}
