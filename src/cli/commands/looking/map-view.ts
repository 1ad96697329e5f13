/** What `map` shows to people and programs. docs/usage.md defines each figure. */
import type { Partition } from '../../../domain/device/partition-table.js';
import type { CellBytes, CellGrid, CellHeat } from '../../../domain/map/cells.js';
import type { Point } from '../../../domain/point/point.js';
import type { CommandContext } from '../../common/context.js';
import { formatBytes, formatCount, formatDuration } from '../../output/format.js';
import type { Canvas, Mark } from './canvas.js';

export interface PointMap {
  readonly point: Point;
  readonly base: Point | null;
  readonly name: string;
  readonly baseName: string | null;
  readonly grid: CellGrid;
  readonly partitions: readonly Partition[];
  readonly content: CellBytes;
  /** Content is looked for in pieces of so many bytes; a block's size: it is exact. */
  readonly resolutionBytes: number;
  /** Null: not looked for. */
  readonly changed: CellBytes | null;
  readonly zeroed: CellBytes | null;
  readonly unreadable: CellBytes;
  /** They read as zeros, and say nothing. */
  readonly leftOut: CellBytes;
  readonly lost: CellBytes | null;
}

export interface HeatMap {
  readonly grid: CellGrid;
  readonly heat: CellHeat;
  readonly from: Point;
  readonly to: Point;
  readonly names: readonly [string, string];
  readonly partitions: readonly Partition[];
  /** Pairs of points whose block sizes differ. */
  readonly skipped: number;
  readonly periodMs: number;
}

const ZERO: Mark = { utf8: '·', ascii: '.', color: 2, meaning: 'zeros' };
const SOME: Mark = { utf8: '░', ascii: ':', meaning: 'some content' };
const MOST: Mark = { utf8: '▓', ascii: '#', meaning: 'mostly content' };
const CHANGED: Mark = { utf8: '◆', ascii: '*', color: 33, meaning: 'changed' };
const ZEROED: Mark = { utf8: '◇', ascii: 'o', color: 36, meaning: 'became zeros' };
const UNREADABLE: Mark = { utf8: 'x', ascii: 'x', color: 31, meaning: 'unreadable on the device' };
const LEFT_OUT: Mark = { utf8: '-', ascii: '-', color: 2, meaning: 'left out' };
const LOST: Mark = { utf8: '!', ascii: '!', color: 31, meaning: 'lost in the store' };

const NEVER: Mark = { utf8: '·', ascii: '.', color: 2, meaning: 'never' };
const HEAT: readonly Mark[] = [
  { utf8: '░', ascii: '-', meaning: 'up to 1/4 of the times' },
  { utf8: '▒', ascii: '+', color: 33, meaning: '1/2' },
  { utf8: '▓', ascii: '*', color: 33, meaning: '3/4' },
  { utf8: '█', ascii: '#', color: 31, meaning: 'more' },
];

export function showPoint(context: CommandContext, canvas: Canvas, map: PointMap): void {
  const { grid, changed, lost, content, unreadable, leftOut, zeroed } = map;
  if (context.output.json) {
    for (let cell = 0; cell < grid.cellCount; cell += 1) {
      const figures = {
        contentBytes: content.of(cell),
        changedBytes: changed?.of(cell) ?? null,
        zeroedBytes: zeroed && Math.round(zeroed.of(cell)),
        unreadableBytes: unreadable.of(cell),
        leftOutBytes: leftOut.of(cell),
        lostBytes: lost?.of(cell) ?? null,
      };
      if (Object.values(figures).some((bytes) => bytes !== null && bytes > 0))
        context.output.part('region', { ...grid.cell(cell), ...figures }, []);
    }
  } else if (grid.cellCount > 0) {
    const legend = [ZERO, SOME, MOST, ...(changed === null ? [] : [CHANGED, ZEROED])];
    if (leftOut.total > 0) legend.push(LEFT_OUT);
    if (unreadable.total > 0) legend.push(UNREADABLE);
    if (lost !== null) legend.push(LOST);
    canvas.draw(grid, (cell) => markOf(map, cell), legend);
  }
  context.output.result(
    {
      point: map.point,
      base: map.base,
      regionCount: grid.cellCount,
      regionBytes: grid.cellBlocks * grid.geometry.blockSize,
      resolutionBytes: map.resolutionBytes,
      contentBytes: content.total,
      changedBytes: changed?.total ?? null,
      zeroedBytes: zeroed && Math.round(zeroed.total),
      unreadableBytes: unreadable.total,
      leftOutBytes: leftOut.total,
      lostBytes: lost?.total ?? null,
      partitions: map.partitions,
    },
    [pointSummary(map)],
    true,
  );
}

