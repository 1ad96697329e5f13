/** Damage to single records of a store's packs, by the digest that they go under. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { listFiles } from './disk.js';

/** Every record of the kind and digest. @param kind RECORD_KIND_BLOCK or RECORD_KIND_NODE */
export async function findRecords(
  storeDir: string,
  kind: number,
  digest: Buffer,
): Promise<{ path: string; offset: number }[]> {
  const found: { path: string; offset: number }[] = [];
  for (const name of await listFiles(join(storeDir, 'packs'))) {
    const path = join(storeDir, 'packs', name);
    const bytes = await readFile(path);
    for (let at = bytes.indexOf(digest); at !== -1; at = bytes.indexOf(digest, at + 1)) {
      if (at >= 16 && bytes.toString('latin1', at - 16, at - 12) === 'SPR1' && bytes[at - 12] === kind) {
        found.push({ path, offset: at - 16 });
      }
    }
  }
  return found;
}

/** One bit of the stored bytes of every such record. */
export async function flipRecords(storeDir: string, kind: number, digest: Buffer): Promise<void> {
  const records = await findRecords(storeDir, kind, digest);
  if (records.length === 0) throw new Error('no pack has the record');
  for (const { path, offset } of records) {
    const bytes = await readFile(path);
    bytes[offset + 90] = (bytes[offset + 90] ?? 0) ^ 4;
    await writeFile(path, bytes);
  }
}
