/** Scan of an unchanged image against b3sum on the same bytes, as a library and as the whole command. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Inputs } from './inputs.js';
import { type Measured, measure, shell } from './process.js';
import { type Row, rate, times } from './report.js';
import { Installation } from './stillpoint.js';

const CHILD = fileURLToPath(new URL('./scan-child.js', import.meta.url));
const RATIO_TARGET = 1.3;
const THREAD_COUNTS = [2, 1] as const;

export async function scanFigures(inputs: Inputs, directory: string, rounds: number): Promise<Row[]> {
  const { path, bytes } = inputs.solid;
  const installation = await Installation.make(join(directory, 'scan'));
  try {
    await installation.backup(path);
    const times = new Map<string, number[]>();
    const add = (name: string, ms: number) => times.set(name, [...(times.get(name) ?? []), ms]);
    shell('sync');
    for (let round = 0; round < rounds; round++) {
      shell('b3sum', path);
      for (const threads of THREAD_COUNTS) {
        add(
          `scan ${threads}`,
          scanMs(await measure(process.execPath, [CHILD, path, String(threads), directory])),
        );
        add(`b3sum ${threads}`, (await measure('b3sum', ['--num-threads', String(threads), path])).wallMs);
      }
      const unchanged = await installation.backup(path);
      if (unchanged.point.statistics.changedBytes !== 0) throw new Error(`${path}: it is not unchanged`);
      add('command', unchanged.wallMs);
    }
    const best = (name: string) => Math.min(...(times.get(name) ?? []));
    return [
      ...THREAD_COUNTS.map((threads) =>
        row(bytes, threads, '', best(`scan ${threads}`), best(`b3sum ${threads}`)),
      ),
      { ...row(bytes, 2, ', whole command', best('command'), best('b3sum 2')), target: null, met: null },
    ];
  } finally {
    await installation.remove();
  }
}

function scanMs(child: Measured): number {
  return (JSON.parse(child.stdout) as { wallMs: number }).wallMs;
}

function row(bytes: number, threads: number, what: string, oursMs: number, yardstickMs: number): Row {
  const ratio = yardstickMs / oursMs;
  return {
    figure: `scan, unchanged, ${threads === 1 ? '1 thread' : `${threads} threads`}${what}`,
    ours: rate(bytes, oursMs),
    yardstick: `b3sum ${rate(bytes, yardstickMs)}`,
    ratio: times(ratio),
    target: `≥ ${times(RATIO_TARGET)}`,
    met: ratio >= RATIO_TARGET,
  };
}
