/**
 * The cells of a picture of a device: each stands for so many blocks, and counts what is in them. Pure. The
 * memory depends on the number of cells only, whatever the device's size.
 */
import { blockCount, type Geometry } from '../blocks/geometry.js';

export const CELLS_MAX = 65_536;

export interface Cell {
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** Divides a device into at most `cellsMax` cells of whole blocks, all but the last of the same size. */
export class CellGrid {
  readonly geometry: Geometry;
  readonly cellBlocks: number;
  readonly cellCount: number;
  readonly #blockCount: number;

  constructor(geometry: Geometry, cellsMax: number) {
    this.geometry = geometry;
    this.#blockCount = blockCount(geometry);
    this.cellBlocks = Math.max(1, Math.ceil(this.#blockCount / cellsMax));
    this.cellCount = Math.ceil(this.#blockCount / this.cellBlocks);
  }

  cell(index: number): Cell {
    const { sizeBytes, blockSize } = this.geometry;
    const byteOffset = index * this.cellBlocks * blockSize;
    return { byteOffset, byteLength: Math.min(this.cellBlocks * blockSize, sizeBytes - byteOffset) };
  }

  /**
   * The cells that blocks [start, end) are in, and how many bytes of them. Blocks beyond the device have
   * none.
   */
  *parts(start: number, end: number): Generator<readonly [cell: number, bytes: number]> {
    const { sizeBytes, blockSize } = this.geometry;
    const last = Math.min(end, this.#blockCount);
    for (let from = start; from < last; ) {
      const cell = Math.floor(from / this.cellBlocks);
      const to = Math.min((cell + 1) * this.cellBlocks, last);
      yield [cell, Math.min(to * blockSize, sizeBytes) - from * blockSize];
      from = to;
    }
  }

  /** As `parts`, of a range of bytes. */
  *byteParts(byteOffset: number, byteLength: number): Generator<readonly [cell: number, bytes: number]> {
    const cellBytes = this.cellBlocks * this.geometry.blockSize;
    const end = Math.min(byteOffset + byteLength, this.geometry.sizeBytes);
    for (let from = byteOffset; from < end; ) {
      const cell = Math.floor(from / cellBytes);
      const to = Math.min((cell + 1) * cellBytes, end);
      yield [cell, to - from];
      from = to;
    }
  }
}

/** Bytes in each cell. */
export class CellBytes {
  readonly #grid: CellGrid;
  readonly #bytes: Float64Array;
  #total = 0;

  constructor(grid: CellGrid) {
    this.#grid = grid;
    this.#bytes = new Float64Array(grid.cellCount);
  }

  get total(): number {
    return this.#total;
  }

  of(cell: number): number {
    return this.#bytes[cell] ?? 0;
  }

  addBlocks(start: number, end: number): void {
    for (const part of this.#grid.parts(start, end)) this.#add(part);
  }

  addBytes(byteOffset: number, byteLength: number): void {
    for (const part of this.#grid.byteParts(byteOffset, byteLength)) this.#add(part);
  }

  /** `count` of the blocks [start, end), and it is not known which: shared out evenly. */
  addSome(start: number, end: number, count: number): void {
    const part = count / (end - start);
    for (const [cell, bytes] of this.#grid.parts(start, end)) this.#add([cell, bytes * part]);
  }

  #add([cell, bytes]: readonly [number, number]): void {
    this.#bytes[cell] = (this.#bytes[cell] ?? 0) + bytes;
    this.#total += bytes;
  }
}

/** In how many intervals between two points each cell changed, and how much in all. */
export class CellHeat {
  readonly bytes: CellBytes;
  readonly #grid: CellGrid;
  readonly #intervals: Uint32Array;
  /** The last interval that touched the cell. */
  readonly #last: Uint32Array;
  #interval = 0;

  constructor(grid: CellGrid) {
    this.#grid = grid;
    this.bytes = new CellBytes(grid);
    this.#intervals = new Uint32Array(grid.cellCount);
    this.#last = new Uint32Array(grid.cellCount);
  }

  get intervalCount(): number {
    return this.#interval;
  }

  nextInterval(): void {
    this.#interval += 1;
  }

  addBlocks(start: number, end: number): void {
    this.bytes.addBlocks(start, end);
    for (const [cell] of this.#grid.parts(start, end)) {
      if (this.#last[cell] === this.#interval) continue;
      this.#last[cell] = this.#interval;
      this.#intervals[cell] = (this.#intervals[cell] ?? 0) + 1;
    }
  }

  intervalsOf(cell: number): number {
    return this.#intervals[cell] ?? 0;
  }
}
