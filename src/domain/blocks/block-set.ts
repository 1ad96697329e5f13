/**
 * A set of blocks of a device as bits, in pages that are made only where there are blocks: empty stretches
 * cost nothing.
 */
import type { BlockRange } from './block-ranges.js';

/** Blocks of one page. */
const PAGE_BLOCKS = 32_768;
const PAGE_BYTES = PAGE_BLOCKS / 8;

export class BlockSet {
  readonly #pages = new Map<number, Uint8Array>();
  #count = 0;

  /** Blocks in the set. */
  get count(): number {
    return this.#count;
  }

  has(blockIndex: number): boolean {
    const page = this.#pages.get(Math.floor(blockIndex / PAGE_BLOCKS));
    return (
      page !== undefined && ((page[(blockIndex % PAGE_BLOCKS) >> 3] ?? 0) & (1 << (blockIndex & 7))) !== 0
    );
  }

  add(blockIndex: number): void {
    const number = Math.floor(blockIndex / PAGE_BLOCKS);
    let page = this.#pages.get(number);
    if (page === undefined) {
      page = new Uint8Array(PAGE_BYTES);
      this.#pages.set(number, page);
    }
    const at = (blockIndex % PAGE_BLOCKS) >> 3;
    const bit = 1 << (blockIndex & 7);
    const before = page[at] ?? 0;
    if ((before & bit) !== 0) return;
    page[at] = before | bit;
    this.#count += 1;
  }

  addRange([start, end]: BlockRange): void {
    for (let blockIndex = start; blockIndex < end; blockIndex += 1) this.add(blockIndex);
  }

  /** All of them, ascending, apart, neighbours in one. */
  *ranges(): Generator<BlockRange> {
    let start = -1;
    let end = -1;
    for (const number of [...this.#pages.keys()].sort((a, b) => a - b)) {
      const page = this.#pages.get(number) as Uint8Array;
      for (const [run, runEnd] of runsOf(page)) {
        const from = number * PAGE_BLOCKS + run;
        if (from !== end) {
          if (start !== -1) yield [start, end];
          start = from;
        }
        end = number * PAGE_BLOCKS + runEnd;
      }
    }
    if (start !== -1) yield [start, end];
  }
}

function* runsOf(page: Uint8Array): Generator<BlockRange> {
  let start = -1;
  for (const [at, byte] of page.entries()) {
    if (byte === 0 && start === -1) continue;
    for (let bit = 0; bit < 8; bit += 1) {
      const isIn = (byte & (1 << bit)) !== 0;
      if (isIn && start === -1) start = at * 8 + bit;
      if (!isIn && start !== -1) {
        yield [start, at * 8 + bit];
        start = -1;
      }
    }
  }
  if (start !== -1) yield [start, PAGE_BLOCKS];
}
