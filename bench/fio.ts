/** Load on an NBD server: fio's nbd engine, and nbdcopy. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { measure } from './process.js';

export interface Load {
  readonly name: string;
  /** fio's `rw`, `bs`, `iodepth`. */
  readonly pattern: string;
  readonly blockBytes: number;
  readonly depth: number;
  readonly seconds: number;
  /** Of the export; its size. */
  readonly rangeBytes: number;
  /** Further fio options. */
  readonly options?: readonly string[];
}

export interface LoadResult {
  readonly perSecond: number;
  readonly bytesPerSecond: number;
  /** From handing a request over to its answer. */
  readonly longestMs: number;
}

interface Direction {
  readonly iops: number;
  readonly bw_bytes: number;
  readonly total_ios: number;
  readonly clat_ns: { readonly max: number };
}

export async function runFio(uri: string, load: Load, directory: string): Promise<LoadResult> {
  const output = join(directory, 'fio.json');
  await measure('fio', [
    '--name=bench',
    '--ioengine=nbd',
    `--uri=${uri}`,
    `--rw=${load.pattern}`,
    `--bs=${load.blockBytes}`,
    `--iodepth=${load.depth}`,
    `--size=${load.rangeBytes}`,
    ...(load.seconds > 0 ? ['--time_based', `--runtime=${Math.round(load.seconds * 1000)}ms`] : []),
    '--randrepeat=0',
    '--norandommap',
    '--output-format=json',
    `--output=${output}`,
    ...(load.options ?? []),
  ]);
  const text = readFileSync(output, 'utf8');
  const { jobs } = JSON.parse(text.slice(text.indexOf('{'))) as { jobs: [Record<string, Direction>] };
  const found = ['read', 'write', 'trim']
    .map((name) => jobs[0][name])
    .find((one) => (one?.total_ios ?? 0) > 0);
  if (found === undefined) throw new Error(`fio: ${load.name}: nothing was done`);
  return {
    perSecond: found.iops,
    bytesPerSecond: found.bw_bytes,
    longestMs: found.clat_ns.max / 1e6,
  };
}

/** A whole copy. @returns bytes in a second. */
export async function runNbdcopy(from: string, to: string, bytes: number): Promise<number> {
  const { wallMs } = await measure('nbdcopy', [from, to]);
  return (bytes / wallMs) * 1000;
}
