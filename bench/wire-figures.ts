/** Bytes on the wire of each backup, counted by a relay, against what the changed blocks compress to. In a run of its own. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { CountingProxy } from './counting-proxy.js';
import { copyState, type Inputs } from './inputs.js';
import { mebibytes, type Row, times } from './report.js';
import { freePort, Installation } from './stillpoint.js';

const RATIO_LIMIT = 1.05;
const SURPLUS_LIMIT = 64 * 1024;
/** An unchanged device is a next backup of nothing. */
const NOTHING = { compressedBytes: 0 };

export async function wireFigures(inputs: Inputs, directory: string): Promise<Row[]> {
  const images = join(directory, 'images');
  mkdirSync(images, { recursive: true });
  const port = await freePort();
  const proxy = await CountingProxy.listen(port);
  let installation: Installation | null = null;
  try {
    const url = (receiverPort: number) => {
      proxy.targetPort = receiverPort;
      return `https://127.0.0.1:${port}`;
    };
    installation = await Installation.make(join(directory, 'wire'), { url });
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
  } finally {
    await installation?.remove();
    await proxy.close();
    rmSync(images, { recursive: true });
  }
}
