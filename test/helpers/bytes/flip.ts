/** Damage to files. */
import { readFile, writeFile } from 'node:fs/promises';

/** A copy with one bit of the byte flipped. */
export function flip(bytes: Buffer, at: number): Buffer {
  const flipped = Buffer.from(bytes);
  if (flipped.length > 0) flipped.writeUInt8(flipped.readUInt8(at) ^ 1, at);
  return flipped;
}

/** Nothing of the file is as it was. */
export async function flipEvery(path: string): Promise<void> {
  await writeFile(
    path,
    (await readFile(path)).map((byte) => byte ^ 0xff),
  );
}
