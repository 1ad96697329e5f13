/**
 * What it costs on the wire to find differences: bytes as a relay counts them, TLS and HTTP
 * included. The yardstick is on paper: the flat list of digests, 32 bytes a block, that a tool like
 * bdsync sends whatever differs.
 */
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { CountingProxy } from './counting-proxy.js';
import { type Measured, shell } from './process.js';
import { byteStream } from './random.js';
import { withRelay } from './relayed.js';
import { mebibytes, type Row, seconds, times } from './report.js';
import type { Installation } from './stillpoint.js';

const MiB = 2 ** 20;
const FANOUT = 64;
const DIGEST_BYTES = 32;
const BLOCK_BYTES = 64 * 1024;
const HUGE_BYTES = 2 ** 40;
const DIFFERENCES = 100;
const PIECE_BYTES = 4096;
/** Of the wholly different device: as many blocks as a larger one, in less data. */
const SMALL_BLOCK_BYTES = 4096;
const SMALL_BYTES = 256 * MiB;

interface Compared {
  readonly wireBytes: number;
  readonly differingBlocks: number;
}

export async function compareFigures(directory: string): Promise<Row[]> {
  const images = join(directory, 'images');
  mkdirSync(images, { recursive: true });
  try {
    return await withRelay(join(directory, 'compare'), async (installation, proxy) => {
      return [
        ...(await hugeDevice(installation, proxy, join(images, 'huge.raw'))),
        ...(await otherDevice(installation, proxy, join(images, 'other.raw'))),
      ];
    });
  } finally {
    rmSync(images, { recursive: true });
  }
}

async function hugeDevice(installation: Installation, proxy: CountingProxy, image: string): Promise<Row[]> {
  const flatBytes = (HUGE_BYTES / BLOCK_BYTES) * DIGEST_BYTES;
  shell('truncate', `--size=${HUGE_BYTES}`, image);
  writePieces(image, BLOCK_BYTES, 'first', usedBlocks());
  await installation.backup(image);
  const rows: Row[] = [];
  const same = await compared(installation, proxy, image, 'disk@1');
  rows.push(row('1 TiB, identical', same, flatBytes, null));
  writePieces(image, BLOCK_BYTES, 'second', differingBlocks());
  for (const direction of ['cheaper', 'from-receiver', 'from-agent']) {
    const found = await compared(installation, proxy, image, 'disk@1', '--digests', direction);
    if (found.differingBlocks !== DIFFERENCES) throw new Error(`${found.differingBlocks} blocks differ`);
    rows.push(
      row(`1 TiB, ${DIFFERENCES} scattered differences, digests ${direction}`, found, flatBytes, MiB),
    );
  }
  rmSync(join(installation.directory, 'agent-state', 'stores'), { recursive: true });
  proxy.take();
  const { point, wallMs } = await installation.backup(image);
  const wireBytes = proxy.take();
  rows.push({
    figure: `1 TiB, next backup after the local tree was lost, ${DIFFERENCES} changed blocks`,
    ours: `${mebibytes(wireBytes)} in ${seconds(wallMs)}`,
    yardstick: `stored of it: ${mebibytes(point.storedBytes)}; flat list ${mebibytes(flatBytes)}`,
    ratio: null,
    target: null,
    met: null,
  });
  return rows;
}

async function otherDevice(installation: Installation, proxy: CountingProxy, image: string): Promise<Row[]> {
  const blocks = SMALL_BYTES / SMALL_BLOCK_BYTES;
  const all = Array.from({ length: blocks }, (_, block) => block);
  shell('truncate', `--size=${SMALL_BYTES}`, image);
  writePieces(image, SMALL_BLOCK_BYTES, 'one', all);
  await installation.agent('backup', image, '--name', 'other', '--block-size', '4K', '--quiet');
  writePieces(image, SMALL_BLOCK_BYTES, 'two', all);
  const found = await compared(installation, proxy, image, 'other@1', '--name', 'other');
  if (found.differingBlocks !== blocks) throw new Error(`${found.differingBlocks} of ${blocks} differ`);
  const flatBytes = blocks * DIGEST_BYTES;
  return [row(`wholly different, ${blocks} blocks`, found, flatBytes, 1.1 * flatBytes)];
}

async function compared(
  installation: Installation,
  proxy: CountingProxy,
  image: string,
  ...args: string[]
): Promise<Compared & { readonly relayedBytes: number; readonly measured: Measured }> {
  proxy.take();
  const measured = await installation.compare(image, ...args);
  const last = measured.stdout.trimEnd().split('\n').at(-1) ?? '';
  const { wireBytes, differingBlocks } = JSON.parse(last) as Compared;
  return { wireBytes, differingBlocks, relayedBytes: proxy.take(), measured };
}

function row(
  what: string,
  found: Awaited<ReturnType<typeof compared>>,
  flatBytes: number,
  limitBytes: number | null,
): Row {
  const { relayedBytes, wireBytes, measured } = found;
  return {
    figure: `compare, ${what}: bytes on the wire (digests alone), time`,
    ours: `${mebibytes(relayedBytes)} (${mebibytes(wireBytes)}), ${seconds(measured.wallMs)}`,
    yardstick: `flat list ${mebibytes(flatBytes)}`,
    ratio: times(relayedBytes / flatBytes),
    target: limitBytes === null ? null : `≤ ${mebibytes(limitBytes)}`,
    met: limitBytes === null ? null : relayedBytes <= limitBytes,
  };
}

const differingBlocks = (): number[] =>
  Array.from({ length: DIFFERENCES }, (_, i) =>
    Math.floor(((i + 0.37) * (HUGE_BYTES / BLOCK_BYTES)) / DIFFERENCES),
  );

/** So that every node on the way to a difference is full, as on a device that is in use all over. */
function usedBlocks(): number[] {
  const used = new Set<number>();
  for (let block = 0; block < HUGE_BYTES / BLOCK_BYTES; block += FANOUT ** 2) used.add(block);
  for (const block of differingBlocks()) {
    const node = block - (block % FANOUT);
    const parent = block - (block % FANOUT ** 2);
    for (let i = 0; i < FANOUT; i += 1) used.add(node + i).add(parent + i * FANOUT);
  }
  return [...used].sort((a, b) => a - b);
}

/** 4 KiB at the start of each block. */
function writePieces(image: string, blockBytes: number, seed: string, blocks: readonly number[]): void {
  const bytes = byteStream(seed);
  const descriptor = openSync(image, 'r+');
  for (const block of blocks) writeSync(descriptor, bytes(PIECE_BYTES), 0, PIECE_BYTES, block * blockBytes);
  closeSync(descriptor);
}
