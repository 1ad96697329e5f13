/**
 * Writes 1, 2, 3 ... into two files in turn, each safe on disk before the next. Arguments: the two paths.
 * Prints a line for each, and ends with its parent.
 */
import { open } from 'node:fs/promises';

const files = await Promise.all(process.argv.slice(2, 4).map((path) => open(path, 'w')));
process.stdin.on('end', () => process.exit()).resume();
for (let n = 1; ; n += 1) {
  const file = files[n % 2];
  await file?.write(Buffer.from(String(n).padStart(8, '0')), 0, 8, 0);
  await file?.sync();
  process.stdout.write(`${n}\n`);
}
