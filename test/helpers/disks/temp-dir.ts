/** Directories for tests that sync a lot, in memory where the machine has such a place. */
import { accessSync, constants } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';

function fastPlace(): string {
  try {
    accessSync('/dev/shm', constants.W_OK);
    return '/dev/shm';
  } catch {
    return tmpdir();
  }
}

/** A new empty directory, removed when the test ends. */
export async function tempDir(t: Pick<ExecutionContext, 'teardown'>): Promise<string> {
  const dir = await mkdtemp(join(fastPlace(), 'stillpoint-test-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  return dir;
}
