/** Taps as people and programs see them. Pure. */
import { MiB } from '../../domain/base/limits.js';
import type { TapJournalHead } from '../../native/index.js';
import type { TapReport } from '../../tap/control/messages.js';
import { nbdUri } from '../../tap/registry/listen-address.js';
import type { TapSettings } from '../../tap/registry/settings.js';
import { type SourceProblem, sourceProblem } from '../../tap/source/source-state.js';
import {
  type Column,
  formatBytes,
  formatCount,
  formatDuration,
  formatInstant,
  formatTable,
} from './format.js';

/** Where a segment ends, but for a part of a record (docs/journal.md, "The spool"). */
const SEGMENT_BYTES = 64 * MiB;
const SEGMENTS_MIN = 8;
/** What a clock is set by every day is not worth a word. */
const AHEAD_MS = 10_000;
const NANOSECONDS_PER_MS = 1_000_000n;

export interface ShownTap {
  readonly settings: TapSettings;
  /** Null: it does not run. */
  readonly report: TapReport | null;
}

export function tapJson({ settings, report }: ShownTap): object {
  return { ...settings, running: report !== null, report };
}

const COLUMNS: readonly Column[] = [
  { title: 'TAP' },
  { title: 'STATE' },
  { title: 'SOURCE' },
  { title: 'DEVICE' },
  { title: 'CLIENTS', align: 'right' },
  { title: 'CHANGED', align: 'right' },
];

export function listLines(shown: readonly ShownTap[]): string[] {
  if (shown.length === 0) return ['There are no taps.'];
  return formatTable(
    COLUMNS,
    shown.map(({ settings, report }) => [
      settings.name,
      stateOf(report),
      settings.sourcePath,
      report?.attachment.device ?? '-',
      report === null ? '-' : String(report.status.counters.connections),
      report === null ? '-' : changed(report),
    ]),
  );
}

function stateOf(report: TapReport | null): string {
  if (report === null) return 'stopped';
  const { hold } = report.status;
  if (problemOf(report) !== null) return 'serving, its source has changed';
  if (hold === null) return 'serving';
  return hold.state === 'held' ? 'serving, snapshot held' : 'serving, snapshot given up';
}

function problemOf({ name, status: { sizeBytes }, source }: TapReport): SourceProblem | null {
  return sourceProblem({ name, sizeBytes }, source);
}

/** Blocks of both maps may be the same ones: at most. */
function changed({ status: { map, blockSize } }: TapReport): string {
  if (map.pointIds === null) return 'not known';
  return formatBytes((map.changedBlocks + map.writtenBlocks) * blockSize);
}

export function describeTap({ settings, report }: ShownTap): string[] {
  const { name, sourcePath, readOnly, preserveDirectory, preserveMaxBytes, whenFull } = settings;
  const listen = (report?.listen ?? settings.listen).map((address) => nbdUri(address, settings.exportName));
  const preserve = `up to ${formatBytes(preserveMaxBytes)} in ${preserveDirectory}, then ${
    whenFull === 'fail' ? 'the backup fails' : 'writes wait'
  }`;
  return [
    `${name}: ${stateOf(report)}${readOnly ? ', read-only' : ''}`,
    `  source    ${sourcePath}`,
    ...listen.map((uri) => `  connect   ${uri}`),
    ...(report === null ? [] : running(report)),
    `  preserve  ${preserve}`,
    ...journalLines(settings, report),
  ];
}

function running(report: TapReport): string[] {
  const { attachment, processId, startedAt, status } = report;
  const problem = problemOf(report);
  const { counters, hold, map, sizeBytes, blockSize } = status;
  const written = `${formatBytes(counters.writtenBytes)} written, ${formatBytes(counters.readBytes)} read`;
  const persistent = map.persistent ? '' : "; it can't be written, and is lost at the next stop";
  return [
    ...(attachment.device === null ? [] : [`  device    ${attachment.device}`]),
    ...(attachment.problem === null ? [] : [`  device    none: ${attachment.problem}`]),
    `  process   ${processId}, since ${formatInstant(startedAt)}`,
    `  size      ${formatBytes(sizeBytes)} in blocks of ${formatBytes(blockSize)}`,
    `  users     ${formatCount(counters.connections, 'connection')}, ${written}, ${formatCount(counters.errors, 'error')}`,
    `  map       ${map.reason}; ${formatCount(map.changedBlocks, 'block')} to ship, ${formatCount(map.writtenBlocks, 'block')} written since the last instant${persistent}`,
    ...(hold === null ? [] : [`  snapshot  ${describeHold(hold)}`]),
    ...(problem === null ? [] : [`  problem   ${problem.reason}. ${problem.remedy}`]),
  ];
}

function describeHold(hold: NonNullable<TapReport['status']['hold']>): string {
  if (hold.state === 'invalid') return `given up: ${hold.reason}`;
  return `held for session ${hold.sessionId}, ${formatCount(hold.neededBlocks, 'block')} to read, ${formatBytes(hold.preservedBytes)} preserved`;
}

// ---- the journal ----

export function journalLines({ journal }: TapSettings, report: TapReport | null): string[] {
  if (journal === null) return [];
  const room = `up to ${formatBytes(journal.maxBytes)} in ${journal.directory}`;
  const lines = [room, ...(report === null ? [] : runningJournal(report.status.journal, journal.maxBytes))];
  return lines.map((line, index) => `  ${index === 0 ? 'journal' : '       '}   ${line}`);
}

function runningJournal(status: TapReport['status']['journal'], maxBytes: number): string[] {
  if (status === undefined) return ['from the next start of the tap on'];
  const { heads, failure, aheadMs } = status;
  const ahead = `its stamps are ${formatDuration(aheadMs)} ahead of the clock, which was there once`;
  return [
    ...heads.map((head) => describeHead(head, maxBytes)),
    ...(heads.length === 0 && failure === '' ? ['it begins with the next backup'] : []),
    ...(failure === '' ? [] : [`none is written: ${failure}`]),
    ...(aheadMs >= AHEAD_MS ? [ahead] : []),
  ];
}

function describeHead(head: TapJournalHead, maxBytes: number): string {
  const { journalId, ordinal, stamp, segment, oldestSegment, endOffset } = head;
  const bytes = (segment - oldestSegment) * Math.min(SEGMENT_BYTES, maxBytes / SEGMENTS_MIN) + endOffset;
  const kept = `${journalId}, ${formatCount(ordinal, 'record')} up to ${timeOf(stamp)}, ${formatBytes(bytes)} in the spool`;
  return head.state === 'broken' ? `broken at ${timeOf(head.brokenStamp)}: ${head.reason}; ${kept}` : kept;
}

function timeOf(stamp: string): string {
  return formatInstant(new Date(Number(BigInt(stamp) / NANOSECONDS_PER_MS)).toISOString());
}
