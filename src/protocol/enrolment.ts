/** What an agent knows of a receiver that it is enrolled with. */
import { StillpointError } from '../domain/errors.js';

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
