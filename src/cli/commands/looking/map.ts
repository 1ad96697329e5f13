/**
 * `stillpoint map POINT` and `map DEVICE --over PERIOD`: a picture of a device, from the trees of its points;
 * no data is read, but for the partition table and with `--check`.
 */
import { type Command, InvalidArgumentError } from 'commander';
import { unlessAborted } from '../../../agent/common/cancel.js';
import { StillpointError } from '../../../domain/base/errors.js';
import { KiB } from '../../../domain/base/limits.js';
import { parsePeriod } from '../../../domain/base/quantities.js';
import { type Partition, readPartitionTable } from '../../../domain/device/partition-table.js';
import { CELLS_MAX, CellBytes, CellGrid, CellHeat } from '../../../domain/map/cells.js';
import type { Point } from '../../../domain/point/point.js';
import { parseDeviceRef, pointName } from '../../../domain/point/point-ref.js';
import type { VerifyProgress } from '../../../domain/session/messages.js';
import type { ReceiverPort } from '../../../protocol/port/receiver.js';
import type { CommandContext, Run } from '../../common/context.js';
import { agentOption, type ReceiverChoice, storeOption, withReceiver } from '../../common/open-receiver.js';
import { findPoint, ownAgent } from '../../common/point-argument.js';
import { EXIT_OK } from '../../output/exit-codes.js';
import { formatDuration } from '../../output/format.js';
import { Canvas } from './canvas.js';
import { type HeatMap, type PointMap, showHeat, showPoint } from './map-view.js';

const PERIOD_MS_MIN = 60_000;
const JSON_CELLS = 1024;

interface MapOptions extends ReceiverChoice {
  readonly over?: string;
  readonly cells?: number;
  readonly check?: boolean;
  readonly diff?: boolean;
}

export function addMap(program: Command, run: Run): void {
  program
    .command('map')
    .description(
      'draw a device: content, zeros, damage and changes of a point, or how often each region changed',
    )
    .argument(
      '<point>',
      'DEVICE (its last point), DEVICE@SEQUENCE, DEVICE@TIME or an id; with --over: DEVICE or AGENT/DEVICE',
    )
    .option('--over <period>', 'how often each region changed in this time up to now: 12h, 30d, 8w')
    .option('--check', "also read the point's data again, and show what the store has lost of it")
    .option('--no-diff', 'do not look for what changed since the point before it')
    .option('--cells <n>', `in how many regions, at most ${CELLS_MAX} (default: what fits)`, parseCells)
    .addOption(storeOption())
    .addOption(agentOption())
    .action((text: string, options: MapOptions) => run((context) => map(context, text, options)));
}

function parseCells(text: string): number {
  const cells = Number(text);
  if (Number.isInteger(cells) && cells >= 1 && cells <= CELLS_MAX) return cells;
  throw new InvalidArgumentError(`It is a number from 1 to ${CELLS_MAX}.`);
}

async function map(context: CommandContext, text: string, options: MapOptions): Promise<number> {
  const { over, check, diff } = options;
  if (over !== undefined && (check === true || diff === false)) {
    throw new StillpointError('usage', {
      thing: check === true ? '--check' : '--no-diff',
      reason: 'it is about one point, and --over is about many',
      remedy: 'Omit one of the two.',
    });
  }
  const periodMs = over === undefined ? null : parsePeriod('period', over, PERIOD_MS_MIN);
  await withReceiver(context, options, (receiver) =>
    periodMs === null
      ? mapPoint(context, receiver, text, options)
      : mapTime(context, receiver, text, periodMs, options),
  );
  return EXIT_OK;
}

