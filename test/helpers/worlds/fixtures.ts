/** The fixtures of formats, unpacked for a test (test/fixtures/README.md). */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmod, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { tempDir } from '../disks/temp-dir.js';

export function fixturePath(name: string): string {
  return fileURLToPath(new URL(`../../../../../test/fixtures/${name}`, import.meta.url));
}

export async function unpacked(t: ExecutionContext, name: string): Promise<string> {
  const dir = await tempDir(t);
  await promisify(execFile)('tar', ['-xzf', fixturePath(name), '-C', dir]);
  await chmod(dir, 0o700);
  return dir;
}

/** Files below the directory, by name, with what is in them; without those of processes and caches. */
export async function contentsOf(dir: string): Promise<Map<string, string>> {
  const names = (await readdir(dir, { recursive: true })).sort();
  const contents = new Map<string, string>();
  for (const name of names) {
    if (/(^|\/)(lock|readers|index|collect)(\/|$)/.test(name) || !(await stat(join(dir, name))).isFile())
      continue;
    contents.set(
      name,
      createHash('sha256')
        .update(await readFile(join(dir, name)))
        .digest('hex'),
    );
  }
  return contents;
}
