/**
 * `stillpoint points [DEVICE] [--partial | --journal]`: the committed restore points, and group points of
 * them; or the blocks that were delivered without one; or what journals have between them.
 */
import { type Command, Option } from 'commander';
import { unlessAborted } from '../../agent/common/cancel.js';
import { isStillpointError } from '../../domain/base/errors.js';
import {
  type BrokenGroupPoint,
  brokenGroupPoints,
  type GroupPoint,
  groupPoints,
} from '../../domain/point/group.js';
import type { Point } from '../../domain/point/point.js';
import { deviceName, parseDeviceRef, pointName } from '../../domain/point/point-ref.js';
import type { PartialSet, PointDamage } from '../../domain/session/messages.js';
import type { PointPin, PointPort } from '../../protocol/port/point.js';
import type { CommandContext, Run } from '../common/context.js';
import { agentOption, type ReceiverChoice, storeOption, withReceiver } from '../common/open-receiver.js';
import { ownAgent } from '../common/point-argument.js';
import { EXIT_OK } from '../output/exit-codes.js';
import {
  type Column,
  formatBytes,
  formatCount,
  formatDuration,
  formatInstant,
  formatTable,
} from '../output/format.js';
import { brokenLines, groupTable, groupView } from '../output/group-points.js';
import { leftOutLines } from '../output/left-out.js';
import { journalSpans } from './points-journal.js';

const COLUMNS: readonly Column[] = [
  { title: 'POINT' },
  { title: 'INSTANT' },
  { title: 'KIND' },
  { title: 'SIZE', align: 'right' },
  { title: 'CHANGED', align: 'right' },
  { title: 'WIRE', align: 'right' },
  { title: 'STORED', align: 'right' },
  { title: 'TOOK', align: 'right' },
  { title: 'WARNINGS', align: 'right' },
  { title: 'ID' },
];

const PARTIAL_COLUMNS: readonly Column[] = [
  { title: 'DEVICE' },
  { title: 'BEGUN' },
  { title: 'STATE' },
  { title: 'DURABLE', align: 'right' },
  { title: 'LAST ACTIVITY' },
  { title: 'KEPT UNTIL' },
  { title: 'SESSION' },
];

export function addPoints(program: Command, run: Run): void {
  program
    .command('points')
    .description('list restore points')
    .argument(
      '[device]',
      'only points of the device, or group, with this name; AGENT/DEVICE in a directory with several agents',
    )
    .option('--partial', 'unfinished backups, whose blocks the receiver keeps for a time')
    .addOption(
      new Option('--journal', 'which seconds can be restored, from the journals of taps').conflicts(
        'partial',
      ),
    )
    .addOption(storeOption())
    .addOption(agentOption())
    .action((device: string | undefined, { partial, journal, ...choice }: Choice) => {
      const list = partial === true ? partialSets : journal === true ? journalSpans : points;
      return run((context) => list(context, device, choice));
    });
}

interface Choice extends ReceiverChoice {
  readonly partial?: boolean;
  readonly journal?: boolean;
}

async function partialSets(
  context: CommandContext,
  device: string | undefined,
  choice: ReceiverChoice,
): Promise<number> {
  const { found, own } = await withReceiver(context, choice, async (receiver) => ({
    found: await listed(context, device, (name) => receiver.partialSets(name)),
    own: await ownAgent(receiver),
  }));
  const lines =
    found.length === 0
      ? [
          device === undefined
            ? 'There are no partial sets.'
            : `There are no partial sets of device ${device}.`,
        ]
      : formatTable(
          PARTIAL_COLUMNS,
          found.map((set) => partialRow(set, own)),
        );
  context.output.result({ partialSets: found }, lines, true);
  return EXIT_OK;
}

function partialRow(set: PartialSet, own: string | null): string[] {
  return [
    set.agent === undefined ? set.device : deviceName({ agent: set.agent, device: set.device }, own),
    set.begunAt === null ? '-' : formatInstant(set.begunAt),
    set.state,
    formatBytes(set.durableBytes),
    formatInstant(set.lastActivityAt),
    formatInstant(set.expiresAt),
    set.sessionId.slice(0, 12),
  ];
}

async function points(
  context: CommandContext,
  name: string | undefined,
  choice: ReceiverChoice,
): Promise<number> {
  const { listing, own, agents, pins, damage } = await withReceiver(context, choice, async (receiver) => {
    const own = await ownAgent(receiver);
    return {
      own,
      listing: await unlessAborted(context.signal, listPoints(receiver, name, own)),
      pins: (await receiver.pins?.()) ?? [],
      agents: (await receiver.agents?.()) ?? [],
      damage: await damageOf(receiver),
    };
  });
  const { found, groups, broken } = listing;
  const lines =
    found.length === 0
      ? [`There are no points${ofWhom(name, choice)}.${ofOthers(agents.filter((agent) => agent !== own))}`]
      : [
          ...formatTable(COLUMNS, rows(found, own)),
          ...groupTable(groups, own),
          ...brokenLines(broken, own),
          ...pinned(found, pins, own),
          ...leftOut(found, own),
          ...warnings(found, own),
          ...damaged(found, own, damage),
        ];
  const shown = new Set(found.map(({ id }) => id));
  const damages = [...damage.values()].filter(({ pointId }) => shown.has(pointId));
  const shownPins = pins.filter(({ pointId }) => shown.has(pointId));
  context.output.result(
    {
      ...{ points: found, damaged: damages, groups: groups.map(groupView) },
      ...(shownPins.length === 0 ? {} : { pins: shownPins }),
    },
    lines,
    true,
  );
  return EXIT_OK;
}

