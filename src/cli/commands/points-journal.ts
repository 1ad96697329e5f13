/** `stillpoint points --journal [DEVICE]`: which seconds can be restored from journals of taps. */
import { unlessAborted } from '../../agent/common/cancel.js';
import { isoOfStamp } from '../../domain/journal/journal.js';
import { type Span, spansOf } from '../../domain/moment/spans.js';
import { deviceName, parseDeviceRef, pointName } from '../../domain/point/point-ref.js';
import type { CommandContext } from '../common/context.js';
import { type ReceiverChoice, withReceiver } from '../common/open-receiver.js';
import { ownAgent } from '../common/point-argument.js';
import { EXIT_OK } from '../output/exit-codes.js';
import { type Column, formatBytes, formatInstant, formatTable } from '../output/format.js';

const COLUMNS: readonly Column[] = [
  { title: 'DEVICE' },
  { title: 'FROM' },
  { title: 'TO' },
  { title: 'STATE' },
  { title: 'POINTS' },
  { title: 'JOURNAL', align: 'right' },
  { title: 'ID' },
];

const STATES = { audited: 'audited', unaudited: 'not audited yet', faulty: 'REFUSED' } as const;

export async function journalSpans(
  context: CommandContext,
  text: string | undefined,
  choice: ReceiverChoice,
): Promise<number> {
  const asked = text === undefined ? undefined : parseDeviceRef(text);
  const { spans, own } = await withReceiver(context, choice, async (receiver) => {
    const journals = await unlessAborted(context.signal, receiver.journals(asked?.device));
    const points = journals.length === 0 ? [] : await receiver.points(asked?.device);
    return { spans: spansOf(journals, points), own: await ownAgent(receiver) };
  });
  const found = spans.filter(({ journal }) => (asked?.agent ?? journal.agent) === journal.agent);
  const lines =
    found.length === 0
      ? [
          `There is no journal${text === undefined ? '' : ` of device ${text}`} from which a second can be restored.`,
        ]
      : spanLines(found, own);
  context.output.result({ spans: found.map(spanView) }, lines, true);
  return EXIT_OK;
}

/** For programs. */
export function spanView({ journal, fromStamp, throughStamp, state, bases, reason }: Span): object {
  const { agent, device, journalId, clockId, sizeBytes } = journal;
  return {
    ...{ agent, device, state, reason },
    ...{ from: isoOfStamp(fromStamp), to: isoOfStamp(throughStamp), fromStamp, throughStamp },
    bases: bases.map(({ id, sequence }) => ({ id, sequence })),
    journal: { journalId, clockId, sizeBytes, isEnded: journal.end !== null },
  };
}

/** @param own as of `pointName` */
export function spanLines(spans: readonly Span[], own: string | null): string[] {
  return [...formatTable(COLUMNS, rows(spans, own)), ...spans.flatMap((span) => reasonOf(span, own))];
}

/** The size is that of the journal: it stands where its first span does. */
function rows(spans: readonly Span[], own: string | null): string[][] {
  const known = new Set<string>();
  return spans.map(({ journal, fromStamp, throughStamp, state, bases }) => {
    const isFirst = !known.has(journal.journalId);
    known.add(journal.journalId);
    return [
      deviceName(journal, own),
      formatInstant(isoOfStamp(fromStamp)),
      formatInstant(isoOfStamp(throughStamp)),
      STATES[state],
      pointsOf(bases),
      isFirst ? formatBytes(journal.sizeBytes) : '',
      isFirst ? journal.journalId.slice(0, 12) : '',
    ];
  });
}

function pointsOf(bases: Span['bases']): string {
  const [first, last] = [bases[0]?.sequence, bases.at(-1)?.sequence];
  return first === last ? `@${first}` : `@${first} to @${last}`;
}

function reasonOf(
  { journal, fromStamp, throughStamp, state, bases, reason }: Span,
  own: string | null,
): string[] {
  if (reason === null) return [];
  const [first] = bases;
  const after = first === undefined ? '' : ` after ${pointName(first, own)}`;
  const [from, to] = [fromStamp, throughStamp].map((stamp) => formatInstant(isoOfStamp(stamp)));
  if (state === 'faulty')
    return [`${deviceName(journal, own)}: REFUSED${after}, from ${from} to ${to}: ${reason}`];
  return [`${deviceName(journal, own)}: the journal${after} ended at ${to}: ${reason}`];
}
