/**
 * Where the program's own files are: in a checkout, or in the directory of an installed version, which lies
 * as a checkout does (scripts/packaging/program.mjs). Compiled code is below `build/`, file by file or
 * bundled into one.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const self = fileURLToPath(import.meta.url);
const HOME = self.slice(0, self.lastIndexOf('/build/'));

/** @param name of a file or directory, from the root of the checkout, or of the installed version. */
export function checkoutPath(name: string): string {
  return join(HOME, name);
}
