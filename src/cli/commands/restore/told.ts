/** What is told of a point that was restored. */
import type { RestoreResult } from '../../../agent/restore/options.js';
import { isoOfStamp } from '../../../domain/journal/journal.js';
import type { Moment } from '../../../domain/moment/moments.js';
import type { Point } from '../../../domain/point/point.js';
import { EXIT_INCOMPLETE, EXIT_OK, EXIT_WARNINGS } from '../../output/exit-codes.js';
import { formatBytes, formatCount, formatInstant } from '../../output/format.js';

export interface Restored {
  /** Of the point, for people. */
  readonly name: string;
  readonly point: Point;
  readonly target: string;
  readonly result: RestoreResult;
}

export function viewOf({ point, target, result }: Restored): object {
  return { point, target, ...result, isComplete: result.lostRanges.length === 0 };
}

export function linesOf({ name, point, target, result }: Restored): string[] {
  return [describe(name, point, target, result), ...lostLines(target, result)];
}

/** The worst of them. */
export function exitCodeOf(results: readonly RestoreResult[]): number {
  if (results.some(({ lostRanges }) => lostRanges.length > 0)) return EXIT_INCOMPLETE;
  return results.every(({ warnings }) => warnings.length === 0) ? EXIT_OK : EXIT_WARNINGS;
}

const RANGES_SHOWN_MAX = 1000;

/** For people; programs get all of them in the result. */
function lostLines(target: string, { lostRanges }: RestoreResult): string[] {
  if (lostRanges.length === 0) return [];
  const bytes = lostRanges.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const where = target === '-' ? 'standard output' : target;
  const more = lostRanges.length - RANGES_SHOWN_MAX;
  return [
    `NOT COMPLETE: ${formatBytes(bytes)} are damaged in the store. ${where} has zeros there:`,
    ...lostRanges
      .slice(0, RANGES_SHOWN_MAX)
      .map(({ byteOffset, byteLength }) => `  bytes ${byteOffset} to ${byteOffset + byteLength - 1}`),
    ...(more > 0 ? [`  and ${formatCount(more, 'more range')}: see --json`] : []),
    'When the device was backed up again, and the blocks came back with that, the same restore adds them.',
  ];
}

/** Beforehand. @param text as it was asked for */
export function momentNote(
  text: string,
  name: string,
  { base, reachStamp, lastOrdinal, endReason }: Moment,
): string {
  const reach = formatInstant(isoOfStamp(reachStamp), 'millisecond');
  const last = lastOrdinal === null ? '' : ', the last write that the receiver has';
  const end = endReason === null ? last : `, where the journal ended: ${endReason}`;
  return `${text} is ${name} of ${formatInstant(base.instant)}, and what was written after it up to ${reach}${end}`;
}

function momentText({ moment }: RestoreResult): string {
  if (moment === undefined) return '';
  const { writes, writtenBytes, time, isAudited } = moment;
  const proof = isAudited ? '' : ', which no later point has proven yet';
  return (
    `, with ${formatCount(writes, 'write')} after it (${formatBytes(writtenBytes)}) ` +
    `up to ${formatInstant(time, 'millisecond')}${proof},`
  );
}

function describe(name: string, point: Point, target: string, result: RestoreResult): string {
  const { writtenBytes, differingBytes, wireBytes, isVerified } = result;
  const size = formatBytes(point.geometry.sizeBytes);
  // A stream has the zeros too.
  const amount =
    target === '-'
      ? size
      : differingBytes === null
        ? `${size}, of which ${formatBytes(writtenBytes)} not zero`
        : `of ${size} ${formatBytes(differingBytes)} differed, ${formatBytes(writtenBytes)} fetched`;
  return (
    `${name} of ${formatInstant(point.instant)}${momentText(result)} restored to ${target === '-' ? 'standard output' : target}: ` +
    `${amount}, ${formatBytes(wireBytes)} on the wire${isVerified ? ', read back and compared' : ''}`
  );
}