interface Listing {
  readonly found: readonly Point[];
  /** That have one of them. */
  readonly groups: readonly GroupPoint[];
  readonly broken: readonly BrokenGroupPoint[];
}

/** @param name of a device, otherwise of a group; undefined: all points */
async function listPoints(
  receiver: Pick<PointPort, 'points'>,
  name: string | undefined,
  own: string | null,
): Promise<Listing> {
  const asked = name === undefined ? undefined : parseDeviceRef(name);
  const isOfAgent = ({ agent }: Point) => (asked?.agent ?? agent) === agent;
  const ofDevice = (await receiver.points(asked?.device)).filter(isOfAgent);
  const isAll = asked === undefined || ofDevice.every(({ group }) => group === undefined);
  // The other points of their group points; or the name is a group's.
  const all = isAll && ofDevice.length > 0 ? ofDevice : (await receiver.points()).filter(isOfAgent);
  const found =
    ofDevice.length > 0
      ? ofDevice
      : all.filter(({ group }) => group !== undefined && group.name === asked?.device);
  const shown = new Set(found.map(({ id }) => id));
  const isShown = (group: { readonly points: readonly Point[] }) =>
    group.points.some(({ id }) => shown.has(id));
  return {
    found,
    groups: groupPoints(all, own).filter(isShown),
    broken: brokenGroupPoints(all, own).filter(isShown),
  };
}

/** By point. A receiver of a former version can't be asked. */
async function damageOf(receiver: Pick<PointPort, 'damage'>): Promise<Map<string, PointDamage>> {
  const damages = await receiver.damage().catch((error: unknown) => {
    if (isStillpointError(error) && error.permanent) return [];
    throw error;
  });
  return new Map(damages.map((damage) => [damage.pointId, damage]));
}

/** @param text DEVICE or AGENT/DEVICE */
async function listed<T extends { readonly agent?: string }>(
  { signal }: CommandContext,
  text: string | undefined,
  list: (device: string | undefined) => Promise<T[]>,
): Promise<T[]> {
  const asked = text === undefined ? undefined : parseDeviceRef(text);
  const found = await unlessAborted(signal, list(asked?.device));
  return asked?.agent === undefined ? found : found.filter(({ agent }) => agent === asked.agent);
}

function ofOthers(agents: readonly string[]): string {
  return agents.length === 0 ? '' : ` Agents with points: ${agents.join(', ')}.`;
}

/** A receiver's directory has other agents' points too: whose were looked for is said. */
function ofWhom(device: string | undefined, { agent }: ReceiverChoice): string {
  return [
    device === undefined ? '' : ` of device ${device}`,
    agent === undefined ? '' : ` of agent ${agent}`,
  ].join('');
}

/**
 * To the millisecond where a device has another point within the same second: each can be named by the
 * time that it is listed with.
 */
function rows(found: readonly Point[], own: string | null): string[][] {
  const toTheSecond = (point: Point) => `${deviceName(point, own)}@${formatInstant(point.instant)}`;
  const counts = new Map<string, number>();
  for (const name of found.map(toTheSecond)) counts.set(name, (counts.get(name) ?? 0) + 1);
  return found.map((point) =>
    row(
      pointName(point, own),
      point,
      formatInstant(point.instant, counts.get(toTheSecond(point)) === 1 ? 'second' : 'millisecond'),
    ),
  );
}

function row(name: string, point: Point, instant: string): string[] {
  return [
    name,
    instant,
    point.kind,
    formatBytes(point.geometry.sizeBytes),
    formatBytes(point.statistics.changedBytes),
    formatBytes(point.statistics.wireBytes),
    formatBytes(point.storedBytes),
    formatDuration(point.statistics.durationMs),
    point.warnings.length === 0 ? '-' : String(point.warnings.length),
    point.id.slice(0, 12),
  ];
}

function leftOut(found: readonly Point[], own: string | null): string[] {
  return found.flatMap((point) =>
    leftOutLines(point).map((text) => `${pointName(point, own)}: leaves out ${text}`),
  );
}

function pinned(found: readonly Point[], pins: readonly PointPin[], own: string | null): string[] {
  return found.flatMap((point) =>
    pins
      .filter(({ pointId }) => pointId === point.id)
      .map(
        ({ reason, until }) =>
          `${pointName(point, own)}: pinned${until === null ? '' : ` until ${formatInstant(until)}`}: ${reason}`,
      ),
  );
}

function warnings(found: readonly Point[], own: string | null): string[] {
  return found.flatMap((point) => point.warnings.map((text) => `${pointName(point, own)}: warning: ${text}`));
}

function damaged(
  found: readonly Point[],
  own: string | null,
  damage: ReadonlyMap<string, PointDamage>,
): string[] {
  return found.flatMap((point) => {
    const known = damage.get(point.id);
    if (known === undefined) return [];
    const amount = `${formatBytes(known.byteCount)} in ${formatCount(known.blockCount, 'block')}`;
    return [`${pointName(point, own)}: DAMAGED: ${amount} can't be restored until a backup brings them back`];
  });
}
