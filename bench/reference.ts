/**
 * What a next backup has to ship at least, found without our code: blocks compared byte by byte, each
 * compressed on its own by the zstd command at level 1.
 */
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { shell } from './process.js';

const BLOCK_BYTES = 64 * 1024;
const PAGE_BYTES = 4096;
const READ_BLOCKS = 64;
const ZEROS = Buffer.alloc(BLOCK_BYTES);

export interface Difference {
  readonly changedPages: number;
  readonly changedBlocks: number;
  /** Of the changed blocks that are not all zero; a block that does not shrink counts as it is. */
  readonly compressedBytes: number;
}

/** @param before null: compare with nothing. @param scratch a directory that this makes and removes. */
export function differenceOf(before: string | null, after: string, scratch: string): Difference {
  rmSync(scratch, { recursive: true, force: true });
  mkdirSync(scratch);
  try {
    const lengths = new Map<string, number>();
    let changedPages = 0;
    let changedBlocks = 0;
    for (const { oldBlock, newBlock, blockIndex } of blockPairs(before, after)) {
      if (oldBlock.equals(newBlock)) continue;
      changedBlocks++;
      for (let offset = 0; offset < newBlock.length; offset += PAGE_BYTES) {
        const end = offset + PAGE_BYTES;
        if (!oldBlock.subarray(offset, end).equals(newBlock.subarray(offset, end))) changedPages++;
      }
      if (newBlock.equals(ZEROS.subarray(0, newBlock.length))) continue;
      lengths.set(String(blockIndex), newBlock.length);
      writeFileSync(join(scratch, String(blockIndex)), newBlock);
    }
    if (lengths.size > 0) shell('zstd', '-1', '--quiet', '--no-check', '--rm', '-r', scratch);
    const compressedBytes = readdirSync(scratch)
      .map((name) => Math.min(statSync(join(scratch, name)).size, lengths.get(name.replace('.zst', '')) ?? 0))
      .reduce((sum, bytes) => sum + bytes, 0);
    return { changedPages, changedBlocks, compressedBytes };
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

export interface PageDifference {
  /** Of each changed page on its own. */
  readonly pagesBytes: number;
  /** Of each block's changed pages one after the other. */
  readonly joinedBytes: number;
}

/**
 * What the changed pages of 4 KiB compress to, found in the same way. What does not shrink counts as it is.
 */
export function pageDifferenceOf(before: string, after: string, scratch: string): PageDifference {
  rmSync(scratch, { recursive: true, force: true });
  const [pages, joined] = [join(scratch, 'pages'), join(scratch, 'joined')];
  mkdirSync(pages, { recursive: true });
  mkdirSync(joined);
  try {
    for (const { oldBlock, newBlock, blockIndex } of blockPairs(before, after)) {
      if (oldBlock.equals(newBlock)) continue;
      const changed: Buffer[] = [];
      for (let offset = 0; offset < newBlock.length; offset += PAGE_BYTES) {
        const page = newBlock.subarray(offset, offset + PAGE_BYTES);
        if (oldBlock.subarray(offset, offset + PAGE_BYTES).equals(page)) continue;
        changed.push(page);
        writeFileSync(join(pages, `${blockIndex}-${offset}`), page);
      }
      writeFileSync(join(joined, String(blockIndex)), Buffer.concat(changed));
    }
    return { pagesBytes: compressedBelow(pages), joinedBytes: compressedBelow(joined) };
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

function compressedBelow(directory: string): number {
  const sizes = () =>
    new Map(readdirSync(directory).map((name) => [name, statSync(join(directory, name)).size]));
  const lengths = sizes();
  if (lengths.size > 0) shell('zstd', '-1', '--quiet', '--no-check', '--rm', '-r', directory);
  return [...sizes()].reduce(
    (sum, [name, bytes]) => sum + Math.min(bytes, lengths.get(name.replace('.zst', '')) ?? 0),
    0,
  );
}

function* blockPairs(before: string | null, after: string) {
  const oldFile = before === null ? null : openSync(before, 'r');
  const newFile = openSync(after, 'r');
  const oldBytes = Buffer.alloc(READ_BLOCKS * BLOCK_BYTES);
  const newBytes = Buffer.alloc(READ_BLOCKS * BLOCK_BYTES);
  try {
    for (let position = 0; ; ) {
      const length = readSync(newFile, newBytes, 0, newBytes.length, position);
      if (length === 0) return;
      if (oldFile !== null && readSync(oldFile, oldBytes, 0, length, position) !== length) {
        throw new Error(`${before}: it is shorter than ${after}`);
      }
      for (let offset = 0; offset < length; offset += BLOCK_BYTES) {
        const end = Math.min(length, offset + BLOCK_BYTES);
        const blockIndex = (position + offset) / BLOCK_BYTES;
        yield {
          oldBlock: oldBytes.subarray(offset, end),
          newBlock: newBytes.subarray(offset, end),
          blockIndex,
        };
      }
      position += length;
    }
  } finally {
    if (oldFile !== null) closeSync(oldFile);
    closeSync(newFile);
  }
}
