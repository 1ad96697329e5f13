/**
 * Restores in place, to a loop device, which tells of no holes: what is rolled back costs its changes; what
 * looking first costs where nothing is the same is told by a restore that does not look (`--rewrite`). Bytes
 * as a relay counts them, TLS and HTTP included.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { shell } from './process.js';
import { byteStream } from './random.js';
import { withRelay } from './relayed.js';
import { mebibytes, type Row, seconds, times } from './report.js';

const MiB = 2 ** 20;
const SIZE_BYTES = 1024 * MiB;
const BLOCK_BYTES = 64 * 1024;
const CHANGED_BLOCKS = 320;
const WIRE_RATIO_LIMIT = 1.1;

type Before = 'changed' | 'other' | 'blank';

interface Restored {
  readonly wallMs: number;
  readonly wireBytes: number;
}

export async function restoreFigures(directory: string, rounds: number): Promise<Row[]> {
  const images = join(directory, 'images');
  mkdirSync(images, { recursive: true });
  const [source, backing] = [join(images, 'source.raw'), join(images, 'target.raw')];
  let device: string | null = null;
  try {
    return await withRelay(join(directory, 'restore'), async (installation, proxy) => {
      shell('truncate', `--size=${SIZE_BYTES}`, source, backing);
      fill(source, 'source');
      await installation.backup(source);
      // Else the restores would ask for no digests.
      rmSync(join(installation.directory, 'agent-state', 'stores'), { recursive: true });
      device = shell('losetup', '--find', '--show', backing).trim();
      const best = new Map<string, Restored>();
      for (let round = 0; round < rounds; round += 1) {
        for (const before of ['changed', 'other', 'blank'] as const) {
          for (const way of [[], ['--rewrite']] as const) {
            prepare(device, source, before);
            proxy.take();
            const { wallMs } = await installation.agent('restore', 'disk@1', device, ...way);
            const restored = { wallMs, wireBytes: proxy.take() };
            shell('cmp', source, device);
            const key = `${before}${way.join('')}`;
            if (restored.wallMs < (best.get(key)?.wallMs ?? Number.POSITIVE_INFINITY))
              best.set(key, restored);
          }
        }
      }
      return (['changed', 'other', 'blank'] as const).map((before) => row(before, best));
    });
  } finally {
    if (device !== null) shell('losetup', '--detach', device);
    rmSync(images, { recursive: true });
  }
}

const NAMES: Readonly<Record<Before, string>> = {
  changed: `${CHANGED_BLOCKS} of ${SIZE_BYTES / BLOCK_BYTES} blocks changed`,
  other: 'a device full of other data',
  blank: 'a blank device',
};

function row(before: Before, best: ReadonlyMap<string, Restored>): Row {
  const looked = best.get(before) as Restored;
  const rewritten = best.get(`${before}--rewrite`) as Restored;
  const changedBytes = CHANGED_BLOCKS * BLOCK_BYTES;
  const isRolledBack = before === 'changed';
  return {
    figure: `restore in place, 1 GiB, ${NAMES[before]}: time, wire`,
    ours: `${seconds(looked.wallMs)}, ${mebibytes(looked.wireBytes)}`,
    yardstick:
      `without looking ${seconds(rewritten.wallMs)}, ${mebibytes(rewritten.wireBytes)}` +
      (isRolledBack ? `; changed blocks ${mebibytes(changedBytes)}` : ''),
    ratio: times(isRolledBack ? looked.wireBytes / changedBytes : looked.wallMs / rewritten.wallMs),
    target: isRolledBack ? `≤ ${times(WIRE_RATIO_LIMIT)} of the changed blocks` : null,
    met: isRolledBack ? looked.wireBytes <= WIRE_RATIO_LIMIT * changedBytes : null,
  };
}

function prepare(device: string, source: string, before: Before): void {
  shell('blkdiscard', '--zeroout', device);
  if (before === 'other') fill(device, 'other');
  if (before === 'changed') {
    shell('dd', `if=${source}`, `of=${device}`, 'bs=1M', 'conv=fsync', 'status=none');
    const bytes = byteStream('changes');
    const descriptor = openSync(device, 'r+');
    const stride = SIZE_BYTES / CHANGED_BLOCKS;
    for (let at = 0; at < SIZE_BYTES; at += stride)
      writeSync(descriptor, bytes(BLOCK_BYTES), 0, BLOCK_BYTES, at - (at % BLOCK_BYTES));
    fsyncSync(descriptor);
    closeSync(descriptor);
  }
  shell('sync');
}

/** With what does not compress. */
function fill(path: string, seed: string): void {
  const bytes = byteStream(seed);
  const descriptor = openSync(path, 'r+');
  for (let at = 0; at < SIZE_BYTES; at += MiB) writeSync(descriptor, bytes(MiB), 0, MiB, at);
  fsyncSync(descriptor);
  closeSync(descriptor);
}
