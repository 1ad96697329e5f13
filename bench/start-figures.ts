/** What commands take that have nearly nothing to do: the start of the program, which every command has. */
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { shell } from './process.js';
import { byteStream } from './random.js';
import { type Row, seconds, times } from './report.js';
import { COMMAND } from './stillpoint.js';

const MiB = 2 ** 20;
const IMAGE_BYTES = 64 * MiB;
const DATA_BYTES = 8 * MiB;
const RUNS = 10;

export function startFigures(directory: string, rounds: number): Row[] {
  const place = join(directory, 'start');
  mkdirSync(place, { recursive: true });
  try {
    const image = join(place, 'disk.raw');
    const [store, state] = [join(place, 'store'), join(place, 'state')];
    makeImage(image);
    const common = ['--state', state];
    const backup = ['backup', image, '--name', 'disk', '--store', store, ...common];
    shell(process.execPath, COMMAND, ...backup);
    const commands: readonly (readonly [string, readonly string[]])[] = [
      ['--version', ['--version']],
      ['points', ['points', '--store', store, ...common]],
      ['inspect', ['inspect', image, ...common]],
      ['next backup, unchanged, 64 MiB', backup],
    ];
    return commands.map(([name, args]) => {
      const ours: number[] = [];
      const node: number[] = [];
      for (let round = 0; round < rounds; round += 1) {
        ours.push(cpuMsOf([process.execPath, COMMAND, ...args]));
        node.push(cpuMsOf([process.execPath, '-e', '0']));
      }
      const [best, bare] = [Math.min(...ours), Math.min(...node)];
      return {
        figure: `start: ${name}, CPU`,
        ours: seconds(best),
        yardstick: `node -e 0: ${seconds(bare)}`,
        ratio: times(best / bare),
        target: null,
        met: null,
      };
    });
  } finally {
    rmSync(place, { recursive: true });
  }
}

function makeImage(path: string): void {
  const bytes = byteStream('start');
  const descriptor = openSync(path, 'w');
  writeSync(descriptor, bytes(DATA_BYTES));
  closeSync(descriptor);
  shell('truncate', `--size=${IMAGE_BYTES}`, path);
}

/** User and system time of one run, of so many. */
function cpuMsOf(command: readonly string[]): number {
  // The second line of `times` is of the shell's children: it counts to the last
  // tick, however short they are.
  const script = `i=0; while [ $i -lt ${RUNS} ]; do "$@" >/dev/null 2>&1 || exit 1; i=$((i + 1)); done; LC_ALL=C times`;
  const children =
    shell('sh', '-c', script, 'sh', ...command)
      .trim()
      .split('\n')[1] ?? '';
  const parts = [...children.matchAll(/(\d+)m([\d.]+)s/g)];
  if (parts.length !== 2) throw new Error(`times of sh: ${children}`);
  const totalS = parts.reduce((sum, [, minutes, rest]) => sum + Number(minutes) * 60 + Number(rest), 0);
  return (totalS * 1000) / RUNS;
}
