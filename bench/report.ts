/** The table, for a terminal and for docs/figures.md. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { arch, cpus, release, totalmem } from 'node:os';

export interface Row {
  readonly figure: string;
  readonly ours: string;
  readonly yardstick: string;
  /** Of ours to the yardstick, as the target counts it; null where nothing is compared. */
  readonly ratio: string | null;
  readonly target: string | null;
  readonly met: boolean | null;
}

const TITLES = ['figure', 'ours', 'yardstick', 'ratio', 'target', 'met?'] as const;

export const seconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`;
export const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 2 : 0)} MiB`;
export const rate = (bytes: number, ms: number) => `${(bytes / ms / 1e6).toFixed(2)} GB/s`;
export const times = (ratio: number) => `${ratio.toFixed(2)} ×`;

function cells(row: Row): string[] {
  const met = row.met === null ? '' : row.met ? 'yes' : 'NO';
  return [row.figure, row.ours, row.yardstick, row.ratio ?? '', row.target ?? '', met];
}

export function textTable(rows: readonly Row[]): string {
  const lines = [[...TITLES], ...rows.map(cells)];
  const widths = TITLES.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

export function markdownTable(rows: readonly Row[]): string {
  const line = (texts: readonly string[]) => `| ${texts.join(' | ')} |`;
  return [line(TITLES), line(TITLES.map(() => '---')), ...rows.map((row) => line(cells(row)))].join('\n');
}

/** One line that says what the figures were measured on. */
export function machineLine(versions: readonly string[]): string {
  const memory = `${(totalmem() / 2 ** 30).toFixed(0)} GiB`;
  const model = cpus()[0]?.model ?? 'unknown processor';
  const { stdout: commit, status } = spawnSync('git', ['describe', '--always', '--dirty'], {
    encoding: 'utf8',
  });
  const parts = [
    `${model}, ${cpus().length} cores, ${memory}`,
    `Linux ${release()} ${arch()}`,
    `Node ${process.versions.node}`,
  ];
  return [
    ...parts,
    ...versions,
    status === 0 ? `commit ${commit.trim()}` : 'no commit',
    new Date().toISOString().slice(0, 10),
  ].join('; ');
}

const BEGIN = '<!-- begin: written by bench/run -->';
const END = '<!-- end -->';

/** Replaces what stands between the markers; the words around them are people's. */
export function writeBetweenMarkers(path: string, text: string): void {
  const page = readFileSync(path, 'utf8');
  const begin = page.indexOf(BEGIN);
  const end = page.indexOf(END, begin);
  if (begin === -1 || end === -1)
    throw new Error(`${path}: the markers "${BEGIN}" and "${END}" are not there`);
  writeFileSync(path, `${page.slice(0, begin + BEGIN.length)}\n\n${text}\n\n${page.slice(end)}`);
}
