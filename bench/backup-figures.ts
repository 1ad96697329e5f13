/**
 * First and next backups, restores and store sizes of all contestants, interleaved; the
 * best of the rounds counts.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Borg, type Contestant, Restic, Stillpoint } from './contestants.js';
import { copyState, type Inputs } from './inputs.js';
import { measure, shell, type Usage } from './process.js';
import { mebibytes, type Row, seconds, times } from './report.js';

const STEPS = [
  'first backup',
  'next backup, state 2',
  'next backup, state 3',
  'next backup, unchanged',
] as const;
const RESTORE = 'restore to an image';
const FIRST_TARGET = 4;
const NEXT_TARGET = 8;
const RESTORE_TARGET = 0.8;
const OURS = 'stillpoint';
const COPY = 'cp';
/** More than any step takes. */
const FREE_MEMORY = '4GiB';
const MEMORY_FILE = '/dev/shm/stillpoint-bench-memory';

interface Result {
  wallMs: number;
  storeBytes: number;
  peakPrivateBytes: number;
}

/** Best time per contestant and step, and the store's size after it. */
type Results = Map<string, Result>;

export interface BackupFigures {
  readonly rows: readonly Row[];
  readonly versions: readonly string[];
}

export async function backupFigures(
  inputs: Inputs,
  directory: string,
  rounds: number,
  withPeers: boolean,
): Promise<BackupFigures> {
  const contestants: Contestant[] = [new Stillpoint(directory)];
  if (withPeers) {
    contestants.push(new Borg(directory, 'borg'), new Restic(directory));
    // What borg's manual advises for disk images; not the yardstick, since its store
    // grows with every small write.
    contestants.push(new Borg(directory, 'borg fixed', ['--chunker-params=fixed,4194304', '--sparse']));
  }
  const image = join(directory, 'images', 'disk.raw');
  mkdirSync(join(directory, 'images'), { recursive: true });
  const results: Results = new Map();
  const receiver = { cpuMs: 0, peakResidentBytes: 0, peakPrivateBytes: 0 };
  try {
    for (let round = 0; round < rounds; round++) {
      const order = contestants.map(
        (_, index) => contestants[(index + round) % contestants.length] as Contestant,
      );
      for (const contestant of order) await contestant.reset();
      await playRound(inputs, image, directory, order, results);
      for (const contestant of order) raise(receiver, await contestant.close());
    }
  } finally {
    for (const contestant of contestants) await contestant.close();
    rmSync(join(directory, 'images'), { recursive: true });
  }
  const versions = contestants.map(({ version }) => version).filter((version) => version !== '');
  return {
    rows: [...backupRows(results, withPeers), ...memoryRows(results, receiver)],
    versions: [...new Set(versions)],
  };
}

async function playRound(
  inputs: Inputs,
  image: string,
  directory: string,
  contestants: readonly Contestant[],
  results: Results,
): Promise<void> {
  for (const [index, step] of STEPS.entries()) {
    const state = inputs.states[index];
    if (state !== undefined) copyState(state.path, image);
    for (const contestant of contestants) {
      settle(image);
      const measured = await contestant.backup(image);
      keepBest(results, contestant.name, step, { ...measured, storeBytes: contestant.storeBytes() });
    }
  }
  const copy = {
    name: COPY,
    restore: (_: string, target: string) => measure('cp', ['--reflink=never', image, target]),
  };
  for (const contestant of [copy, ...contestants]) {
    const restored = join(directory, 'restored');
    rmSync(restored, { recursive: true, force: true });
    mkdirSync(restored);
    const target = join(restored, basename(image));
    settle(image);
    const measured = await contestant.restore(image, target);
    const started = performance.now();
    shell('sync', target);
    const wallMs = measured.wallMs + performance.now() - started;
    keepBest(results, contestant.name, RESTORE, { ...measured, wallMs, storeBytes: 0 });
    if (shell('b3sum', '--no-names', target).trim() !== inputs.states.at(-1)?.digest) {
      throw new Error(`${contestant.name}: what it restored is not what it backed up`);
    }
    rmSync(restored, { recursive: true });
  }
}