async function mapPoint(
  context: CommandContext,
  receiver: ReceiverPort,
  text: string,
  { cells, check = false, diff = true }: MapOptions,
): Promise<void> {
  const { signal, output } = context;
  const isDevice = !text.includes('@') && !/^[0-9a-f]{8,32}$/i.test(text);
  const point = await unlessAborted(signal, findPoint(receiver, isDevice ? `${text}@latest` : text));
  const own = await ownAgent(receiver);
  const partitions = await findPartitions(context, receiver, point);
  const canvas = new Canvas(context, point.geometry.sizeBytes, partitions);
  const grid = new CellGrid(point.geometry, cells ?? (output.json ? JSON_CELLS : canvas.cellsMax));
  const content = new CellBytes(grid);
  const progress = output.progress('map', 'reading the tree');
  const { findContent } = await import('../../../agent/map/content.js');
  const resolutionBlocks = await findContent({
    ...{ receiver, point, signal, digester: await plainDigester() },
    onContent: (start, end) => content.addBlocks(start, end),
    onProgress: (doneBytes, totalBytes) => progress.update({ doneBytes, totalBytes }),
  }).finally(() => progress.end());

  const base = diff ? await pointBefore(context, receiver, point) : null;
  const [changed, zeroed] = [new CellBytes(grid), new CellBytes(grid)];
  if (base !== null) {
    await changesBetween(context, receiver, base, point, (start, end, zeroBlocks) => {
      changed.addBlocks(start, end);
      if (zeroBlocks > 0) zeroed.addSome(start, end, zeroBlocks);
    });
  }
  const unreadable = new CellBytes(grid);
  for (const { byteOffset, byteLength } of point.badRanges) unreadable.addBytes(byteOffset, byteLength);
  const leftOut = new CellBytes(grid);
  for (const { byteOffset, byteLength } of point.excluded ?? []) leftOut.addBytes(byteOffset, byteLength);
  const lost = check ? await findLost(context, receiver, point, new CellBytes(grid)) : null;
  const found: PointMap = {
    ...{ point, base, grid, partitions, content, unreadable, leftOut, lost },
    name: pointName(point, own),
    baseName: base && pointName(base, own),
    changed: base && changed,
    zeroed: base && zeroed,
    resolutionBytes: resolutionBlocks * point.geometry.blockSize,
  };
  showPoint(context, canvas, found);
}

async function mapTime(
  context: CommandContext,
  receiver: ReceiverPort,
  text: string,
  periodMs: number,
  { cells }: MapOptions,
): Promise<void> {
  const { output } = context;
  const { agent, device } = parseDeviceRef(text);
  const own = await ownAgent(receiver);
  const last = await findPoint(receiver, `${text}@latest`);
  const isOfDevice = (point: Point) => point.agent === (agent ?? last.agent) && point.device === device;
  const points = (await receiver.points(device)).filter(isOfDevice).sort((a, b) => a.sequence - b.sequence);
  const fromMs = Date.now() - periodMs;
  const firstAt = points.findIndex(({ committedAt }) => Date.parse(committedAt) >= fromMs);
  const inTime = firstAt < 0 ? [] : points.slice(Math.max(0, firstAt - 1));
  if (inTime.length < 2) {
    throw new StillpointError('point-unknown', {
      thing: `device ${text}`,
      reason: `in the last ${formatDuration(periodMs)} it has no point that comes after another one, so no change is known`,
      remedy: 'Name a longer time; "stillpoint points" lists its points.',
    });
  }
  const partitions = await findPartitions(context, receiver, last);
  const canvas = new Canvas(context, last.geometry.sizeBytes, partitions);
  const grid = new CellGrid(last.geometry, cells ?? (output.json ? JSON_CELLS : canvas.cellsMax));
  const heat = new CellHeat(grid);
  let skipped = 0;
  for (const [i, to] of inTime.entries()) {
    const from = inTime[i - 1];
    if (from === undefined) continue;
    if (
      from.geometry.blockSize !== to.geometry.blockSize ||
      to.geometry.blockSize !== grid.geometry.blockSize
    ) {
      skipped += 1;
      continue;
    }
    heat.nextInterval();
    await changesBetween(context, receiver, from, to, (start, end) => heat.addBlocks(start, end));
  }
  const found: HeatMap = {
    ...{ grid, heat, partitions, skipped, periodMs },
    from: inTime[0] ?? last,
    to: last,
    names: [pointName(inTime[0] ?? last, own), pointName(last, own)],
  };
  showHeat(context, canvas, found);
}

