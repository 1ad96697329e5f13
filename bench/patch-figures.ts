/**
 * A day of a database, of which scattered pages changed, with patches and without: wire bytes, counted by a
 * relay, against what the changed pages compress to, and what the patches cost in time.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { copyState, type Inputs, type State } from './inputs.js';
import { UsageSampler } from './process.js';
import { pageDifferenceOf } from './reference.js';
import { withRelay } from './relayed.js';
import { mebibytes, type Row, rate, seconds, times } from './report.js';

const RATIO_LIMIT = 1.15;

interface Outcome {
  readonly wireBytes: number;
  readonly wallMs: number;
  readonly agentCpuMs: number;
  readonly receiverCpuMs: number;
}

export async function patchFigures(inputs: Inputs, directory: string): Promise<Row[]> {
  const [, before, after] = inputs.states as [State, State, State];
  const images = join(directory, 'images');
  mkdirSync(images, { recursive: true });
  try {
    const reference = pageDifferenceOf(before.path, after.path, join(directory, 'pages'));
    const image = join(images, 'disk.raw');
    const patched = await measureDay(before, after, image, directory, 'always');
    const whole = await measureDay(before, after, image, directory, 'never');
    return [
      ...Object.entries({
        'changed pages, each with zstd -1': reference.pagesBytes,
        "each block's changed pages together with zstd -1": reference.joinedBytes,
      }).map(([what, bytes]) => wireRow(patched.wireBytes, what, bytes)),
      ...costRows(patched, whole),
    ];
  } finally {
    rmSync(images, { recursive: true });
  }
}

function wireRow(wireBytes: number, what: string, bytes: number): Row {
  return {
    figure: 'patches, wire bytes of a day of a database, questions and answers included',
    ours: mebibytes(wireBytes),
    yardstick: `${what}: ${mebibytes(bytes)}`,
    ratio: times(wireBytes / bytes),
    target: `≤ ${times(RATIO_LIMIT)}`,
    met: wireBytes <= RATIO_LIMIT * bytes,
  };
}

function costRows(patched: Outcome, whole: Outcome): Row[] {
  const none = { ratio: null, target: null, met: null };
  const moreMs = patched.agentCpuMs + patched.receiverCpuMs - whole.agentCpuMs - whole.receiverCpuMs;
  const cpu = ({ agentCpuMs, receiverCpuMs }: Outcome) =>
    `CPU agent ${seconds(agentCpuMs)}, receiver ${seconds(receiverCpuMs)}`;
  return [
    {
      ...none,
      figure: 'patches, the same with whole blocks',
      ours: mebibytes(patched.wireBytes),
      yardstick: `--patch never ${mebibytes(whole.wireBytes)}`,
      ratio: times(patched.wireBytes / whole.wireBytes),
    },
    {
      ...none,
      figure: 'patches, time of the command without a slow link',
      ours: `${seconds(patched.wallMs)} (${cpu(patched)})`,
      yardstick: `--patch never ${seconds(whole.wallMs)} (${cpu(whole)})`,
      ratio: times(patched.wallMs / whole.wallMs),
    },
    {
      ...none,
      figure: 'patches, speed of a link on which they cost the time that they save',
      ours: moreMs <= 0 ? 'any' : rate(whole.wireBytes - patched.wireBytes, moreMs),
      yardstick: 'bytes that they save by the CPU time that they take more, of both sides',
    },
  ];
}

/** The day alone: the receiver has the state before, and its CPU time counts from there. */
async function measureDay(
  before: State,
  after: State,
  image: string,
  directory: string,
  mode: 'always' | 'never',
): Promise<Outcome> {
  return withRelay(join(directory, 'patch'), async (installation, proxy) => {
    copyState(before.path, image);
    await installation.backup(image);
    copyState(after.path, image);
    proxy.take();
    const receiver = new UsageSampler(installation.receiverPid);
    try {
      const { wallMs, cpuMs } = await installation.backup(image, undefined, ['--patch', mode]);
      const { cpuMs: receiverCpuMs } = receiver.stop();
      return { wireBytes: proxy.take(), wallMs, agentCpuMs: cpuMs, receiverCpuMs };
    } finally {
      receiver.stop();
    }
  });
}