/**
 * The image in the page cache, nobody's unwritten data in the way, and free memory that is really there: a
 * host gives it to a virtual machine at first use, which can cost more than all else, and takes it back when
 * it is free for some seconds.
 */
function settle(image: string): void {
  shell('b3sum', image);
  shell('sync');
  shell('fallocate', '--length', FREE_MEMORY, MEMORY_FILE);
  rmSync(MEMORY_FILE);
}

function keepBest(results: Results, contestant: string, step: string, result: Result): void {
  const key = `${contestant}/${step}`;
  const before = results.get(key);
  const { storeBytes } = result;
  results.set(key, {
    wallMs: Math.min(before?.wallMs ?? Number.POSITIVE_INFINITY, result.wallMs),
    peakPrivateBytes: Math.max(before?.peakPrivateBytes ?? 0, result.peakPrivateBytes),
    storeBytes,
  });
}

function raise(peak: { -readonly [Key in keyof Usage]: Usage[Key] }, usage: Usage | null): void {
  if (usage === null) return;
  for (const key of ['cpuMs', 'peakResidentBytes', 'peakPrivateBytes'] as const) {
    peak[key] = Math.max(peak[key], usage[key]);
  }
}

function backupRows(results: Results, withPeers: boolean): Row[] {
  const get = (name: string, step: string) => results.get(`${name}/${step}`) as Result;
  const told = (name: string, step: string) => `${name} ${seconds(get(name, step).wallMs)}`;
  const peers = withPeers ? ['borg', 'restic', 'borg fixed'] : [];
  const rows: Row[] = [];
  for (const step of STEPS) {
    const ours = get(OURS, step);
    const target = step === STEPS[0] ? FIRST_TARGET : NEXT_TARGET;
    const fasterMs = Math.min(get('borg', step)?.wallMs, get('restic', step)?.wallMs);
    rows.push({
      figure: step,
      ours: seconds(ours.wallMs),
      yardstick: peers.map((name) => told(name, step)).join(', '),
      ratio: withPeers ? times(fasterMs / ours.wallMs) : null,
      target: `≥ ${times(target)} as fast as the faster of borg, restic`,
      met: withPeers ? fasterMs / ours.wallMs >= target : null,
    });
  }
  const copyMs = get(COPY, RESTORE).wallMs;
  const restoreMs = get(OURS, RESTORE).wallMs;
  rows.push({
    figure: `${RESTORE}, synced`,
    ours: seconds(restoreMs),
    yardstick: [COPY, ...peers].map((name) => told(name, RESTORE)).join(', '),
    ratio: times(copyMs / restoreMs),
    target: `≥ ${times(RESTORE_TARGET)} as fast as cp`,
    met: copyMs / restoreMs >= RESTORE_TARGET,
  });
  for (const step of STEPS.slice(0, 3)) {
    const ours = get(OURS, step).storeBytes;
    const sizes = peers.map((name) => `${name} ${mebibytes(get(name, step).storeBytes)}`);
    const borg = get('borg', step)?.storeBytes;
    rows.push({
      figure: `store after ${step}`,
      ours: mebibytes(ours),
      yardstick: sizes.join(', '),
      ratio: withPeers ? times(ours / borg) : null,
      target: `≤ ${times(1)} of borg's`,
      met: withPeers ? ours <= borg : null,
    });
  }
  return rows;
}

function memoryRows(results: Results, receiver: Usage): Row[] {
  const agentPeak = Math.max(
    ...[...results]
      .filter(([key]) => key.startsWith(`${OURS}/`))
      .map(([, result]) => result.peakPrivateBytes),
  );
  const plain = { yardstick: '', ratio: null, target: null, met: null };
  return [
    { ...plain, figure: 'agent, peak of private memory, 6 GiB image', ours: mebibytes(agentPeak) },
    {
      ...plain,
      figure: 'receiver, peak of private memory (of resident)',
      ours: `${mebibytes(receiver.peakPrivateBytes)} (${mebibytes(receiver.peakResidentBytes)})`,
    },
  ];
}
