/** Where the program's own files are. Compiled code is below `build/`, file by file or bundled into one. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const self = fileURLToPath(import.meta.url);
const CHECKOUT = self.slice(0, self.lastIndexOf('/build/'));

/** @param name of a file or directory, from the root of the checkout. */
export function checkoutPath(name: string): string {
  return join(CHECKOUT, name);
}
