/**
 * Blocks that compress as those of real disks do: pieces of the programs and texts that every
 * machine with this project has.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const SOURCES = [process.execPath, createRequire(import.meta.url).resolve('typescript')];

/** Alternately machine code and text, none like another. */
export function realBlocks(count: number, blockSize: number): Buffer[] {
  const contents = SOURCES.map((path) => readFileSync(path));
  return Array.from({ length: count }, (_, number) => {
    const content = contents[number % contents.length] ?? Buffer.alloc(0);
    const pieces = Math.floor(content.length / blockSize);
    // From the middle on: the beginnings are tables.
    const piece = (Math.floor(pieces / 3) + number * 7) % pieces;
    return Buffer.from(content.subarray(piece * blockSize, (piece + 1) * blockSize));
  });
}

/** As the program does it, without a header's checksum: each block for itself. */
export function zstdBytes(blocks: readonly Buffer[], level: number): number {
  return blocks.reduce((sum, input) => {
    const { stdout, status } = spawnSync('zstd', [`-${level}`, '--no-check', '-c'], { input });
    if (status !== 0) throw new Error('zstd failed');
    return sum + stdout.length;
  }, 0);
}