/** The worst first: a picture must not hide damage behind something else. */
export function markOf(
  { grid, lost, unreadable, leftOut, changed, zeroed, content }: PointMap,
  cell: number,
): Mark {
  if (lost !== null && lost.of(cell) > 0) return LOST;
  if (unreadable.of(cell) > 0) return UNREADABLE;
  // That it became zeros in the point is not a change of the device.
  if (leftOut.of(cell) === grid.cell(cell).byteLength) return LEFT_OUT;
  const changedBytes = changed?.of(cell) ?? 0;
  if (changedBytes > 0) return content.of(cell) === 0 || zeroed?.of(cell) === changedBytes ? ZEROED : CHANGED;
  if (content.of(cell) === 0) return leftOut.of(cell) > 0 ? LEFT_OUT : ZERO;
  return content.of(cell) * 2 < grid.cell(cell).byteLength ? SOME : MOST;
}

function pointSummary(map: PointMap): string {
  const { point, content, changed, unreadable, leftOut, lost, name, baseName, resolutionBytes } = map;
  const { sizeBytes, blockSize } = point.geometry;
  const isExact = resolutionBytes === blockSize;
  return [
    `${name}: ${formatBytes(sizeBytes)}`,
    `${isExact ? '' : 'at most '}${formatBytes(content.total)} content${isExact ? '' : ` (looked at in pieces of ${formatBytes(resolutionBytes)})`}`,
    ...(changed === null ? [] : [`${formatBytes(changed.total)} changed since ${baseName}`]),
    ...(leftOut.total === 0 ? [] : [`${formatBytes(leftOut.total)} left out`]),
    ...(unreadable.total === 0 ? [] : [`${formatBytes(unreadable.total)} unreadable on the device`]),
    ...(lost === null ? [] : [`${formatBytes(lost.total)} lost in the store`]),
  ].join(', ');
}

export function showHeat(context: CommandContext, canvas: Canvas, map: HeatMap): void {
  const { grid, heat, names, skipped, periodMs } = map;
  if (context.output.json) {
    for (let cell = 0; cell < grid.cellCount; cell += 1) {
      const changedTimes = heat.intervalsOf(cell);
      if (changedTimes > 0)
        context.output.part(
          'region',
          { ...grid.cell(cell), changedTimes, changedBytes: heat.bytes.of(cell) },
          [],
        );
    }
  } else if (grid.cellCount > 0) {
    canvas.draw(grid, (cell) => heatMark(heat.intervalsOf(cell), heat.intervalCount), [NEVER, ...HEAT]);
  }
  const times = heat.intervalCount;
  context.output.result(
    {
      ...{ from: map.from, to: map.to, regionCount: grid.cellCount },
      regionBytes: grid.cellBlocks * grid.geometry.blockSize,
      ...{ intervalCount: times, skippedIntervals: skipped, changedBytes: heat.bytes.total },
      partitions: map.partitions,
    },
    [
      `${names[0]} to ${names[1]}, in ${formatDuration(periodMs)}: ${formatBytes(heat.bytes.total)} changed in ` +
        `${formatCount(times, 'interval')} between points` +
        (skipped === 0 ? '' : `; ${formatCount(skipped, 'interval')} left out, as the block size differs`),
    ],
    true,
  );
}

function heatMark(times: number, of: number): Mark {
  if (times === 0) return NEVER;
  const level = Math.min(HEAT.length - 1, Math.ceil((times / of) * HEAT.length) - 1);
  return HEAT[level] ?? NEVER;
}
