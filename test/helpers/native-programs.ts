/** The programs of native/test/programs, which only a set-up for tests builds. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** @throws with what to do if it is not built */
export function nativeProgram(name: 'nbd_load' | 'tap_kills'): string {
  const path = fileURLToPath(new URL(`../../../native/Release/${name}`, import.meta.url));
  if (existsSync(path)) return path;
  throw new Error(`${path}: it is not built. Build it with "npm run build:native -- --test-programs".`);
}
