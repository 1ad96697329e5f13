/**
 * Bytes on the wire of each backup, counted by a relay, against what the changed blocks compress
 * to. In a run of its own.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { copyState, type Inputs } from './inputs.js';
import { withRelay } from './relayed.js';
import { mebibytes, type Row, times } from './report.js';

const RATIO_LIMIT = 1.05;
const SURPLUS_LIMIT = 64 * 1024;
/** An unchanged device is a next backup of nothing. */
const NOTHING = { compressedBytes: 0 };

export async function wireFigures(inputs: Inputs, directory: string): Promise<Row[]> {
  const images = join(directory, 'images');
  mkdirSync(images, { recursive: true });
  try {
    return await withRelay(join(directory, 'wire'), async (installation, proxy) => {
      const rows: Row[] = [];
      const image = join(images, 'disk.raw');
      for (const [index, state] of [...inputs.states, null].entries()) {
        if (state !== null) copyState(state.path, image);
        proxy.take();
        const { point } = await installation.backup(image);
        const wireBytes = proxy.take();
        const { compressedBytes } = state?.difference ?? NOTHING;
        const limit = RATIO_LIMIT * compressedBytes + SURPLUS_LIMIT;
        rows.push({
          figure: `wire bytes, ${state === null ? 'unchanged' : index === 0 ? 'first backup' : `state ${index + 1}`}`,
          ours: `${mebibytes(wireBytes)} (told: ${mebibytes(point.statistics.wireBytes)})`,
          yardstick: `changed blocks, each with zstd -1: ${mebibytes(compressedBytes)}`,
          ratio: compressedBytes === 0 ? null : times(wireBytes / compressedBytes),
          target: `≤ ${times(RATIO_LIMIT)} + 64 KiB`,
          met: wireBytes <= limit,
        });
      }
      return rows;
    });
  } finally {
    rmSync(images, { recursive: true });
  }
}
