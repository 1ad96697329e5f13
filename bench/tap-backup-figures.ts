/**
 * Backups through a tap, as a user runs them, of sparse images of several sizes; and the memory of the tap's
 * process for the largest.
 */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { connectTap } from '../src/tap/control/client.js';
import { type LoadResult, runFio } from './fio.js';
import { shell, UsageSampler } from './process.js';
import { mebibytes, type Row, seconds, times } from './report.js';
import { Installation } from './stillpoint.js';
import { Samples } from './tap-bench.js';

const BLOCK_BYTES = 65_536;
/** The last: one block less, ext4 keeps no larger file. */
const SIZES = [
  ['64 GiB', 64 * 2 ** 30],
  ['1 TiB', 2 ** 40],
  ['16 TiB', 16 * 2 ** 40 - BLOCK_BYTES],
] as const;
const ROUNDS = 5;
const FIRST_COUNT = 4000;
const CHANGED_COUNT = 1000;
const MARKED_COUNT = 1_000_000;
const TIME_LIMIT_MS = 1000;
const AGENT_LIMIT_BYTES = 150 * 2 ** 20;
const TAP_LIMIT_BYTES = 256 * 2 ** 20;
const WIRE_RATIO = 1.05;
const WIRE_SURPLUS = 64 * 1024;
const NAME = 'bench';

interface Tapped {
  readonly installation: Installation;
  readonly directory: string;
  readonly bytes: number;
  readonly uri: string;
  readonly processId: number;
  readonly controlPath: string;
}

export async function tapBackupFigures(directory: string, quick: boolean): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [name, bytes] of quick ? SIZES.slice(1) : SIZES) {
    await withTap(directory, bytes, async (tapped) => {
      const idleBytes = privateBytes(tapped.processId);
      rows.push(...(await backups(tapped, name, quick ? 1 : ROUNDS)));
      if (bytes === SIZES.at(-1)?.[1]) rows.push(...(await memory(tapped, idleBytes, quick)));
    });
  }
  return rows;
}

async function withTap(
  directory: string,
  bytes: number,
  work: (tapped: Tapped) => Promise<void>,
): Promise<void> {
  const image = join(directory, 'sparse.raw');
  const installation = await Installation.make(join(directory, 'tapped'));
  try {
    shell('truncate', `--size=${bytes}`, image);
    const { stdout } = await installation.agent('tap', 'add', image, '--name', NAME, '--json');
    const { runDirectory, report } = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as {
      readonly runDirectory: string;
      readonly report: { readonly processId: number };
    };
    const { processId } = report;
    const kill = () => process.kill(processId);
    process.once('exit', kill);
    try {
      const uri = `nbd+unix:///${NAME}?socket=${join(runDirectory, 'nbd.sock')}`;
      const controlPath = join(runDirectory, 'control.sock');
      await work({ installation, directory, bytes, uri, processId, controlPath });
    } finally {
      process.off('exit', kill);
      await installation.agent('tap', 'remove', NAME, '--force');
    }
  } finally {
    await installation.remove();
    rmSync(image, { force: true });
  }
}

/** Blocks at random places, with bytes that can't be compressed. */
function writeBlocks({ uri, bytes, directory }: Tapped, count: number): Promise<LoadResult> {
  const options = [`--number_ios=${count}`, '--refill_buffers'];
  const shape = { name: 'blocks', pattern: 'randwrite', blockBytes: BLOCK_BYTES, depth: 8 };
  return runFio(uri, { ...shape, seconds: 0, rangeBytes: bytes, options }, directory);
}