/** The one with the next lower sequence that is there. Null: none, or its tree can't be compared. */
async function pointBefore(
  { output, signal }: CommandContext,
  receiver: ReceiverPort,
  point: Point,
): Promise<Point | null> {
  const earlier = (await unlessAborted(signal, receiver.points(point.device))).filter(
    ({ agent, device, sequence }) =>
      agent === point.agent && device === point.device && sequence < point.sequence,
  );
  const last = earlier.reduce<Point | null>((a, b) => (a === null || b.sequence > a.sequence ? b : a), null);
  if (last === null || last.geometry.blockSize === point.geometry.blockSize) return last;
  output.note(
    `The point before has blocks of ${last.geometry.blockSize} bytes: what changed since can't be found.`,
  );
  return null;
}

async function changesBetween(
  { output, signal }: CommandContext,
  receiver: ReceiverPort,
  from: Point,
  to: Point,
  onRange: (start: number, end: number, zeroBlocks: number) => void,
): Promise<void> {
  const work = async () => {
    const progress = output.progress('diff', `comparing ${from.sequence} and ${to.sequence}`);
    try {
      for await (const event of receiver.diff(from.id, to.id)) {
        if (event.type === 'summary') return;
        if (event.type === 'progress') progress.update(event);
        else for (const range of event.ranges) onRange(...range);
      }
    } finally {
      progress.end();
    }
    throw broken('diff');
  };
  await unlessAborted(signal, work());
}

async function findLost(
  { output, signal }: CommandContext,
  receiver: ReceiverPort,
  point: Point,
  lost: CellBytes,
): Promise<CellBytes> {
  const work = async () => {
    const progress = output.progress('check', 'checking');
    try {
      for await (const event of receiver.check(point.id)) {
        if (event.type === 'summary') return lost;
        if (event.type === 'progress') progress.update(event satisfies VerifyProgress);
        else lost.addBlocks(event.start, event.end);
      }
    } finally {
      progress.end();
    }
    throw broken('check');
  };
  return unlessAborted(signal, work());
}

/** How much of a disk's beginning has a table of the usual size, whatever the size of its sectors. */
const PARTITION_HEAD_BYTES = 32 * KiB;

/** None if they can't be had: the picture does not need them. */
async function findPartitions(
  { output, signal }: CommandContext,
  receiver: ReceiverPort,
  point: Point,
): Promise<Partition[]> {
  const { readHead } = await import('../../../agent/map/content.js');
  try {
    const digester = await plainDigester();
    const head = await readHead({ receiver, point, signal, digester }, PARTITION_HEAD_BYTES);
    const { crc32 } = await import('node:zlib');
    const table = await readPartitionTable({
      ...{ sizeBytes: point.geometry.sizeBytes, sectorSizes: [point.identity.logicalSectorSize], crc32 },
      // Logical partitions lie farther on, and are left out.
      read: async (byteOffset, byteLength) => {
        const bytes = Buffer.alloc(byteLength);
        head.copy(bytes, 0, byteOffset, byteOffset + byteLength);
        return bytes;
      },
    });
    const partitions = table === null || typeof table === 'string' ? [] : table.partitions;
    return [...partitions].sort((a, b) => a.byteOffset - b.byteOffset);
  } catch (error) {
    if (signal.aborted) throw error;
    output.note(
      `The partition table is not shown: ${error instanceof Error ? error.message : String(error)}`,
    );
    return [];
  }
}

async function plainDigester() {
  const { native } = await import('../../../native/index.js');
  return native.plainDigester();
}

function broken(thing: string): StillpointError {
  return new StillpointError('connection-lost', {
    thing,
    reason: 'the receiver ended it without a summary',
    remedy: 'Try again.',
    permanent: false,
  });
}
