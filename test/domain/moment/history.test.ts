/**
 * What a time means, against a history that knows better: one device, second by second. A receiver has some
 * of it. Whatever is asked for, the answer gives the state that the device had at the latest second up to
 * then of which the receiver knows, and nothing that an audit refuses.
 */
import test, { type ExecutionContext } from 'ava';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import type { JournalAudit, StoredJournal } from '../../../src/domain/journal/journal.js';
import { type AtTime, resolveTime } from '../../../src/domain/moment/moments.js';
import { spansOf } from '../../../src/domain/moment/spans.js';
import type { Point } from '../../../src/domain/point/point.js';
import { parsePointRef } from '../../../src/domain/point/point-ref.js';
import {
  isoAt,
  pointAt,
  positionAt,
  stampAt,
  storedJournal,
} from '../../helpers/journals/stored-journals.js';
import { LONG, type Random, seededRandom } from '../../helpers/seed.js';

const SECONDS = 60;

interface Held {
  readonly number: number;
  /** By ordinal, from 1: the second of each record. */
  readonly seconds: number[];
  isOpen: boolean;
}

interface Known {
  readonly points: readonly Point[];
  readonly journals: readonly StoredJournal[];
  /** The state of the device at the end of each second. */
  readonly states: readonly number[];
  /** Seconds whose state the receiver can give, and those that are refused. */
  readonly whole: ReadonlySet<number>;
  readonly refused: ReadonlySet<number>;
}

/** Each second there is a write, a point, the end of a journal, or nothing. */
function live(random: Random) {
  const points: Point[] = [];
  const journals: Held[] = [];
  const states: number[] = [];
  let state = 0;
  for (let second = 0; second < SECONDS; second += 1) {
    const open = journals.at(-1)?.isOpen === true ? journals.at(-1) : undefined;
    const event = second === 0 ? 18 : random.below(20);
    if (event < 10) {
      state += 1;
      open?.seconds.push(second);
    } else if (event < 11) open?.seconds.push(second);
    else if (event < 12 && open !== undefined) open.isOpen = false;
    else if (event < 13) points.push(pointAt(points.length + 1, second));
    else if (event < 16) {
      const journal = open ?? { number: journals.length + 1, seconds: [], isOpen: true };
      if (open === undefined) journals.push(journal);
      const ordinal = journal.seconds.push(second);
      points.push(pointAt(points.length + 1, second, positionAt(journal.number, ordinal, second)));
    }
    states.push(state);
  }
  return { points, journals, states };
}

/** What of it a receiver has: journals from some record up to some record, audits, most points. */
function known(random: Random): Known {
  const { points: all, journals: held, states } = live(random);
  const audits = new Map(held.map((journal) => [journal, auditsOf(journal, all, random)]));
  const audited = [...audits.values()].flat().map(({ pointId }) => pointId);
  const points = all.filter(({ id }) => audited.includes(id) || random.below(4) > 0);
  const whole = new Set(points.map(secondOf));
  const refused = new Set<number>();
  const journals = held.flatMap((journal) => {
    const { number, seconds } = journal;
    const count = random.below(3) === 0 ? random.below(seconds.length + 1) : seconds.length;
    if (count === 0) return [storedJournal(number, null, null)];
    const first = random.below(3) === 0 ? 1 + random.below(count) : 1;
    const found = audits.get(journal) ?? [];
    const fault = found.find((audit) => audit.fault !== null);
    const proven = Math.max(
      0,
      ...found.filter((audit) => audit.fault === null).map(({ ordinal }) => ordinal),
    );
    const last = Math.min(count, fault?.ordinal ?? count);
    const ordinals = points.flatMap(({ journal: at }) =>
      at?.journalId.endsWith(String(number)) ? at.ordinal : [],
    );
    const base = ordinals.find(
      (ordinal) => ordinal + 1 >= first && ordinal <= last && ordinal !== fault?.ordinal,
    );
    for (let second = seconds[(base ?? 0) - 1] ?? SECONDS; second <= (seconds[last - 1] ?? 0); second += 1) {
      const isRefused =
        fault !== undefined &&
        second > (seconds[Math.max(proven, base ?? 0) - 1] ?? -1) &&
        second > (seconds[proven - 1] ?? -1);
      (isRefused ? refused : whole).add(second);
    }
    const marks = [first, count].map((ordinal) => [ordinal, seconds[ordinal - 1] ?? 0] as const);
    return [storedJournal(number, marks[0] ?? null, marks[1] ?? null, { audits: found })];
  });
  return { points, journals, states, whole, refused };
}