async function backups(tapped: Tapped, name: string, rounds: number): Promise<Row[]> {
  const { installation, directory } = tapped;
  const image = join(directory, 'sparse.raw');
  await writeBlocks(tapped, FIRST_COUNT);
  await installation.backup(image);
  const samples = new Samples();
  for (let round = 0; round < rounds; round++) {
    await writeBlocks(tapped, CHANGED_COUNT);
    shell('sync', '--file-system', directory);
    const before = loopbackBytes();
    const next = await installation.backup(image);
    samples.add('wire', loopbackBytes() - before);
    samples.add('changed', next.point.statistics.changedBytes);
    samples.add('ms', next.wallMs);
    samples.add('resident', next.peakResidentBytes);
    samples.add('private', next.peakPrivateBytes);
  }
  const [wireBytes, changedBytes, wallMs] = [
    samples.median('wire'),
    samples.median('changed'),
    samples.median('ms'),
  ];
  const [residentBytes, heldBytes] = [samples.median('resident'), samples.median('private')];
  const wireLimit = WIRE_RATIO * changedBytes + WIRE_SURPLUS;
  const figure = `tap, ${name} sparse image, next backup of ${CHANGED_COUNT} changed blocks`;
  return [
    {
      figure: `${figure}: time of the command`,
      ours: seconds(wallMs),
      yardstick: '',
      ratio: null,
      target: `< ${seconds(TIME_LIMIT_MS)}`,
      met: wallMs < TIME_LIMIT_MS,
    },
    {
      figure: `${figure}: agent, peak of resident memory (of private)`,
      ours: `${mebibytes(residentBytes)} (${mebibytes(heldBytes)})`,
      yardstick: '',
      ratio: null,
      target: `< ${mebibytes(AGENT_LIMIT_BYTES)}`,
      met: residentBytes < AGENT_LIMIT_BYTES,
    },
    {
      figure: `${figure}: wire bytes`,
      ours: mebibytes(wireBytes),
      yardstick: `changed blocks, incompressible: ${mebibytes(changedBytes)}`,
      ratio: times(wireBytes / changedBytes),
      target: `≤ ${times(WIRE_RATIO)} + 64 KiB`,
      met: wireBytes <= wireLimit,
    },
  ];
}

/**
 * All that went through the loopback device, headers too: a relay that counts would take the time of one
 * core. The tap's sockets are local ones.
 */
function loopbackBytes(): number {
  return Number(readFileSync('/sys/class/net/lo/statistics/rx_bytes', 'utf8'));
}

/** After the backups: the tap has seen its first full snapshot, and given it up again. */
async function memory(tapped: Tapped, idleBytes: number, quick: boolean): Promise<Row[]> {
  const { uri, bytes, directory, processId, controlPath } = tapped;
  const count = quick ? MARKED_COUNT / 10 : MARKED_COUNT;
  // Trims mark as writes do, and leave the sparse image as it is.
  const trims = { name: 'trims', pattern: 'randtrim', blockBytes: BLOCK_BYTES, depth: 32 };
  await runFio(
    uri,
    { ...trims, seconds: 0, rangeBytes: bytes, options: [`--number_ios=${count}`] },
    directory,
  );
  const markedBytes = privateBytes(processId);
  const control = await connectTap(controlPath);
  let heldBytes: number;
  try {
    const options = {
      sessionId: 'f'.repeat(32),
      basePointId: null,
      full: true,
      readBlockSize: 65_536,
      sampleBlocks: [],
    };
    await control.prepare(options);
    await control.closeGate({ barrierMs: 1000, closedMs: 10_000 });
    await control.cut();
    await writeBlocks(tapped, CHANGED_COUNT);
    heldBytes = privateBytes(processId);
    await control.abort();
  } finally {
    control.close();
  }
  const row = (what: string, held: number): Row => ({
    figure: `16 TiB sparse image: process of the tap, private memory, ${what}`,
    ours: mebibytes(held),
    yardstick: mebibytes(TAP_LIMIT_BYTES),
    ratio: times(held / TAP_LIMIT_BYTES),
    target: `≤ ${mebibytes(TAP_LIMIT_BYTES)}`,
    met: held <= TAP_LIMIT_BYTES,
  });
  return [
    row('idle', idleBytes),
    row(`${count.toLocaleString('en')} random blocks marked`, markedBytes),
    row(`and a full snapshot held, ${CHANGED_COUNT} blocks preserved`, heldBytes),
  ];
}

const privateBytes = (processId: number) => new UsageSampler(processId).stop().peakPrivateBytes;
