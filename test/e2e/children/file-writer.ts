/**
 * Writes files to a directory until it is killed. Each holds its own digest; a line tells when
 * it was on disk, directory included, and when it is about to go: `{ name, on }`,
 * `{ name, off }`, CLOCK_MONOTONIC in ns.
 */
import { createHash, randomBytes, randomInt } from 'node:crypto';
import { closeSync, fsyncSync, openSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const KEPT = 200;
const directory = process.argv[2] ?? '';
const tell = (line: object): void => void writeSync(1, `${JSON.stringify(line)}\n`);
const now = (): string => String(process.hrtime.bigint());

function syncPath(path: string): void {
  const descriptor = openSync(path, 'r');
  fsyncSync(descriptor);
  closeSync(descriptor);
}

for (let index = 0; ; index += 1) {
  const name = `file-${index}`;
  const content = randomBytes(1 + randomInt(60_000));
  const descriptor = openSync(join(directory, 'new'), 'w');
  writeSync(descriptor, createHash('sha256').update(content).digest());
  writeSync(descriptor, content);
  fsyncSync(descriptor);
  closeSync(descriptor);
  renameSync(join(directory, 'new'), join(directory, name));
  syncPath(directory);
  tell({ name, on: now() });
  if (index < KEPT) continue;
  const old = `file-${index - KEPT}`;
  tell({ name: old, off: now() });
  unlinkSync(join(directory, old));
}