/** Of its points but the first, up to one that fails. */
function auditsOf({ number }: Held, points: readonly Point[], random: Random): JournalAudit[] {
  const own = points.filter(({ journal }) => journal?.journalId === positionAt(number, 1, 0).journalId);
  const some = own.slice(1, 1 + random.below(own.length));
  const faulty = random.below(3) === 0 ? some.length - 1 : -1;
  return some.map(({ id, journal }, n) => ({
    ...{ pointId: id, ordinal: journal?.ordinal ?? 0 },
    fault: n === faulty ? 'it differs' : null,
  }));
}

const secondOf = ({ instant }: Point): number => (Date.parse(instant) - Date.parse(isoAt(0))) / 1000;

/** What the device had then. Records of a moment are those of its journal, and none is later. */
function stateOf(found: AtTime, { states, journals }: Known): number | undefined {
  if (found.kind === 'point') return states[secondOf(found.point)];
  const { journalId, throughStamp, afterOrdinal, base } = found.moment;
  const journal = journals.find((each) => each.journalId === journalId);
  if (journal?.first == null || journal.last === null) return undefined;
  if (journal.first.ordinal > afterOrdinal + 1 || base.journal?.ordinal !== afterOrdinal) return undefined;
  const [through, last] = [throughStamp, journal.last.stamp].map(
    (stamp) => BigInt(stamp) - BigInt(stampAt(0)),
  );
  const end = Math.floor(Number((through ?? 0n) < (last ?? 0n) ? through : last) / 1e9);
  return states[end];
}

function check(t: ExecutionContext, known: Known, second: number): string {
  const ref = parsePointRef(`disk1@${isoAt(second).replace('.000', '')}`);
  if (ref.by !== 'time') return 'wrong';
  const about = JSON.stringify({
    second,
    points: known.points.map(({ sequence, instant, journal }) => [
      sequence,
      instant.slice(14, 19),
      journal?.ordinal,
    ]),
    journals: known.journals,
  });
  const latest = [...known.whole, ...known.refused].filter((each) => each <= second).sort((a, b) => b - a)[0];
  const isPoint = known.points.some((point) => secondOf(point) === latest);
  let found: AtTime;
  try {
    found = resolveTime(ref, known.points, known.journals, null);
  } catch (error) {
    if (isStillpointError(error, 'journal-faulty')) {
      t.true(latest !== undefined && known.refused.has(latest) && !isPoint, about);
      return 'refused';
    }
    t.true(isStillpointError(error, 'point-unknown') || isStillpointError(error, 'device-unknown'), about);
    t.is(latest, undefined, about);
    return 'none';
  }
  t.true(latest !== undefined && (isPoint || !known.refused.has(latest)), about);
  t.is(stateOf(found, known), known.states[latest ?? 0], about);
  return found.kind;
}

test('every second of random histories means the last state that is known', (t) => {
  const random = seededRandom(t);
  const kinds = new Map<string, number>();
  for (let round = 0; round < (LONG ? 5000 : 300); round += 1) {
    const history = known(random);
    for (let second = 0; second < SECONDS + 2; second += 1) {
      const kind = check(t, history, second);
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    }
  }
  for (const kind of ['point', 'moment', 'refused', 'none']) t.true((kinds.get(kind) ?? 0) > 20, kind);
});

test('spans are the seconds that can be restored, and those that are refused', (t) => {
  const random = seededRandom(t);
  for (let round = 0; round < (LONG ? 5000 : 300); round += 1) {
    const { points, journals, whole, refused } = known(random);
    const spans = spansOf(journals, points);
    for (let second = 0; second < SECONDS; second += 1) {
      const within = spans.filter(
        ({ fromStamp, throughStamp }) =>
          BigInt(fromStamp) < BigInt(stampAt(second)) && BigInt(stampAt(second)) <= BigInt(throughStamp),
      );
      t.true(within.length <= 1);
      const isPoint = points.some((point) => secondOf(point) === second);
      const [span] = within;
      if (span === undefined) t.true(isPoint || !(whole.has(second) || refused.has(second)));
      else t.is(span.state === 'faulty', refused.has(second) && !(whole.has(second) && !isPoint));
    }
  }
});
