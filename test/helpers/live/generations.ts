/**
 * What writer.py writes to a file or a device, block after block, each durable before the next is begun: any
 * one instant has a beginning of it.
 */
import { readFile } from 'node:fs/promises';
import { KiB } from '../../../src/domain/base/limits.js';

const BLOCK = 4 * KiB;
const CELL = 16;

/**
 * @param count of blocks that are written, one for each `strideBytes`
 * @returns the generation of each block
 * Throws if a block is torn, or of another place.
 */
export async function generationsIn(path: string, count: number, strideBytes = BLOCK): Promise<number[]> {
  const bytes = await readFile(path);
  return Array.from({ length: count }, (_, index) => {
    const block = bytes.subarray(index * strideBytes, index * strideBytes + BLOCK);
    const generation = Number(block.readBigUInt64LE(8));
    const cell = Buffer.alloc(CELL);
    cell.writeBigUInt64LE(BigInt(index), 0);
    cell.writeBigUInt64LE(BigInt(generation), 8);
    if (!block.equals(Buffer.alloc(BLOCK, cell)))
      throw new Error(`block ${index} is torn, or of another place`);
    return generation;
  });
}

/** Each is as new as the one before it, or one generation older, once. */
export function isOneInstant(generations: readonly number[]): boolean {
  const [first = 0, last = 0] = [generations[0], generations.at(-1)];
  const isFalling = generations.every((one, index) => one <= (generations[index - 1] ?? first));
  return isFalling && first - last <= 1;
}
