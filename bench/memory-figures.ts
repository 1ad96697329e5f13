/** Memory and time of the agent for a sparse image of 16 TiB that holds a few thousand blocks of data. */
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { shell } from './process.js';
import { byteStream } from './random.js';
import { mebibytes, type Row, seconds, times } from './report.js';
import { type BackupOutcome, Installation } from './stillpoint.js';

const BLOCK_BYTES = 64 * 1024;
/** One block less than 16 TiB: ext4 keeps no larger file. */
const IMAGE_BYTES = 16 * 2 ** 40 - BLOCK_BYTES;
const BLOCK_COUNT = 4000;
const CHANGED_COUNT = 1000;
const STRIDE_BYTES = Math.floor(IMAGE_BYTES / BLOCK_COUNT / BLOCK_BYTES) * BLOCK_BYTES;
const LIMIT_BYTES = 256 * 2 ** 20;

export async function memoryFigures(directory: string): Promise<Row[]> {
  const images = join(directory, 'images');
  mkdirSync(images, { recursive: true });
  const image = join(images, 'huge.raw');
  const installation = await Installation.make(join(directory, 'memory'));
  try {
    shell('truncate', `--size=${IMAGE_BYTES}`, image);
    writeBlocks(image, 'first', BLOCK_COUNT);
    const rows = [row(`first backup, ${BLOCK_COUNT} blocks`, await installation.backup(image))];
    writeBlocks(image, 'second', CHANGED_COUNT);
    rows.push(row(`next backup, ${CHANGED_COUNT} changed blocks`, await installation.backup(image)));
    const receiver = await installation.stop();
    rows.push({
      figure: '16 TiB sparse image: receiver, peak of private memory (of resident)',
      ours: `${mebibytes(receiver.peakPrivateBytes)} (${mebibytes(receiver.peakResidentBytes)})`,
      yardstick: '',
      ratio: null,
      target: null,
      met: null,
    });
    return rows;
  } finally {
    await installation.remove();
    rmSync(images, { recursive: true });
  }
}

/** Writes the first blocks of an even spread. */
function writeBlocks(image: string, seed: string, count: number): void {
  const bytes = byteStream(seed);
  const descriptor = openSync(image, 'r+');
  for (let block = 0; block < count; block++)
    writeSync(descriptor, bytes(BLOCK_BYTES), 0, BLOCK_BYTES, block * STRIDE_BYTES);
  closeSync(descriptor);
}

function row(what: string, outcome: BackupOutcome): Row {
  return {
    figure: `16 TiB sparse image: agent, peak of private memory (of resident), ${what}`,
    ours: `${mebibytes(outcome.peakPrivateBytes)} (${mebibytes(outcome.peakResidentBytes)}) in ${seconds(outcome.wallMs)}`,
    yardstick: mebibytes(LIMIT_BYTES),
    ratio: times(outcome.peakPrivateBytes / LIMIT_BYTES),
    target: `≤ ${mebibytes(LIMIT_BYTES)}, mapped files aside`,
    met: outcome.peakPrivateBytes <= LIMIT_BYTES,
  };
}
