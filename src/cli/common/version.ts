import { readFileSync } from 'node:fs';
import { checkoutPath } from '../../native/checkout.js';

/** Of this program. */
export function ownVersion(): string {
  return (JSON.parse(readFileSync(checkoutPath('package.json'), 'utf8')) as { version: string }).version;
}
