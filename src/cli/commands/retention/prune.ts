/** `stillpoint prune [DEVICE]`: removes the points that no rule keeps. */
import type { Command } from 'commander';
import { type DeviceRef, parseDeviceRef } from '../../../domain/point/point-ref.js';
import type { PlannedPointView, RemovalSummary } from '../../../receiver/retention/messages.js';
import type { CommandContext, Run } from '../../common/context.js';
import {
  type Column,
  formatBytes,
  formatCount,
  formatDuration,
  formatInstant,
  formatTable,
} from '../../output/format.js';
import { askRetention, nameOf, type StoreChoice, storeDirectoryOption, storeOf, tellClock } from './ask.js';

const COLUMNS: readonly Column[] = [
  { title: 'POINT' },
  { title: 'COMMITTED' },
  { title: 'AGE', align: 'right' },
  { title: '' },
  { title: 'WHY' },
];

interface PruneChoice extends StoreChoice {
  readonly dryRun?: boolean;
}

export function addPrune(program: Command, run: Run): void {
  program
    .command('prune')
    .description('remove the points that no rule keeps; "retention set" says what is kept')
    .argument('[device]', 'only points of this device, of all agents; AGENT/DEVICE for one agent')
    .option('--dry-run', 'remove nothing: show which points stay, which go, and why')
    .addOption(storeDirectoryOption())
    .addHelpText(
      'after',
      `
The last point of a device always stays. So do pinned points, points younger than the minimum age, and points in
use. A receiver that serves prunes by itself every hour. The space is freed by the next collection.`,
    )
    .action((device: string | undefined, options: PruneChoice) =>
      run((context) => prune(context, device, options)),
    );
}

async function prune(
  context: CommandContext,
  device: string | undefined,
  options: PruneChoice,
): Promise<number> {
  const asked: Partial<DeviceRef> = device === undefined ? {} : parseDeviceRef(device);
  const scope = { agent: asked.agent ?? null, device: asked.device ?? null };
  const directory = await storeOf(context, options);
  return options.dryRun === true
    ? showPlan(context, directory, scope)
    : removePoints(context, directory, scope);
}

type Scope = { readonly agent: string | null; readonly device: string | null };

async function showPlan(context: CommandContext, directory: string, scope: Scope): Promise<number> {
  const points: PlannedPointView[] = [];
  const summary = await askRetention(context, directory, { to: 'plan', ...scope }, (point) =>
    points.push(point),
  );
  const lines = points.length === 0 ? [] : formatTable(COLUMNS, points.map(row));
  const ending = `${formatCount(summary.staying, 'point')} would stay, ${summary.going} would go.`;
  const exitCode = tellClock(context, summary.clockDoubt);
  const told = [ending, ...journalLine(summary, 'would be freed, at most'), ...policyHint(summary)];
  context.output.result({ ...summary, points }, [...lines, ...told], true);
  return exitCode;
}

function row({ stays, reasons, ageMs, flaw, committedAt, ...point }: PlannedPointView): string[] {
  const why = reasons.map(({ text }) => text).join('; ');
  return [
    nameOf(point),
    formatInstant(committedAt),
    ageMs === null ? '?' : formatDuration(ageMs),
    stays ? 'stays' : 'goes',
    flaw === null ? why : `${why} (not whole: ${flaw})`,
  ];
}

async function removePoints(context: CommandContext, directory: string, scope: Scope): Promise<number> {
  const { output } = context;
  const removed: PlannedPointView[] = [];
  const summary = await askRetention(context, directory, { to: 'prune', ...scope }, (point) => {
    removed.push(point);
    output.part('removed', point, [
      `${nameOf(point)}: removed: ${point.reasons.map(({ text }) => text).join('; ')}`,
    ]);
  });
  output.stands('The points are removed.');
  const exitCode = tellClock(context, summary.clockDoubt);
  const ending = `${formatCount(summary.going, 'point')} removed, ${summary.staying} stay.`;
  const told = [ending, ...journalLine(summary, 'freed'), ...policyHint(summary)];
  output.result({ ...summary, removed }, told, true);
  return exitCode;
}

function journalLine({ journals }: RemovalSummary, what: string): string[] {
  if (journals === undefined) return [];
  return [`${formatBytes(journals.bytes)} of ${formatCount(journals.journalCount, 'journal')} ${what}.`];
}

function policyHint({ deviceCount, withoutPolicy }: RemovalSummary): string[] {
  if (withoutPolicy === 0) return [];
  return withoutPolicy === deviceCount
    ? ['No policy is set, so everything is kept. Set one with "stillpoint retention set".']
    : [`${formatCount(withoutPolicy, 'device')} without a policy: everything of these is kept.`];
}
