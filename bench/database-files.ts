/**
 * Files such as a database server keeps: 8 KiB pages of rows that compress about as well as real tables do,
 * and a day's work on them: scattered pages, in each a few rows rewritten.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { integerStream } from './random.js';

const FILE_COUNT = 7;
const FILE_BYTES = 64 * 1024 * 1024;
const PAGE_BYTES = 8192;
const PAGE_HEADER_BYTES = 32;
const ROW_BYTES = 120;
const ROWS_PER_PAGE = Math.floor((PAGE_BYTES - PAGE_HEADER_BYTES) / ROW_BYTES);
const PAGES_PER_FILE = FILE_BYTES / PAGE_BYTES;

/** Work is scattered over this many 64 KiB stretches; in each, one to four of its eight pages are written. */
const WORKED_STRETCHES = 4870;
const STRETCH_PAGES = 8;
const STRETCHES_PER_FILE = PAGES_PER_FILE / STRETCH_PAGES;

type Integers = (below: number) => number;

const WORDS = makeWords();

function makeWords(): readonly Buffer[] {
  const integer = integerStream('words');
  return Array.from({ length: 512 }, () => {
    const letters = Array.from({ length: 3 + integer(8) }, () => String.fromCharCode(97 + integer(26)));
    return Buffer.from(`${letters.join('')} `);
  });
}

function writeRow(page: Buffer, row: number, rowNumber: number, integer: Integers): void {
  const start = PAGE_HEADER_BYTES + row * ROW_BYTES;
  page.writeUInt32LE(rowNumber, start);
  page.writeUInt32LE(integer(100_000), start + 4);
  page.writeUInt32LE(integer(0xffffffff), start + 8);
  page.fill(0x20, start + 12, start + ROW_BYTES);
  for (let offset = start + 12; offset < start + 64; ) {
    const word = WORDS[integer(WORDS.length)] as Buffer;
    offset += word.copy(page, offset, 0, start + ROW_BYTES - offset);
  }
}

function filePath(directory: string, file: number): string {
  return join(directory, `relation-${file}`);
}

export function makeDatabaseFiles(directory: string): void {
  mkdirSync(directory, { recursive: true });
  const integer = integerStream('database');
  const stretch = Buffer.alloc(STRETCH_PAGES * PAGE_BYTES);
  for (let file = 0; file < FILE_COUNT; file++) {
    const descriptor = openSync(filePath(directory, file), 'w');
    for (let firstPage = 0; firstPage < PAGES_PER_FILE; firstPage += STRETCH_PAGES) {
      for (let index = 0; index < STRETCH_PAGES; index++) {
        const page = stretch.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES);
        page.writeUInt32LE(file * PAGES_PER_FILE + firstPage + index, 0);
        for (let row = 0; row < ROWS_PER_PAGE; row++) {
          writeRow(page, row, (firstPage + index) * ROWS_PER_PAGE + row, integer);
        }
      }
      writeSync(descriptor, stretch);
    }
    fsyncSync(descriptor);
    closeSync(descriptor);
  }
}

/** Rewrites rows all over a page, so that both its halves of 4 KiB change. */
function workOnPage(page: Buffer, integer: Integers): void {
  page.writeUInt32LE(integer(0xffffffff), 8);
  for (let row = integer(4); row < ROWS_PER_PAGE; row += 4) {
    writeRow(page, row, page.readUInt32LE(PAGE_HEADER_BYTES + row * ROW_BYTES), integer);
  }
}

export function workOnDatabaseFiles(directory: string): void {
  const integer = integerStream('work');
  const descriptors = Array.from({ length: FILE_COUNT }, (_, file) =>
    openSync(filePath(directory, file), 'r+'),
  );
  const page = Buffer.alloc(PAGE_BYTES);
  for (const stretch of shuffled(FILE_COUNT * STRETCHES_PER_FILE, integer).slice(0, WORKED_STRETCHES)) {
    const descriptor = descriptors[Math.floor(stretch / STRETCHES_PER_FILE)] as number;
    const firstPage = (stretch % STRETCHES_PER_FILE) * STRETCH_PAGES;
    for (const index of shuffled(STRETCH_PAGES, integer).slice(0, 1 + integer(4))) {
      const byteOffset = (firstPage + index) * PAGE_BYTES;
      readSync(descriptor, page, 0, PAGE_BYTES, byteOffset);
      workOnPage(page, integer);
      writeSync(descriptor, page, 0, PAGE_BYTES, byteOffset);
    }
  }
  for (const descriptor of descriptors) {
    fsyncSync(descriptor);
    closeSync(descriptor);
  }
}

function shuffled(count: number, integer: Integers): number[] {
  const numbers = Array.from({ length: count }, (_, index) => index);
  for (let last = count - 1; last > 0; last--) {
    const other = integer(last + 1);
    const swap = numbers[last] as number;
    numbers[last] = numbers[other] as number;
    numbers[other] = swap;
  }
  return numbers;
}
